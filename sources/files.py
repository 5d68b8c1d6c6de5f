"""A Bytewax source over lanes of files: blocks are read and decoded ahead, and lanes are kept level in event time."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from clock import read_stopwatch
from config import Config
from events.canonical import Decoded
from events.raw import EpochEnd, LaneEnd, LaneHead, RawBlock
from sources.lanes import Decode, Lane, make_block
from sources.pacing import NEVER, Alignment, LaneItem, Progress
from sources.readers import read_file

BLOCKS_AHEAD = 2  # over all lanes of a process, beside one a lane
SMALLEST_BLOCK = 256 << 10
WAIT_S = 0.5


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


@dataclass(frozen=True)
class _Piece:
    """A block, the position after it, and the bytes it took from the file."""

    block: RawBlock
    after: Position
    size: int


@dataclass(frozen=True)
class _Taken:
    """A piece and what was decoded of it."""

    piece: _Piece
    decoded: Decoded


class LanePartition(StatefulSourcePartition[LaneItem, bytes]):
    """One lane: reads ahead, decodes beside the dataflow's thread, remembers the position of the next block."""

    def __init__(self, source: FileSource, lane: Lane, position: Position) -> None:
        self.source, self.lane, self.position = source, lane, position
        self.ahead: deque[Future[_Taken | None]] = deque()
        self.cuts = self._cut(position)
        self.ended = False
        self.saved, self.saved_at = False, 0.0
        self.epoch_began = read_stopwatch()
        self.announced = NEVER
        source.alignment.heads[lane.name] = NEVER

    def _cut(self, position: Position) -> Iterator[_Piece]:
        for number in range(position.file, len(self.lane.files)):
            file = self.lane.files[number].file
            at = position if number == position.file else Position(number)
            offset = at.offset
            for cut in read_file(file, at.offset, at.record, self.source.block, self.source.limit):
                block = make_block(cut, file, self.lane.name, number)
                yield _Piece(
                    block, Position(number, cut.next_offset, cut.next_record), max(0, cut.next_offset - offset)
                )
                offset = cut.next_offset

    def _fill(self) -> None:
        """Read and decode ahead: one thread reads, in order, and others decode what it has read."""
        while len(self.ahead) < self.source.depth:
            piece = self.source.reader.submit(next, self.cuts, None)
            self.ahead.append(self.source.pool.submit(self._take, piece))

    def _take(self, reading: Future[_Piece | None]) -> _Taken | None:
        piece = reading.result()
        return None if piece is None else _Taken(piece, self.source.decode(piece.block))

    def next_batch(self) -> list[LaneItem]:
        if self.saved:
            # Bytewax lets a source go on only when the epoch that it was saved in is durable, on every worker.
            now = read_stopwatch()
            self.source.progress.note_stall(now - self.saved_at)
            self.saved, self.epoch_began = False, now
            self.source.on_durable()
        if self.ended or self.source.is_stopping():
            self.source.alignment.heads.pop(self.lane.name, None)
            raise StopIteration
        self._fill()
        try:
            taken = self.ahead[0].result(WAIT_S)
        except FutureTimeoutError:  # a pipe that is silent must not hold up the other lanes, nor a stop
            return []
        if taken is None:
            self.ended = True
            self.source.alignment.heads.pop(self.lane.name, None)
            return [LaneEnd(self.lane.name)]
        decoded = taken.decoded
        times = decoded.events["event_time"]
        if times.len():
            self.source.alignment.heads[self.lane.name] = int(times.to_physical()[0])
        if not self.source.alignment.may_pass(self.lane.name):
            return self._announce(decoded)
        self.ahead.popleft()
        self.position = taken.piece.after
        self._fill()
        self.source.progress.add(decoded, taken.piece.size)
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
        self.reader = ThreadPoolExecutor(1, thread_name_prefix="read")
        self.pool = ThreadPoolExecutor(2, thread_name_prefix="decode")
        self.alignment = Alignment()
        self.progress = Progress()

    def close(self) -> None:
        """Drop what was read ahead."""
        for pool in (self.reader, self.pool):
            pool.shutdown(wait=False, cancel_futures=True)

    def list_parts(self) -> list[str]:
        return sorted(self.lanes)

    def build_part(self, step_id: str, for_part: str, resume_state: bytes | None) -> LanePartition:
        position = Position() if resume_state is None else Position.load(resume_state)
        return LanePartition(self, self.lanes[for_part], position)
