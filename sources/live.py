"""A Bytewax source over partitions that never end: of brokers, and of inboxes.

Each partition is read and decoded ahead in a thread of its own. Its offset lies in the recovery store, beside the state
that it led to: nothing is handed on twice. What is on the other side learns of an offset once the epoch is durable.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from clock import Clock, read_stopwatch
from config import Config, SourceRules
from events.canonical import Decoded
from events.raw import EpochEnd, LaneEnd, LaneHead, RawBlock
from sources.archive import Archive, Origin
from sources.pacing import NEVER, Alignment, LaneItem, Progress
from sources.probing import Decode

POLL_S = 0.02
BUSY_POLL_S = 0.004  # where more is on its way: a turn that is missed costs as much
AHEAD = 2  # fetches of a partition that are under way or wait for their turn
TRICKLE = 2_000  # records: who brings fewer at once has read all there was, and the others need not wait for its next
RELEASE_AT = 0.8  # of an epoch
BLANK = b"null"  # what stands for a record without content: it is counted, as a dead letter


class Feed(Protocol):
    """A partition that was opened at an offset: records in order, again and again the same from one offset on."""

    def fetch(self) -> list[RawBlock]:
        """Wait a moment for more; return blocks of records whose offsets follow one another. Raises JourneyError."""

    def tell_next(self) -> int:
        """Return the offset behind what was fetched."""

    def tell_lag(self) -> int | None:
        """Return how many records wait behind what was fetched, None where that is not known."""

    def note_durable(self, offset: int) -> None:
        """Take note that what lies before the offset will not be asked for again."""

    def close(self) -> None:
        """Let go of connections and files."""


class LivePart(Protocol):
    """A partition that can be opened; `name` and `source` are those of the tables, `name` that of the recovery store."""

    @property
    def name(self) -> str: ...

    @property
    def source(self) -> str: ...

    @property
    def rules(self) -> SourceRules: ...

    @property
    def limit(self) -> int:
        """The largest size of a record."""

    def open(self, offset: int | None) -> Feed:
        """Open at an offset, or, with none, where the source's rules say that reading begins; raises JourneyError."""


@dataclass(frozen=True)
class _Fetched:
    """Decoded blocks, and the offset after the last of them."""

    decoded: list[Decoded]
    next_offset: int

    def find_head(self) -> int:
        """Return the time of the first event, NEVER where there is none."""
        events = (one.events["event_time"] for one in self.decoded if one.events.height)
        return next((int(times.to_physical()[0]) for times in events), NEVER)


