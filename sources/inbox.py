"""An append log of records that can't be asked for again: on disk before their sender is told that they arrived.

A folder of segments. A segment is a row of frames, each written and synced at once: a header with length, checksum, first
offset and count, and the records as an Arrow IPC stream. A frame that was cut short by a crash was never acknowledged.
One receiver appends and one feed reads; both may be threads.
"""

from __future__ import annotations

import io
import os
import struct
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pyarrow as pa

from disk import sync
from errors import FormatError, InboxFullError

MAGIC = b"JIN1"
HEADER = struct.Struct("<4sIIqIq")  # magic, bytes, checksum, first offset, records, when the last one came
SCHEMA = pa.schema([("received", pa.int64()), ("delivery", pa.string()), ("line", pa.binary())])
SEGMENT = 64 << 20
REMEMBERED_US = 3_600_000_000  # how long consumed records stay, to know what is delivered a second time
SUFFIX = ".inbox"


@dataclass(frozen=True)
class Received:
    """A record on one line, when it came (microseconds), and what its sender calls this delivery, if anything."""

    line: bytes
    received: int
    delivery: str = ""


@dataclass(frozen=True)
class Frame:
    """Records that were appended together; `end`: the place in the segment behind them."""

    first: int
    records: list[Received]
    end: int

    @property
    def next(self) -> int:
        return self.first + len(self.records)


@dataclass
class Segment:
    """A file of the log: its first record, the one behind its last, its bytes, and when its last record came."""

    path: Path
    first: int
    next: int
    size: int
    latest: int


class Inbox:
    """The log of one partition; `limit`: bytes that may wait in it, unconsumed.

    `pass_point` is called at points between receiving and acknowledging, by name: there a test can kill the process.
    """

    pass_point: Callable[[str], None] = staticmethod(lambda _: None)

    def __init__(self, folder: Path, limit: int, segment: int = SEGMENT) -> None:
        self.folder, self.limit, self.segment_bytes = folder, limit, segment
        folder.mkdir(parents=True, exist_ok=True)
        self.changed = threading.Condition()
        self.segments = [measure(path) for path in sorted(folder.glob(f"*{SUFFIX}"))]
        _check_order(self.segments)
        self.next_offset = self.segments[-1].next if self.segments else 0
        self.consumed = 0

    def append(self, records: Sequence[Received]) -> int:
        """Write records durably; return the offset of the first. Raises InboxFullError, OSError: then none is there."""
        with self.changed:
            if self.backlog() >= self.limit:
                raise InboxFullError(
                    f"{self.folder}: {self.limit:,} bytes wait to be read", remedy="see why the job does not read them"
                )
            first, frame = self.next_offset, pack_frame(self.next_offset, records)
            segment = self._open_segment(records[-1].received)
            self.pass_point("inbox_received")
            _write_synced(segment.path, segment.size, frame)
            self.pass_point("inbox_written")
            segment.size += len(frame)
            segment.latest = records[-1].received
            self.next_offset = segment.next = first + len(records)
            self.changed.notify_all()
            return first

    def _open_segment(self, now: int) -> Segment:
        last = self.segments[-1] if self.segments else None
        if last is None or last.size >= self.segment_bytes or (last.size and now - last.latest > REMEMBERED_US):
            path = self.folder / f"{self.next_offset:020d}{SUFFIX}"
            last = Segment(path, self.next_offset, self.next_offset, 0, now)
            self.segments.append(last)
        return last

    def read(self, offset: int, place: tuple[str, int] | None = None) -> Iterator[tuple[Frame, tuple[str, int]]]:
        """Yield what is there from an offset on, by frames; `place` is where the last frame that was read ended.

        An offset is the first one of a frame. Raises FormatError where the log is damaged or does not reach back so far.
        """
        with self.changed:
            segments = [(one.path, one.first, one.size) for one in self.segments if one.next > offset]
        if segments and offset < segments[0][1]:
            raise FormatError(
                f"{self.folder}: begins at record {segments[0][1]:,}, and the job goes on at {offset:,}",
                remedy="put the folder back as it was with this warehouse, or run into a new --warehouse",
            )
        for path, _, size in segments:
            start = place[1] if place is not None and place[0] == path.name else 0
            for frame in read_frames(path, start, size):
                if frame.first >= offset:
                    yield frame, (path.name, frame.end)

    def wait(self, offset: int, seconds: float) -> bool:
        """Wait until there are records from the offset on; tell whether there are."""
        with self.changed:
            return self.changed.wait_for(lambda: self.next_offset > offset, seconds)

    def backlog(self) -> int:
        """Return about how many bytes wait to be consumed: of a segment that was begun, its share by records."""
        waiting = 0.0
        for one in self.segments:
            if one.next > max(one.first, self.consumed):
                share = (one.next - max(one.first, self.consumed)) / (one.next - one.first)
                waiting += one.size * share
        return int(waiting)

    def note_consumed(self, offset: int) -> None:
        """Drop segments whose records lie before the offset and are too old to be delivered again."""
        with self.changed:
            self.consumed = offset
            newest = self.segments[-1].latest if self.segments else 0
            while len(self.segments) > 1 and self._is_done(self.segments[0], newest):
                self.segments.pop(0).path.unlink(missing_ok=True)

    def _is_done(self, segment: Segment, newest: int) -> bool:
        return segment.next <= self.consumed and newest - segment.latest > REMEMBERED_US

    def list_deliveries(self, offset: int = 0) -> list[str]:
        """List the deliveries of the records that are still there, from an offset on, oldest first."""
        with self.changed:  # so that nothing is dropped meanwhile
            return [
                record.delivery
                for segment in self.segments
                if segment.next > offset
                for frame in read_frames(segment.path, 0, segment.size)
                for number, record in enumerate(frame.records, frame.first)
                if record.delivery and number >= offset
            ]


