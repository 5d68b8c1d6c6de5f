"""A block of raw records of one source partition, and the raw text of its rows on demand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from events.csvrows import split_records
from events.tabular import encode_rows

FILE_SHIFT = 40  # source_position = file number in the lane << 40 | record number in the file
NEWLINE = ord("\n")
PIECE = 128 << 10
RAW_KEPT = 64 << 10  # bytes of a raw record that dead_letters and late_events keep
WHOLE = 1 << 62
MAX_RECORD = 1 << 20


@dataclass(frozen=True)
class RawBlock:
    """Consecutive records: `payload` is lines of text, CSV text, or a frame of Parquet rows.

    `first_position` is the source_position of the first line; `header` names CSV columns; `oversized` marks
    the beginning of one record that is too large to be read whole; `limit` is the largest size of a record; `lines`: how
    many lines of text there are, 0 if not counted yet; `received`: when each line came (microseconds), if that is known.
    """

    kind: str
    source: str
    partition: str
    first_position: int
    payload: bytes | pl.DataFrame
    header: tuple[str, ...] = ()
    oversized: bool = False
    limit: int = MAX_RECORD
    lines: int = 0
    received: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True)
class LaneEnd:
    """A source partition has nothing more to read, or nothing for now: it holds up the others no longer."""

    partition: str


@dataclass(frozen=True)
class LaneHead:
    """A lane waits for its turn with an event of this time (microseconds): nothing much older will follow in it."""

    partition: str
    time: int


@dataclass(frozen=True)
class EpochEnd:
    """The epoch ends behind this partition's last block: what can be released should be."""

    partition: str


def read_raw(block: RawBlock, lines: list[int], kept: int = RAW_KEPT) -> list[bytes]:
    """Return the raw bytes (cut at `kept`) of the records on these lines of the block, without their line ends."""
    if isinstance(block.payload, pl.DataFrame):
        return [row.encode()[:kept] for row in encode_rows(block.payload[lines])]
    if block.kind == "csv":
        records = split_records(block.payload, block.limit)
        return [records[line][:kept] for line in lines]
    split = block.payload.split(b"\n")
    return [split[line].removesuffix(b"\r")[:kept] for line in lines]


def count_newlines(text: bytes) -> int:
    """Count the newlines in a block, piece by piece in the cache: faster than `bytes.count` where they are many."""
    array = np.frombuffer(text, dtype=np.uint8)
    return sum(int(np.count_nonzero(array[at : at + PIECE] == NEWLINE)) for at in range(0, array.size, PIECE))


def find_oversized(payload: bytes, limit: int) -> list[int]:
    """Return the numbers of the lines longer than `limit` bytes, looking at one newline a stretch."""
    start, end = 0, len(payload)
    while end - start > limit:
        newline = payload.rfind(b"\n", start, start + limit + 1)
        if newline < 0:
            return [i for i, line in enumerate(payload.split(b"\n")) if len(line) > limit]
        start = newline + 1
    return []
