"""The one place where operators meet Bytewax: thin wrappers that keep state per partition and per key group."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise

import polars as pl
from bytewax.operators import StatefulBatchLogic

from config import Config
from events.canonical import Decoded
from events.hashing import key_groups
from events.raw import EpochEnd, LaneEnd, LaneHead
from events.rejects import check_limit
from operators.accept import Accepted, accept_events
from operators.columns import BEGINNING, to_index
from operators.journey import (
    GroupBatch,
    GroupState,
    Tables,
    close_everything,
    find_watermark,
    release_batch,
    settle_rows,
    take_batch,
)
from operators.state import load_state, save_state

PARTITION_STATE = struct.Struct("<4sqqq")


@dataclass(frozen=True)
class Output:
    """Rows for the tables; `tail` marks what only the end of a replay adds."""

    tables: Tables
    tail: bool = False


@dataclass(frozen=True)
class Delivery:
    """What `accept` passes on of one block: batches by key group, and rows that need no order."""

    batches: list[tuple[int, GroupBatch]]
    output: Output | None


class AcceptLogic(StatefulBatchLogic[Decoded | LaneHead | LaneEnd | EpochEnd, Delivery, bytes]):
    """Watermark, lateness and receipt of one source partition."""

    def __init__(self, config: Config, state: bytes | None) -> None:
        self.config = config
        self.latest, self.received, self.dead = BEGINNING, 0, 0
        if state is not None:
            _, self.latest, self.received, self.dead = PARTITION_STATE.unpack(state)
        self.ended = False  # or idle; until a partition says so again in this run, it is waited for

    def on_batch(self, values: list[Decoded | LaneHead | LaneEnd | EpochEnd]) -> tuple[Iterable[Delivery], bool]:
        return [self._take(value) if isinstance(value, Decoded) else self._mark(value) for value in values], False

    def _mark(self, mark: LaneHead | LaneEnd | EpochEnd) -> Delivery:
        if not isinstance(mark, EpochEnd):
            self.ended = isinstance(mark, LaneEnd)
        # An event that waits at a lane's head is the next one there: what follows it is late if it is much older.
        latest = max(self.latest, mark.time) if isinstance(mark, LaneHead) else self.latest
        groups, flush = self.config.job.key_groups, not isinstance(mark, LaneHead)
        batches = [
            (group, GroupBatch(mark.partition, latest, not self.ended, None, flush, (group + 1) / groups))
            for group in range(groups)
        ]
        return Delivery(batches, None)

    def _take(self, decoded: Decoded) -> Delivery:
        accepted = accept_events(decoded, self.latest, self.config.sessions.allowed_lateness)
        self.latest, self.ended = accepted.latest, False
        self.received += accepted.received
        self.dead += accepted.dead.height
        check_limit(self.config.dead_letters, self.received, self.dead, accepted.dead)
        return Delivery(split_groups(accepted, self.config.job.key_groups), _record(accepted))

    def snapshot(self) -> bytes:
        return PARTITION_STATE.pack(b"JSP2", self.latest, self.received, self.dead)


def split_groups(accepted: Accepted, groups: int) -> list[tuple[int, GroupBatch]]:
    """Give every key group its events of the block, in order, and the partition's progress; n -> n events."""
    events = accepted.events
    if events.height == 0:
        frames: list[pl.DataFrame | None] = [None] * groups
    elif groups == 1:
        frames = [events]
    else:
        group = key_groups(events["person_hash"].to_numpy(), groups)
        order = group.argsort(kind="stable")
        sorted_events = events[to_index(order)]
        edges = group[order].searchsorted(range(groups + 1))
        frames = [sorted_events.slice(int(a), int(b - a)) for a, b in pairwise(edges)]
    return [
        (number, GroupBatch(accepted.partition, accepted.latest, True, frame, turn=(number + 1) / groups))
        for number, frame in enumerate(frames)
    ]


def _record(accepted: Accepted) -> Output:
    counts = {"received": accepted.received, "late": accepted.late.height, "dead": accepted.dead.height}
    tables: Tables = {"ledger": [settle_rows([(accepted.source, accepted.partition, counts)])]}
    if accepted.late.height:
        tables["late_events"] = [accepted.late]
    if accepted.dead.height:
        tables["dead_letters"] = [accepted.dead]
    return Output(tables)


class GroupLogic(StatefulBatchLogic[GroupBatch, Output, bytes]):
    """Reorder buffer, sessions, transitions, paths and funnels of one key group."""

    def __init__(
        self, config: Config, partitions: frozenset[str], is_stopping: Callable[[], bool], state: bytes | None
    ) -> None:
        self.config, self.partitions, self.is_stopping = config, partitions, is_stopping
        self.state = GroupState() if state is None else load_state(state)
        # Every lane speaks again in this run, if only to say that it has ended; until then none is passed by.
        self.state.progress = {name: (latest, True) for name, (latest, _) in self.state.progress.items()}
        self.waiting = self.state.waiting()
        self.enough: float = 0  # events at which the next release is due; 0: not known yet

    @property
    def open_sessions(self) -> int:
        """Count the sessions that may still go on."""
        return self.state.open.height

    def on_batch(self, values: list[GroupBatch]) -> tuple[Iterable[Output], bool]:
        out, flush, rows = [], False, self.config.job.release_rows
        for batch in values:
            # Groups fill at one pace: they take turns, so that not all of them are full at once.
            self.enough = self.enough or batch.turn * rows
            tables = take_batch(self.state, batch)
            self.waiting += batch.events.height if batch.events is not None else 0
            if tables:
                out.append(Output(tables))
            flush = flush or batch.flush
        if self.waiting >= self.enough or (flush and (self.waiting or self.state.open.height)):
            self.enough = 0 if flush else rows
            watermark = find_watermark(self.state, self.partitions, self.config.sessions.allowed_lateness)
            if watermark > self.state.released:
                out.append(Output(release_batch(self.state, watermark, self.config)))
                self.waiting = self.state.waiting()
        return out, False

    def on_eof(self) -> tuple[Iterable[Output], bool]:
        if self.is_stopping():
            return [], False
        # The state is brought to the last watermark, then the end is computed beside it: a later run goes on.
        watermark = find_watermark(self.state, self.partitions, self.config.sessions.allowed_lateness)
        out = [Output(release_batch(self.state, watermark, self.config))]
        out.append(Output(close_everything(self.state, self.config), tail=True))
        return out, False

    def snapshot(self) -> bytes:
        return save_state(self.state)
