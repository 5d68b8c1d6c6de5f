"""Readers that cut a file into blocks of whole records and can start in the middle.

Where a file is cut decides nothing: the same records come out, with the same numbers, for any size of block.
"""

from __future__ import annotations

import gzip
import os
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from errors import InputError, SourceChangedError
from events.csvrows import find_record_ends, name_columns, split_cells
from events.raw import MAX_RECORD, RAW_KEPT, count_newlines
from sources.archive import read_pieces
from sources.discover import GZIP_MAGIC, STDIN, ZSTD_MAGIC, FoundFile
from sources.zstd import open_zstd

HEAD = 4096
PIECE = 1 << 20
LAST_PIECE = 256 << 10
NAMES = {"parquet": "Parquet", "archive": "Arrow"}


@dataclass(frozen=True)
class Cut:
    """A piece of a file: its content and the position after it (bytes of plain text, or Parquet rows; and records).

    `oversized`: the payload is the beginning of one record longer than `limit`. `position` and `received`: of archived
    records, what the live job gave them.
    """

    payload: bytes | pl.DataFrame
    first_record: int
    next_offset: int
    next_record: int
    header: tuple[str, ...] = ()
    oversized: bool = False
    limit: int = MAX_RECORD
    position: int | None = None
    received: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Start:
    """Where reading begins (`offset` in bytes, `record`), in pieces of `block`; records may have `limit` bytes."""

    offset: int
    record: int
    block: int
    limit: int


def read_file(file: FoundFile, offset: int, record: int, block: int, limit: int = MAX_RECORD) -> Iterator[Cut]:
    """Yield the file's records from a position on, in cuts of about `block` bytes; raises InputError."""
    start = Start(offset, record, block, limit)
    if file.path == STDIN:
        yield from _read_stdin(start)
        return
    with explain_failure(file):
        if file.kind == "parquet":
            yield from _read_parquet(file, start)
        elif file.kind == "archive":
            yield from _read_archive(file, start)
        elif file.kind == "csv":
            yield from _read_csv(file, start)
        elif file.packing:
            with open_text(file, offset) as stream:
                yield from cut_lines(stream, start)
        else:
            yield from _cut_plain(file, start)


@contextmanager
def explain_failure(file: FoundFile) -> Iterator[None]:
    """Turn what can go wrong while a file is read into an InputError that names the file."""
    again = "what was committed before stays; run the same command again"
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError) as problem:
        raise InputError(
            f"{file.path}: the compressed data is damaged or cut short ({problem})",
            remedy=f"put the whole file there, {again}",
        ) from problem
    except pa.ArrowException as problem:
        raise InputError(
            f"{file.path}: is not a readable {NAMES.get(file.kind, file.kind)} file ({problem})",
            remedy=f"put a whole file there, {again}",
        ) from problem
    except OSError as problem:
        raise InputError(
            f"{file.path}: can't be read ({problem.strerror or problem})", remedy=f"check the file, {again}"
        ) from problem


def open_text(file: FoundFile, offset: int) -> BinaryIO:
    """Open a file of text, unpacked, at an offset of the plain text."""
    if file.packing == "gzip":
        stream = cast(BinaryIO, gzip.open(file.path, "rb"))
    elif file.packing == "zstd":
        stream = open_zstd(file.path)
    else:
        plain = open(file.path, "rb")
        plain.seek(offset)
        return plain
    _skip(stream, offset)
    return stream


@cache
def read_stdin_head() -> bytes:
    """Return the first 4 KiB of standard input, which tell one stream from another; they are read once."""
    head = _fill(sys.stdin.buffer, b"", HEAD)[0]
    packing = "gzip" if head[:2] == GZIP_MAGIC else "zstd" if head[:4] == ZSTD_MAGIC else ""
    if packing:
        remedy = f"unpack it on the way: {packing} -dc FILE | journeys replay -"
        raise InputError(f"standard input is {packing} data", remedy=remedy)
    return head


def _read_stdin(start: Start) -> Iterator[Cut]:
    head, stream = read_stdin_head(), sys.stdin.buffer
    left = _skip(stream, start.offset - len(head))
    if left > 0 or len(head) < min(HEAD, start.offset):
        raise SourceChangedError(
            f"standard input ends before byte {start.offset:,}, up to which it was read already",
            remedy="pipe the same stream in again, from its beginning",
        )
    yield from cut_lines(stream, start, head[start.offset :])


def _skip(stream: BinaryIO, count: int) -> int:
    """Read past `count` bytes; return how many of them were not there."""
    while count > 0:
        got = len(stream.read(min(count, PIECE)))
        if got == 0:
            break
        count -= got
    return max(0, count)


def _fill(stream: BinaryIO, rest: bytes, size: int) -> tuple[bytes, bool]:
    """Read until `size` bytes are there or the stream ends; a pipe may give less at a time."""
    pieces, held = [rest] if rest else [], len(rest)
    while held < size:
        piece = stream.read(size - held)
        if not piece:
            return b"".join(pieces), True
        pieces.append(piece)
        held += len(piece)
    return b"".join(pieces), False


def _cut_plain(file: FoundFile, start: Start) -> Iterator[Cut]:
    """Cut a file of plain lines, each block read once and copied nowhere; its end, and long lines, as a stream."""
    offset, record = start.offset, start.record
    with open(file.path, "rb", buffering=0) as plain:
        while payload := _read_lines(plain.fileno(), offset, start.block):
            cut = Cut(payload, record, offset + len(payload), record + count_newlines(payload), limit=start.limit)
            yield cut
            offset, record = cut.next_offset, cut.next_record
    with open_text(file, offset) as stream:
        yield from cut_lines(stream, replace(start, offset=offset, record=record))