def pack_frame(first: int, records: Sequence[Received]) -> bytes:
    """Write records as one frame; n -> n."""
    columns = [
        pa.array([record.received for record in records], pa.int64()),
        pa.array([record.delivery for record in records], pa.string()),
        pa.array([record.line for record in records], pa.binary()),
    ]
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, SCHEMA) as writer:
        writer.write_batch(pa.record_batch(columns, schema=SCHEMA))
    body = sink.getvalue()
    return HEADER.pack(MAGIC, len(body), zlib.crc32(body), first, len(records), records[-1].received) + body


def _write_synced(path: Path, at: int, frame: bytes) -> None:
    """Write a frame behind the last good one; what fails halfway is written over by the next."""
    is_new = not path.exists()
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.ftruncate(handle, at)
        done = 0
        while done < len(frame):
            done += os.pwrite(handle, frame[done:], at + done)
        os.fsync(handle)
    finally:
        os.close(handle)
    if is_new:
        sync(path.parent)


def read_frames(path: Path, start: int, size: int) -> Iterator[Frame]:
    """Yield a segment's frames between two places; raises FormatError where it is damaged."""
    with open(path, "rb") as file:
        file.seek(start)
        while file.tell() < size:
            at = file.tell()
            head = file.read(HEADER.size)
            magic, length, checksum, first, count, _ = HEADER.unpack(head)
            body = file.read(length)
            if magic != MAGIC or zlib.crc32(body) != checksum:
                raise _tell_damage(path, at)
            batch = pa.ipc.open_stream(body).read_all()
            columns = (batch["line"].to_pylist(), batch["received"].to_pylist(), batch["delivery"].to_pylist())
            records = [Received(*values) for values in zip(*columns, strict=True)]
            if len(records) != count:
                raise _tell_damage(path, at)
            yield Frame(first, records, file.tell())


def measure(path: Path) -> Segment:
    """Find where a segment's last whole frame ends; what lies behind it was never acknowledged."""
    first = int(path.name.removesuffix(SUFFIX))
    found = Segment(path, first, first, 0, 0)
    size = path.stat().st_size
    with open(path, "rb") as file:
        while found.size + HEADER.size <= size:
            magic, length, checksum, offset, count, latest = HEADER.unpack(file.read(HEADER.size))
            end = found.size + HEADER.size + length
            if magic != MAGIC or offset != found.next or end > size or zlib.crc32(file.read(length)) != checksum:
                break
            found.size, found.next, found.latest = end, offset + count, latest
        file.seek(found.size)
        if _holds_frame(file.read()):
            raise _tell_damage(path, found.size)
    return found


def _tell_damage(path: Path, at: int) -> FormatError:
    return FormatError(f"{path}: is damaged at byte {at:,}", remedy="restore the file from a copy")


def _holds_frame(rest: bytes) -> bool:
    """Tell whether a whole frame stands behind what could not be read: then that is damage, and not a torn end."""
    at = rest.find(MAGIC, 1)
    while at >= 0:
        body = rest[at + HEADER.size :]
        if len(rest) - at >= HEADER.size:
            _, length, checksum, *_ = HEADER.unpack_from(rest, at)
            if length <= len(body) and zlib.crc32(body[:length]) == checksum:
                return True
        at = rest.find(MAGIC, at + 1)
    return False


def _check_order(segments: list[Segment]) -> None:
    for earlier, later in pairwise(segments):
        if earlier.next != later.first:
            raise FormatError(
                f"{earlier.path}: ends at record {earlier.next:,}, and the next file begins at {later.first:,}",
                remedy="restore the folder from a copy",
            )