class LivePartition(StatefulSourcePartition[LaneItem, bytes]):
    """One partition: fetches ahead, remembers the next offset, says when it is idle."""

    def __init__(self, source: LiveSource, part: LivePart, offset: int | None) -> None:
        self.source, self.part = source, part
        self.archive = source.open_archive(part, offset)
        self.feed = part.open(offset)
        self.offset = self.feed.tell_next()
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="fetch")
        self.fetching = deque(self.pool.submit(self._fetch) for _ in range(AHEAD))
        self.saved: int | None = None
        self.saved_at = 0.0
        self.epoch_began = self.heard = read_stopwatch()
        self.idle = self.quiet = self.released = self.at_end = False
        self.announced = NEVER
        source.alignment.heads[part.name] = NEVER

    def _fetch(self) -> _Fetched:
        decode = self.source.decode[self.part.rules.name]
        decoded = [decode(block) for block in self.feed.fetch()]
        self.source.progress.of(self.part.name).lag = self.feed.tell_lag()
        return _Fetched(decoded, self.feed.tell_next())

    def next_batch(self) -> list[LaneItem]:
        now = read_stopwatch()
        if self.saved is not None:
            self._note_durable(now)
        if self.source.is_stopping():
            self.source.alignment.heads.pop(self.part.name, None)
            raise StopIteration
        self.quiet = not self.fetching[0].done()
        if self.quiet:
            return self._end_epoch(now, [])
        fetched = self.fetching[0].result()
        if not fetched.decoded:
            self.at_end = True
            # Read to the end: what comes later is not waited for, but by the watermark.
            self.source.alignment.heads.pop(self.part.name, None)
            self._go_on(fetched)
            return self._end_epoch(now, self._fall_idle(now))
        head = fetched.find_head()
        self.source.alignment.heads[self.part.name] = head
        if not self.source.alignment.may_pass(self.part.name):
            self.quiet = True
            if head in (self.announced, NEVER):
                return self._end_epoch(now, [])
            self.announced = head
            return self._end_epoch(now, [LaneHead(self.part.name, head)])
        self.heard, self.idle = now, False
        self._go_on(fetched)
        self.at_end = sum(decoded.received for decoded in fetched.decoded) < TRICKLE
        if self.at_end:
            self.source.alignment.heads.pop(self.part.name)
        for decoded in fetched.decoded:
            self.source.progress.add(decoded, len(decoded.block.payload))
            if self.archive is not None:
                self.archive.add(decoded.block)
        return self._end_epoch(now, list(fetched.decoded))

    def _go_on(self, fetched: _Fetched) -> None:
        self.offset = fetched.next_offset
        self.fetching.popleft()
        self.fetching.append(self.pool.submit(self._fetch))

    def _fall_idle(self, now: float) -> list[LaneItem]:
        if self.idle or now - self.heard < self.source.config.job.idle_after / 1e6:
            return []
        self.idle = True
        return [LaneEnd(self.part.name)]

    def _end_epoch(self, now: float, items: list[LaneItem]) -> list[LaneItem]:
        # Once in each epoch, shortly before Bytewax closes it, what the watermark has passed is released.
        if self.released or now - self.epoch_began < RELEASE_AT * self.source.config.job.snapshot / 1e6:
            return items
        self.released = True
        return [*items, EpochEnd(self.part.name)]

    def _note_durable(self, now: float) -> None:
        offset, self.saved = self.saved or 0, None
        self.epoch_began, self.released = now, False
        self.source.progress.note_stall(now - self.saved_at)
        self.source.on_durable()
        self.feed.note_durable(offset)

    def next_awake(self) -> datetime | None:
        wait = POLL_S if self.at_end else BUSY_POLL_S
        return self.source.clock() + timedelta(seconds=wait) if self.quiet else None

    def snapshot(self) -> bytes:
        if self.archive is not None:
            self.archive.finish()
        self.saved, self.saved_at = self.offset, read_stopwatch()
        return json.dumps({"v": 1, "offset": self.offset}).encode()

    def close(self) -> None:
        self.pool.shutdown(wait=True, cancel_futures=True)
        self.feed.close()
        if self.archive is not None:
            self.archive.close()


class LiveSource(FixedPartitionedSource[LaneItem, bytes]):
    """All partitions of all sources of a live job.

    `decode`: by source, a block to its events; `archive`: the folder of what came, None if it is not kept. `is_stopping`
    ends every partition; `on_durable` is called when an epoch has become durable and before more is read.
    """

    archive: Path | None = None

    def __init__(self, parts: Iterable[LivePart], decode: dict[str, Decode], config: Config, clock: Clock) -> None:
        self.parts = {part.name: part for part in parts}
        self.decode, self.config, self.clock = decode, config, clock
        self.is_stopping: Callable[[], bool] = lambda: False
        self.on_durable: Callable[[], None] = lambda: None
        self.alignment = Alignment()
        self.progress = Progress()

    def close(self) -> None:
        """Nothing outlives the partitions."""

    def open_archive(self, part: LivePart, offset: int | None) -> Archive | None:
        """Open a partition's archive where it goes on, if one is kept."""
        if self.archive is None:
            return None
        return Archive(self.archive / to_file_name(part.name), Origin(part.source, part.name), offset)

    def list_parts(self) -> list[str]:
        return sorted(self.parts)

    def build_part(self, _step_id: str, for_part: str, resume_state: bytes | None) -> LivePartition:
        offset = None if resume_state is None else int(json.loads(resume_state)["offset"])
        return LivePartition(self, self.parts[for_part], offset)


def make_block(part: LivePart, first: int, payload: bytes, received: npt.NDArray[np.int64]) -> RawBlock:
    """Make a block of a partition's records, one a line, from an offset on; `received`: when each came (microseconds)."""
    return RawBlock(
        "ndjson",
        part.source,
        part.name,
        first,
        payload,
        limit=part.limit,
        lines=received.size,
        received=received,
    )


def to_file_name(name: str) -> str:
    """Make a folder's name of a name that may hold what a folder's may not."""
    return "".join(letter if letter.isalnum() or letter in "-_." else f"%{ord(letter):02x}" for letter in name)


def flatten(record: bytes | None) -> bytes:
    """Put a record on one line: in JSON a line break is white space; inside of a text it is an error either way."""
    if not record or record.isspace():
        return BLANK
    return record if b"\n" not in record else record.replace(b"\n", b" ")
