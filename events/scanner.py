"""Blocks of lines through the compiled scanner: the arrays it fills, as columns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from events import json_scan, segment_scan, text_scan
from events.arrow import read_array
from events.hashing import I64, U64

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]
PADDING = 32  # bytes behind what is scanned that can be read
COLUMNS = ("event_id", "person_id", "device_id", "user_id", "page", "referrer", "campaign", "properties")
IDS = ("person_id", "device_id", "user_id")  # have their texts in one store
KEYS = json_scan.build_keys(segment_scan.FIELDS)


@dataclass(frozen=True)
class Bounds:
    """How late a time may be to be surely good (microseconds): at all, and after its receipt."""

    latest: int
    ahead: int


@dataclass(frozen=True)
class Scan:
    """What was found in a block: row by row `lines`, `times`, `receipts` (-1: none), `hashes` of persons, and `codes` of
    kinds; `columns`, without those that have nothing; `rests`: number, begin and end of each line that was left out.
    """

    lines: I64
    times: I64
    receipts: I64
    hashes: U64
    codes: npt.NDArray[np.uint32]
    columns: dict[str, pl.Series]
    rests: I64


class Kinds:
    """The kinds of records met so far by one thread, and its working memory."""

    def __init__(self) -> None:
        self._newest = np.zeros(segment_scan.WORDS_OF_ONE, dtype=np.uint64)
        self._table = np.full(segment_scan.SLOTS, -1, dtype=np.int64)
        self._begins = np.zeros(segment_scan.MOST_KINDS + 1, dtype=np.int64)
        self._words = np.zeros(segment_scan.MOST_WORDS, dtype=np.uint64)
        parts = (self._newest, self._table, self._begins, self._words)
        self.struct = np.array([*map(locate, parts), 0], dtype=np.int64)
        self.found = np.zeros(2 * len(segment_scan.FIELDS), dtype=np.int64)
        # A guess of masks and words that are all ones is never right.
        self.guesses = np.full(json_scan.GUESS // 8 * (json_scan.GUESSED + 1), -1, dtype=np.int64)
        self.stack = np.zeros(json_scan.FRAME // 8 * (json_scan.DEEPEST + 2), dtype=np.int64)

    def count(self) -> int:
        """Return how many there are; they have the codes below."""
        return int(self.struct[-1])

    def is_full(self) -> bool:
        """Tell whether no more will be learned."""
        return self.count() == segment_scan.MOST_KINDS


@dataclass
class _Store:
    data: Bytes
    struct: I64 = field(init=False)

    def __post_init__(self) -> None:
        self.struct = np.array([locate(self.data), 0], dtype=np.int64)


class _Column:
    """Views and known rows of a column, and the store of its texts."""

    def __init__(self, rows: int, store: _Store) -> None:
        # Zeros, of which those never written cost nothing.
        self.views, self.known = np.zeros(rows * 16, dtype=np.uint8), np.zeros(rows, dtype=np.uint8)
        self.store = store
        self.struct = np.array([locate(self.views), locate(self.known), 0, locate(store.struct)], dtype=np.int64)

    def read(self, rows: int) -> pl.Series | None:
        known = int(self.struct[text_scan.COUNT // 8])
        if known == 0:
            return None
        bits = None if known == rows else pa.py_buffer(np.packbits(self.known[:rows], bitorder="little"))
        used = int(self.store.struct[text_scan.USED // 8])
        buffers = [bits, pa.py_buffer(self.views[: 16 * rows]), pa.py_buffer(self.store.data[:used])]
        return read_array(pa.Array.from_buffers(pa.string_view(), rows, buffers, rows - known))


def scan(payload: bytes, lines: int, bounds: Bounds, kinds: Kinds) -> Scan:
    """Scan a block of so many lines; what is good for sure becomes a row, in order, and all else a rest."""
    numbers = [np.empty(lines, dtype=np.int64) for _ in range(3)]
    hashes, codes = np.empty(lines, dtype=np.uint64), np.empty(lines, dtype=np.uint32)
    rests = np.empty((lines, 3), dtype=np.int64)
    shared = _Store(np.empty(len(payload) + PADDING, dtype=np.uint8))
    columns = {
        name: _Column(lines, shared if name in IDS else _Store(np.empty(len(payload) + PADDING, dtype=np.uint8)))
        for name in COLUMNS
    }
    places: list[Array] = [KEYS, kinds.found, kinds.stack, kinds.guesses, kinds.struct, *numbers, hashes, codes, rests]
    job = np.array(
        [*map(locate, places), bounds.latest, bounds.ahead, 0, 0, 0, 0, *(locate(c.struct) for c in columns.values())],
        dtype=np.int64,
    )
    _scan_all(payload, job)
    rows, rest = int(job[segment_scan.ROW // 8]), int(job[segment_scan.REST // 8])
    read = {name: column.read(rows) for name, column in columns.items()} if rows else {}
    known = {name: column for name, column in read.items() if column is not None}
    line, time, receipt = (array[:rows] for array in numbers)
    return Scan(line, time, receipt, hashes[:rows], codes[:rows], known, rests[:rest])


def _scan_all(payload: bytes, job: I64) -> None:
    """Scan the block where it lies, but its last lines in a copy with something behind them."""
    cut = payload.rfind(b"\n", 0, max(0, len(payload) - PADDING)) + 1
    tail = payload[cut:] + (b"" if payload.endswith(b"\n") else b"\n")
    padded = np.frombuffer(tail + bytes(PADDING), dtype=np.uint8)
    whole = np.frombuffer(payload, dtype=np.uint8)
    for text, size, offset in ((whole, cut, 0), (padded, len(tail), cut)):
        at = locate(text)
        job[segment_scan.SHIFT // 8] = offset - at
        segment_scan.scan_lines(at, at + size, locate(job))


def locate(array: Array) -> int:
    """Return the address of an array's first value."""
    return int(array.__array_interface__["data"][0])