def _read_lines(handle: int, offset: int, block: int) -> bytes:
    """Read whole lines, `block` bytes at most; nothing where the block's last piece holds no end of a line."""
    piece = min(block, LAST_PIECE)
    at = offset + block - piece
    size = at + os.pread(handle, piece, at).rfind(b"\n") + 1 - offset
    payload = os.pread(handle, size, offset) if size > block - piece else b""
    return payload if len(payload) == size else b""


def cut_lines(stream: BinaryIO, start: Start, rest: bytes = b"") -> Iterator[Cut]:
    """Cut a stream of lines at newlines; a line longer than `limit` is passed over but for its beginning.

    `rest`: what was taken from the stream already.
    """
    offset, record = start.offset, start.record
    while True:
        data, ended = _fill(stream, rest, start.block)
        end = data.rfind(b"\n") + 1
        while end == 0 and not ended and len(data) <= start.limit:
            known = len(data)
            data, ended = _fill(stream, data, known + start.block)
            end = data.rfind(b"\n", known) + 1
        if not data:
            return
        if end == 0 and not ended:
            cut, rest = _pass_over(stream, data, Start(offset, record, start.block, start.limit))
        else:
            payload, rest = (data, b"") if ended else (data[:end], data[end:])
            lines = count_newlines(payload) + (not payload.endswith(b"\n"))
            cut = Cut(payload, record, offset + len(payload), record + lines, limit=start.limit)
        yield cut
        offset, record = cut.next_offset, cut.next_record


def _pass_over(stream: BinaryIO, data: bytes, at: Start) -> tuple[Cut, bytes]:
    """Read past the next newline; return the long line's cut, and what follows it."""
    head, size = data[:RAW_KEPT], len(data)
    rest = b""
    while piece := stream.read(PIECE):
        newline = piece.find(b"\n")
        line = piece if newline < 0 else piece[: newline + 1]
        head += line[: RAW_KEPT - len(head)]
        size += len(line)
        if newline >= 0:
            rest = piece[newline + 1 :]
            break
    head = head.removesuffix(b"\n").removesuffix(b"\r") if size <= RAW_KEPT else head
    return Cut(head, at.record, at.offset + size, at.record + 1, oversized=True, limit=at.limit), rest


def _read_csv(file: FoundFile, start: Start) -> Iterator[Cut]:
    with open_text(file, 0) as stream:
        head, ended = _fill(stream, b"", start.limit + 1)
    if not head.strip():
        return
    ends = find_record_ends(head, start.limit, final=ended)
    first = head[: int(ends[0])] if ends.size else head
    header = _name_columns(file, first)
    at = Start(max(start.offset, len(first)), max(start.record, 1), start.block, start.limit)
    with open_text(file, at.offset) as stream:
        for cut in cut_csv(stream, at):
            yield replace(cut, header=header)


def _name_columns(file: FoundFile, first: bytes) -> tuple[str, ...]:
    line = first.removeprefix(b"\xef\xbb\xbf").removesuffix(b"\n").removesuffix(b"\r")
    if b"\r" in line and b'"' not in line:
        raise InputError(f"{file.path}: lines end in lone carriage returns", remedy="convert the file: tr '\\r' '\\n'")
    cells = split_cells(line) or []
    if not any(cell.strip() for cell in cells):
        raise InputError(f"{file.path}: the first line names no columns", remedy="CSV files need a header line")
    return name_columns([cell.decode(errors="replace") for cell in cells])


def cut_csv(stream: BinaryIO, start: Start) -> Iterator[Cut]:
    """Cut a stream of CSV, behind its header, at the ends of records."""
    offset, record, rest = start.offset, start.record, b""
    while True:
        data, ended = _fill(stream, rest, start.block)
        ends = find_record_ends(data, start.limit, final=ended)
        while not ends.size and not ended and len(data) <= start.limit:
            data, ended = _fill(stream, data, 2 * len(data) + start.block)
            ends = find_record_ends(data, start.limit, final=ended)
        if not data:
            return
        if ends.size:
            end = int(ends[-1])
            payload, rest = data[:end], data[end:]
            cut = Cut(payload, record, offset + end, record + ends.size, limit=start.limit)
        else:
            cut, rest = _pass_over(stream, data, Start(offset, record, start.block, start.limit))
        yield cut
        offset, record = cut.next_offset, cut.next_record


def _read_parquet(file: FoundFile, start: Start) -> Iterator[Cut]:
    if file.size == 0:
        return
    with pq.ParquetFile(file.path) as parquet:
        at = 0
        for group in range(parquet.metadata.num_row_groups):
            meta = parquet.metadata.row_group(group)
            if at + meta.num_rows <= start.record:
                at += meta.num_rows
                continue
            rows = max(1, int(start.block / max(1.0, meta.total_byte_size / max(1, meta.num_rows))))
            for batch in parquet.iter_batches(batch_size=rows, row_groups=[group]):
                skip = min(max(0, start.record - at), batch.num_rows)
                at += batch.num_rows
                if skip == batch.num_rows:
                    continue
                frame = pl.from_arrow(batch.slice(skip))
                first = at - batch.num_rows + skip
                yield Cut(frame if isinstance(frame, pl.DataFrame) else frame.to_frame(), first, at, at)


def _read_archive(file: FoundFile, start: Start) -> Iterator[Cut]:
    at = start.record
    for piece in read_pieces(file.path, start.record):
        end = at + piece.received.size
        yield Cut(piece.lines, at, end, end, limit=start.limit, position=piece.first, received=piece.received)
        at = end
