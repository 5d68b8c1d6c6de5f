"""The operators of a whole job, driven without Bytewax: any batches, any interleaving, stops and reloads."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable

import polars as pl

from config import Config
from events.canonical import Decoded
from events.raw import EpochEnd, LaneEnd
from events.schema import TABLES
from flows.graph import MERGES
from operators.journey import GroupBatch
from operators.stream import AcceptLogic, Delivery, GroupLogic, Output
from tests.support.tables import Frames, fill_columns


class Job:
    """AcceptLogic per partition and GroupLogic per key group, with queues between them as a cluster would have.

    `rows`: what was written for good; `tail`: what the last end of input added, taken back by the next run.
    """

    def __init__(self, config: Config, partitions: Iterable[str], chance: random.Random) -> None:
        self.config, self.chance = config, chance
        self.rows: list[Output] = []
        self.tail: list[Output] = []
        self.is_stopping = False
        self.start(partitions, {}, {})

    def start(self, partitions: Iterable[str], lanes: dict[str, bytes], groups: dict[int, bytes]) -> None:
        """Build the logics anew from saved states, as a resumed run does."""
        names = frozenset(partitions)
        self.partitions = names
        self.accepts = {name: AcceptLogic(self.config, lanes.get(name)) for name in names}
        self.groups = {
            number: GroupLogic(self.config, names, lambda: self.is_stopping, groups.get(number))
            for number in range(self.config.job.key_groups)
        }
        # A key group hears each partition in order, but different partitions in any order.
        self.queues: dict[int, dict[str, deque[GroupBatch]]] = {number: {} for number in self.groups}

    def feed(self, *values: Decoded | LaneEnd | EpochEnd) -> None:
        """Give one partition its next values in one batch."""
        first = values[0]
        name = first.block.partition if isinstance(first, Decoded) else first.partition
        deliveries, _ = self.accepts[name].on_batch(list(values))
        for delivery in deliveries:
            self._send(name, delivery)

    def _send(self, name: str, delivery: Delivery) -> None:
        if delivery.output is not None:
            self.rows.append(delivery.output)
        for number, batch in delivery.batches:
            self.queues[number].setdefault(name, deque()).append(batch)

    def deliver(self, share: float = 1.0) -> None:
        """Hand waiting batches to their key groups, in lists of random length; `share` of the groups, at random."""
        for number, queues in self.queues.items():
            if share < 1 and self.chance.random() >= share:
                continue
            while waiting := [name for name, queue in queues.items() if queue]:
                count = self.chance.choice([1, 1, 2, 3, 8])
                values: list[GroupBatch] = []
                while waiting and len(values) < count:
                    values.append(queues[self.chance.choice(waiting)].popleft())
                    waiting = [name for name, queue in queues.items() if queue]
                self.rows += self.groups[number].on_batch(values)[0]

    def save(self) -> tuple[dict[str, bytes], dict[int, bytes]]:
        """Snapshot every logic at the end of an epoch, when nothing is under way."""
        self.deliver()
        lanes = {name: logic.snapshot() for name, logic in self.accepts.items()}
        return lanes, {number: logic.snapshot() for number, logic in self.groups.items()}

    def reload(self, partitions: Iterable[str] | None = None) -> None:
        """Go on from saved states, perhaps with more partitions."""
        lanes, groups = self.save()
        self.start(self.partitions if partitions is None else partitions, lanes, groups)

    def end(self, *, stopping: bool = False) -> None:
        """Come to the end of the input, or be stopped before it; afterwards `reload` begins the next run."""
        self.deliver()
        self.tail, self.is_stopping = [], stopping
        for logic in self.groups.values():
            for output in logic.on_eof()[0]:
                (self.tail if output.tail else self.rows).append(output)
        self.is_stopping = False

    def tables(self) -> Frames:
        """Return the tables with the present tail, additive ones merged as the sink merges a commit."""
        parts: dict[str, list[pl.DataFrame]] = {}
        for output in (*self.rows, *self.tail):
            for table, frames in output.tables.items():
                parts.setdefault(table, []).extend(frames)
        merged = {table: [merge(parts[table])] for table, merge in MERGES.items() if table in parts}
        parts |= merged
        if "events" in parts:
            parts["events"] = [
                frame.with_columns(pl.col("event_time").dt.date().alias("dt")) for frame in parts["events"]
            ]
        return {table: fill_columns(parts.get(table, []), schema) for table, schema in TABLES.items()}
