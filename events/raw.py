"""A block of raw records of one source partition, and the raw text of its rows on demand."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

FILE_SHIFT = 40  # source_position = file number in the lane << 40 | record number in the file
RAW_KEPT = 64 << 10  # bytes of a raw record that dead_letters and late_events keep


@dataclass(frozen=True)
class RawBlock:
    """Consecutive records: `payload` is NDJSON or CSV text, or a frame of Parquet rows.

    `first_position` is the source_position of the first line; `header` names CSV columns;
    `oversized` marks the beginning of one record that is too large to be read whole.
    """

    kind: str
    source: str
    partition: str
    first_position: int
    payload: bytes | pl.DataFrame
    header: tuple[str, ...] = ()
    oversized: bool = False


@dataclass(frozen=True)
class LaneEnd:
    """A source partition has nothing more to read."""

    partition: str


def read_raw(block: RawBlock, lines: list[int]) -> list[bytes]:
    """Return the raw bytes (cut at 64 KiB) of the records on these lines of the block."""
    if isinstance(block.payload, pl.DataFrame):
        rows = block.payload[lines]
        return [row.encode()[:RAW_KEPT] for row in rows.select(pl.struct(pl.all()).struct.json_encode()).to_series()]
    if block.kind == "csv":
        records = split_csv(block.payload)
        return [records[line][:RAW_KEPT] for line in lines]
    split = block.payload.split(b"\n")
    return [split[line].rstrip(b"\r")[:RAW_KEPT] for line in lines]


def split_csv(payload: bytes) -> list[bytes]:
    """Cut CSV text into records: a newline inside quotes belongs to its record (RFC 4180)."""
    pieces = payload.split(b"\n")
    if b'"' not in payload:
        return pieces
    records: list[bytes] = []
    open_piece: bytes | None = None
    for piece in pieces:
        whole = piece if open_piece is None else open_piece + b"\n" + piece
        if whole.count(b'"') % 2:
            open_piece = whole
        else:
            records.append(whole)
            open_piece = None
    return records if open_piece is None else [*records, open_piece]
