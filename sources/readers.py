"""Readers that cut a file into blocks of whole records and can start in the middle."""

from __future__ import annotations

import csv
import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, cast

import polars as pl
import pyarrow.parquet as pq
import zstandard

from errors import InputError
from events.raw import RAW_KEPT, split_csv
from sources.discover import STDIN, FoundFile


@dataclass(frozen=True)
class Cut:
    """A piece of a file: its content and the position after it (bytes of plain text, or Parquet rows; and records)."""

    payload: bytes | pl.DataFrame
    first_record: int
    next_offset: int
    next_record: int
    header: tuple[str, ...] = ()
    oversized: bool = False


def read_file(file: FoundFile, offset: int, record: int, block: int) -> Iterator[Cut]:
    """Yield the file's records from a position on, in cuts of about `block` bytes; raises InputError."""
    if file.size == 0 and file.path != STDIN:
        return
    try:
        if file.kind == "parquet":
            yield from _read_parquet(file, record, block)
        elif file.kind == "csv":
            yield from _read_csv(file, offset, record, block)
        else:
            with _open(file, offset) as stream:
                yield from cut_lines(stream, offset, record, block)
    except (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError) as problem:
        raise InputError(
            f"{file.path}: the compressed data is damaged or cut short ({problem})",
            remedy="repair or remove the file; what was committed before stays, run the same command again",
        ) from problem
    except OSError as problem:
        raise InputError(f"{file.path}: {problem}", remedy="check the file, then run the same command again") from problem


def _open(file: FoundFile, offset: int) -> BinaryIO:
    if file.path == STDIN:
        stream: BinaryIO = sys.stdin.buffer
        _skip(stream, offset)
        return stream
    if file.packing == "gzip":
        stream = cast(BinaryIO, gzip.open(file.path, "rb"))
        _skip(stream, offset)
        return stream
    if file.packing == "zstd":
        raw = open(file.path, "rb")
        stream = cast(BinaryIO, zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True, closefd=True))
        _skip(stream, offset)
        return stream
    plain = open(file.path, "rb")
    plain.seek(offset)
    return plain


def _skip(stream: BinaryIO, count: int) -> None:
    while count > 0:
        got = len(stream.read(min(count, 1 << 20)))
        if got == 0:
            return
        count -= got


def cut_lines(stream: BinaryIO, offset: int, record: int, block: int) -> Iterator[Cut]:
    """Cut a stream of lines at newlines; a line longer than `block` is passed over but for its beginning."""
    rest = b""
    while True:
        data, ended = _fill(stream, rest, block)
        if not data:
            return
        end = len(data) if ended else data.rfind(b"\n") + 1
        if end == 0:
            skipped, rest = _pass_over(stream)
            offset += len(data) + skipped
            yield Cut(data[:RAW_KEPT], record, offset, record + 1, oversized=True)
            record += 1
            continue
        payload, rest = data[:end], data[end:]
        lines = payload.count(b"\n") + (not payload.endswith(b"\n"))
        offset += len(payload)
        yield Cut(payload, record, offset, record + lines)
        record += lines


def _fill(stream: BinaryIO, rest: bytes, block: int) -> tuple[bytes, bool]:
    """Read until `block` bytes are there or the stream ends; a pipe may give less at a time."""
    pieces, size = [rest], len(rest)
    while size < block:
        piece = stream.read(block - size)
        if not piece:
            return b"".join(pieces), True
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces), False


def _pass_over(stream: BinaryIO) -> tuple[int, bytes]:
    """Read past the next newline; return how many bytes belong to the long line, and what follows it."""
    skipped = 0
    while data := stream.read(1 << 20):
        newline = data.find(b"\n")
        if newline >= 0:
            return skipped + newline + 1, data[newline + 1 :]
        skipped += len(data)
    return skipped, b""


def _read_csv(file: FoundFile, offset: int, record: int, block: int) -> Iterator[Cut]:
    with _open(file, 0) as stream:
        first = _read_header(stream)
        header = tuple(next(csv.reader(io.StringIO(first.decode("utf-8-sig", errors="replace"))), []))
        if not any(header):
            raise InputError(f"{file.path}: the first line names no columns", remedy="CSV files need a header line")
    start = max(offset, len(first))
    with _open(file, start) as stream:
        for cut in _cut_csv(stream, start, max(record, first.count(b"\n") or 1), block):
            yield Cut(cut.payload, cut.first_record, cut.next_offset, cut.next_record, header, cut.oversized)


def _read_header(stream: BinaryIO) -> bytes:
    line = stream.readline()
    while line.count(b'"') % 2:
        more = stream.readline()
        if not more:
            break
        line += more
    return line


def _cut_csv(stream: BinaryIO, offset: int, record: int, block: int) -> Iterator[Cut]:
    rest = b""
    while True:
        data = stream.read(block)
        ended = not data
        data = rest + data
        if not data:
            return
        end = len(data) if ended else _last_record_end(data)
        if end == 0:
            rest = data
            if len(rest) < 16 * block:
                continue
            raise InputError(f"a CSV record at byte {offset} does not end within {len(rest)} bytes", remedy="check its quotes")
        payload, rest = data[:end], data[end:]
        offset += len(payload)
        records = _count_records(payload)
        yield Cut(payload, record, offset, record + records)
        record += records


def _last_record_end(data: bytes) -> int:
    """Find the end of the last whole record: a newline with an even number of quotes before it."""
    at = data.rfind(b"\n")
    while at >= 0:
        if data.count(b'"', 0, at) % 2 == 0:
            return at + 1
        at = data.rfind(b"\n", 0, at)
    return 0


def _count_records(payload: bytes) -> int:
    return len(split_csv(payload)) - payload.endswith(b"\n")


def _read_parquet(file: FoundFile, row: int, block: int) -> Iterator[Cut]:
    try:
        parquet = pq.ParquetFile(file.path)
    except (OSError, ValueError) as problem:
        raise InputError(f"{file.path}: is not a readable Parquet file ({problem})", remedy="repair or remove the file") from problem
    with parquet:
        at = 0
        for group in range(parquet.metadata.num_row_groups):
            meta = parquet.metadata.row_group(group)
            if at + meta.num_rows <= row:
                at += meta.num_rows
                continue
            rows = max(1, int(block / max(1.0, meta.total_byte_size / max(1, meta.num_rows))))
            for batch in parquet.iter_batches(batch_size=rows, row_groups=[group]):
                skip = min(max(0, row - at), batch.num_rows)
                at += batch.num_rows
                if skip == batch.num_rows:
                    continue
                frame = pl.from_arrow(batch.slice(skip))
                first = at - batch.num_rows + skip
                yield Cut(frame if isinstance(frame, pl.DataFrame) else frame.to_frame(), first, at, at)
