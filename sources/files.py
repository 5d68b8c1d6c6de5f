"""A Bytewax source over lanes of files: blocks are read and decoded ahead, and lanes are kept level in event time."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from clock import read_stopwatch
from config import Config
from events.canonical import Decoded
from events.raw import EpochEnd, LaneEnd, LaneHead
from sources.lanes import Decode, Lane, make_block
from sources.readers import read_file

LaneItem = Decoded | LaneHead | LaneEnd | EpochEnd
NEVER = -(1 << 62)

BLOCKS_AHEAD = 3  # over all lanes of a process, beside one a lane
SMALLEST_BLOCK = 256 << 10


@dataclass(frozen=True)
class Position:
    """Where a lane is read next: file number, offset (bytes of plain text or rows) and record number in that file."""

    file: int = 0
    offset: int = 0
    record: int = 0

    def save(self) -> bytes:
        """Write the position as JSON bytes with a version."""
        return json.dumps({"v": 1, "file": self.file, "offset": self.offset, "record": self.record}).encode()

    @staticmethod
    def load(data: bytes) -> Position:
        """Read what `save` wrote."""
        value = json.loads(data)
        return Position(value["file"], value["offset"], value["record"])


@dataclass
class Alignment:
    """The event time at which each unfinished lane of this process would go on; the earliest lane goes first."""

    heads: dict[str, int] = field(default_factory=dict)

    def may_pass(self, lane: str) -> bool:
        """Tell whether no other lane is behind this one."""
        mine = self.heads[lane]
        return all(mine <= head for head in list(self.heads.values()))


@dataclass
class Progress:
    """What a running replay has read so far, for display."""

    bytes: int = 0
    records: int = 0
    dead: int = 0
    latest: int = 0
    longest_stall_s: float = 0.0  # from a lane's snapshot to its next read: what an epoch's commit costs


@dataclass
class _Ahead:
    """A block being decoded: its result, the position after it, and the bytes it took from the file."""

    result: Future[Decoded]
    after: Position
    size: int


class LanePartition(StatefulSourcePartition[LaneItem, bytes]):
    """One lane: reads ahead, decodes beside the dataflow's thread, remembers the position of the next block."""

    def __init__(self, source: FileSource, lane: Lane, position: Position) -> None:
        self.source, self.lane, self.position = source, lane, position
        self.ahead: deque[_Ahead] = deque()
        self.cuts = self._cut(position)
        self.more = True
        self.ended = False
        self.saved, self.saved_at = False, 0.0
        self.epoch_began = read_stopwatch()
        self.announced = NEVER
        source.alignment.heads[lane.name] = NEVER

    def _cut(self, position: Position) -> Iterator[_Ahead]:
        for number in range(position.file, len(self.lane.files)):
            file = self.lane.files[number].file
            at = position if number == position.file else Position(number)
            offset = at.offset
            for cut in read_file(file, at.offset, at.record, self.source.block, self.source.limit):
                block = make_block(cut, file, self.lane.name, number)
                result = self.source.pool.submit(self.source.decode, block)
                yield _Ahead(
                    result, Position(number, cut.next_offset, cut.next_record), max(0, cut.next_offset - offset)
                )
                offset = cut.next_offset

    def _fill(self) -> None:
        while self.more and len(self.ahead) < self.source.depth:
            following = next(self.cuts, None)
            if following is None:
                self.more = False
            else:
                self.ahead.append(following)

    def next_batch(self) -> list[LaneItem]:
        if self.saved:
            # Bytewax lets a source go on only when the epoch that it was saved in is durable, on every worker.
            now = read_stopwatch()
            self.source.progress.longest_stall_s = max(self.source.progress.longest_stall_s, now - self.saved_at)
            self.saved, self.epoch_began = False, now
            self.source.on_durable()
        if self.ended or self.source.is_stopping():
            self.source.alignment.heads.pop(self.lane.name, None)
            raise StopIteration
        self._fill()
        if not self.ahead:
            self.ended = True
            self.source.alignment.heads.pop(self.lane.name, None)
            return [LaneEnd(self.lane.name)]
        decoded = self.ahead[0].result.result()
        times = decoded.events["event_time"]
        if times.len():
            self.source.alignment.heads[self.lane.name] = int(times.to_physical()[0])
        if not self.source.alignment.may_pass(self.lane.name):
            return self._announce(decoded)
        taken = self.ahead.popleft()
        self.position = taken.after
        self._fill()
        self._show(decoded, taken.size)
        # Bytewax closes the epoch behind the batch that finds its time over: then the buffers are emptied as far
        # as the watermark allows, so that little of them is saved.
        last = read_stopwatch() - self.epoch_began >= self.source.interval
        return [decoded, EpochEnd(self.lane.name)] if last else [decoded]

    def _announce(self, waiting: Decoded) -> list[LaneItem]:
        """Say, once for each block, how far the lane is while it waits, so that it does not hold up the others."""
        head = self.source.alignment.heads[self.lane.name]
        if head == self.announced or waiting.events.height == 0:
            return []
        self.announced = head
        return [LaneHead(self.lane.name, head)]

    def _show(self, decoded: Decoded, size: int) -> None:
        progress = self.source.progress
        progress.bytes += size
        progress.records += decoded.received
        progress.dead += decoded.dead.height
        if decoded.events.height:
            progress.latest = max(progress.latest, int(decoded.events["event_time"].to_physical()[-1]))

    def snapshot(self) -> bytes:
        self.saved, self.saved_at = True, read_stopwatch()
        return self.position.save()


class FileSource(FixedPartitionedSource[LaneItem, bytes]):
    """All lanes of a replay.

    A lane's state is the position of its next block. `is_stopping` ends every lane at the next block, without a
    LaneEnd; `on_durable` is called, from a worker's thread, when an epoch has become durable and before the next is
    read.
    """

    def __init__(
        self,
        lanes: tuple[Lane, ...],
        decode: Decode,
        config: Config,
        is_stopping: Callable[[], bool],
        on_durable: Callable[[], None],
    ) -> None:
        self.lanes = {lane.name: lane for lane in lanes}
        self.decode, self.is_stopping, self.on_durable = decode, is_stopping, on_durable
        # Blocks in flight bound the memory, so many lanes get smaller ones.
        self.depth = max(1, BLOCKS_AHEAD // max(1, len(lanes)))
        block = config.job.block_bytes
        self.block = max(SMALLEST_BLOCK, min(block, block * BLOCKS_AHEAD // max(1, len(lanes))))
        self.limit = config.input.max_record_bytes
        self.interval = config.job.snapshot / 1e6
        self.pool = ThreadPoolExecutor(2, thread_name_prefix="decode")
        self.alignment = Alignment()
        self.progress = Progress()

    def list_parts(self) -> list[str]:
        return sorted(self.lanes)

    def build_part(self, step_id: str, for_part: str, resume_state: bytes | None) -> LanePartition:
        position = Position() if resume_state is None else Position.load(resume_state)
        return LanePartition(self, self.lanes[for_part], position)
