"""What a file's first and last events are, found without reading all of it where that can be helped."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator

import polars as pl
import pyarrow.parquet as pq

from events.canonical import Decoded
from events.raw import FILE_SHIFT, RawBlock
from sources.discover import STDIN, FoundFile
from sources.readers import HEAD, Cut, explain_failure, open_text, read_file, read_stdin_head

PROBE = 256 << 10
PROBE_ROWS = 50_000

Decode = Callable[[RawBlock], Decoded]
Range = tuple[int, int]


def make_block(cut: Cut, file: FoundFile, lane: str, number: int) -> RawBlock:
    """Give a cut its place: lane, file name and position; archived records have theirs."""
    if cut.position is not None:
        return RawBlock(
            "ndjson",
            file.name,
            lane,
            cut.position,
            cut.payload,
            limit=cut.limit,
            lines=cut.next_record - cut.first_record,
            received=cut.received,
        )
    position = (number << FILE_SHIFT) + cut.first_record
    # Lines are lines: which of them are JSON and which tab-separated is told one by one.
    kind = "ndjson" if file.kind == "tsv" else file.kind
    lines = cut.next_record - cut.first_record if kind == "ndjson" else 0
    return RawBlock(kind, file.name, lane, position, cut.payload, cut.header, cut.oversized, cut.limit, lines)


def digest_head(file: FoundFile, size: int = HEAD) -> str:
    """Hash a file's first bytes, 4 KiB at most, to notice when another file stands under its name."""
    if file.path == STDIN:
        head = read_stdin_head()
    else:
        with explain_failure(file), open(file.path, "rb") as stream:
            head = stream.read(min(HEAD, size))
    return hashlib.sha256(head).hexdigest()[:16]


def probe_times(file: FoundFile, decode: Decode) -> tuple[int | None, int | None]:
    """Find a file's smallest and largest event time, in microseconds, at its beginning and its end.

    Records that are no events are passed over, however many there are; None if there is no event at all.
    """
    if file.path == STDIN:
        return None, None
    first = _find_range(read_file(file, 0, 0, PROBE), file, decode)
    if first is None:
        return None, None
    last = _find_range(_read_backwards(file), file, decode) or first
    return min(first[0], last[0]), max(first[1], last[1])


def _find_range(cuts: Iterable[Cut], file: FoundFile, decode: Decode) -> Range | None:
    """Return the range of times in the first cut that holds an event."""
    for cut in cuts:
        times = decode(make_block(cut, file, "", 0)).events["event_time"].to_physical()
        if times.len():
            return int(times.min()), int(times.max())  # type: ignore[arg-type]
    return None


def _read_backwards(file: FoundFile) -> Iterator[Cut]:
    """Yield larger and larger pieces of a file's end."""
    if file.kind == "parquet":
        yield from _read_groups_backwards(file)
        return
    header: tuple[str, ...] = ()
    if file.kind == "csv":
        header = next(read_file(file, 0, 0, PROBE)).header
    size = PROBE
    while True:
        with explain_failure(file):
            tail, whole = _read_tail(file, size)
        yield Cut(tail if whole else tail[tail.find(b"\n") + 1 :], 0, 0, 0, header)
        if whole:
            return
        size *= 4


def _read_tail(file: FoundFile, size: int) -> tuple[bytes, bool]:
    """Return the last bytes of a file's plain text, and whether they are all of it."""
    if not file.packing:
        start = max(0, os.path.getsize(file.path) - size)
        with open_text(file, start) as stream:
            return stream.read(), start == 0
    tail, whole = b"", True
    with open_text(file, 0) as stream:
        while piece := stream.read(max(size, 1 << 20)):
            tail += piece
            whole = whole and len(tail) <= size
            tail = tail[-size:]
    return tail, whole


def _read_groups_backwards(file: FoundFile) -> Iterator[Cut]:
    with explain_failure(file), pq.ParquetFile(file.path) as parquet:
        for group in reversed(range(parquet.metadata.num_row_groups)):
            table = parquet.read_row_group(group)
            for end in range(table.num_rows, 0, -PROBE_ROWS):
                begin = max(0, end - PROBE_ROWS)
                frame = pl.from_arrow(table.slice(begin, end - begin))
                yield Cut(frame if isinstance(frame, pl.DataFrame) else frame.to_frame(), 0, 0, 0)
