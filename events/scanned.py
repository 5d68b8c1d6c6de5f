"""Blocks of plain Segment lines to canonical events: scanned; what is not plain is read as ever and put in its place.

Channel, type and name of an event, and what step rules make of them, follow from a few texts of its record: its kind.
Of each kind one record is read by the readers that know the rules, and the others get what it got.
"""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt
import polars as pl

from config import InputRules
from events.canonical import ORDER, Decoded, fill_received, repeat
from events.hashing import I64
from events.raw import WHOLE, RawBlock, count_newlines, read_raw
from events.scanner import Bounds, Kinds, Scan, scan
from events.scanning import ReadRest
from events.schema import CANONICAL, CODED, DEAD_LETTERS, UTC
from events.steps import RULE_COLUMNS
from events.times import LATEST_US

LABELS = ("channel", "event_type", "event_name", "step")
PAUSE = 15  # blocks that are not scanned after one of which most had to be read otherwise


class _Memory(threading.local):
    """What a thread knows: the kinds met so far, their labels, and which of them are `good`, as events."""

    def __init__(self) -> None:
        self.pause = 0
        self.forget()

    def forget(self) -> None:
        """Begin anew, with no kinds."""
        self.kinds = Kinds()
        self.texts: dict[str, list[str | None]] = {name: [] for name in LABELS}
        self.labels = {name: pl.Series(name, [], dtype=CODED) for name in LABELS}
        self.good: npt.NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)

    def add(self, example: pl.DataFrame, lines: list[int]) -> None:
        """Take the labels of the next kinds from the events of one line of each; a line that is no event makes it bad."""
        found = {row["line"]: row for row in example.select("line", pl.col(CODED)).rows(named=True)}
        for line in lines:
            for name, texts in self.texts.items():
                texts.append(found.get(line, {}).get(name))
        self.good = np.concatenate([self.good, [line in found for line in lines]])
        self.labels = {name: pl.Series(name, texts, dtype=pl.String).cast(CODED) for name, texts in self.texts.items()}


class ScannedDecoder:
    """Decodes blocks of lines; what the scanner leaves out, `read_rest` reads."""

    def __init__(self, rules: InputRules, step: pl.Expr | None, now_us: int, read_rest: ReadRest) -> None:
        self.rules, self.now_us, self.read_rest = rules, now_us, read_rest
        by_kind = step is None or set(step.meta.root_names()) <= set(LABELS)
        self.step = None if by_kind else step  # to be found row by row
        self.memory = _Memory()

    def decode(self, block: RawBlock, payload: bytes) -> Decoded | None:
        """Decode a block's lines; None if they are better read otherwise."""
        memory = self.memory
        if memory.pause:
            memory.pause -= 1
            return None
        if memory.kinds.is_full():
            memory.forget()
        soonest = self.now_us if block.received is None else int(block.received.min())
        bounds = Bounds(min(soonest + self.rules.max_future, LATEST_US - 1), self.rules.max_future)
        lines = block.lines or count_newlines(payload) + (not payload.endswith(b"\n"))
        found = scan(payload, lines, bounds, memory.kinds)
        self._learn(block, found)
        rests = {number: payload[begin:end] for number, begin, end in found.rests.tolist()}
        good = memory.good[found.codes]
        if not good.all():
            odd = found.lines[~good].tolist()
            rests |= dict(zip(odd, read_raw(block, odd, WHOLE), strict=True))
        if 2 * len(rests) > lines:
            memory.pause = PAUSE
        return self._join(block, self._build(block, found), found.lines, good, rests)

    def _learn(self, block: RawBlock, found: Scan) -> None:
        known = self.memory.good.size
        if self.memory.kinds.count() == known:
            return
        new = np.flatnonzero(found.codes >= known)
        first = np.unique(found.codes[new], return_index=True)[1]
        lines = found.lines[new[first]].tolist()
        raws = read_raw(block, sorted(lines), WHOLE)
        example = self.read_rest(block, raws, sorted(lines))
        self.memory.add(example.events.with_columns(example.lines.alias("line")), lines)

    def _build(self, block: RawBlock, found: Scan) -> pl.DataFrame:
        rows = found.lines.size
        codes = pl.Series(found.codes)
        columns = dict(found.columns)
        columns |= {name: labels[codes] for name, labels in self.memory.labels.items()}
        if columns["event_type"].null_count() == rows:
            del columns["event_type"]
        columns["event_time"] = pl.Series(found.times).cast(UTC)
        told = (found.receipts >= 0).any()
        if told or block.received is not None:
            received = pl.Series(found.receipts)
            received = received.set(received < 0, None)
            if block.received is not None:
                received = fill_received(received, found.lines, block.received)
            columns["received_at"] = received.cast(UTC)
        columns["source"] = repeat("source", block.source, rows)
        columns["source_partition"] = repeat("source_partition", block.partition, rows)
        columns["source_position"] = pl.Series(found.lines + block.first_position)
        columns["person_hash"] = pl.Series(found.hashes)
        if self.step is not None:
            columns["step"] = _find_steps(columns, self.step)
        return pl.DataFrame([columns[name].alias(name) for name in ORDER if name in columns])

    def _join(
        self, block: RawBlock, events: pl.DataFrame, lines: I64, good: npt.NDArray[np.bool_], rests: dict[int, bytes]
    ) -> Decoded:
        if not rests:
            return Decoded(block, events, pl.Series(lines), pl.DataFrame(schema=DEAD_LETTERS), lines.size)
        numbers = sorted(rests)
        rest = self.read_rest(block, [rests[number] for number in numbers], numbers)
        if not good.any():
            return rest
        parts = [part for part in (events.filter(pl.Series(good)), rest.events) if part.height]
        joined = pl.concat(parts, how="diagonal", rechunk=True)
        order = joined["source_position"].arg_sort()
        joined = joined[order]
        present = [name for name in ORDER if name in joined.columns and joined[name].null_count() < joined.height]
        both = pl.concat([pl.Series(lines[good]), rest.lines])[order]
        return Decoded(block, joined.select(present), both, rest.dead, int(good.sum()) + rest.received)


def _find_steps(columns: dict[str, pl.Series], step: pl.Expr) -> pl.Series:
    texts = [column.alias(name) for name, column in columns.items()]
    missing = [pl.lit(None, dtype=CANONICAL[name]).alias(name) for name in RULE_COLUMNS if name not in columns]
    frame = pl.DataFrame(texts).with_columns(pl.col(CODED).cast(pl.String), *missing)
    return frame.select(step).to_series().cast(CODED)
