"""Raw blocks to canonical events: what runs beside the dataflow's own thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

from config import InputRules, StepRule
from events.canonical import Decoded, canonicalise, make_dead_letters
from events.csvrows import read_rows
from events.formats.lines import TextRows, read_lines
from events.ndjson import read_ndjson
from events.presets import Mapping, build_mapping
from events.raw import RAW_KEPT, RawBlock, find_oversized, read_raw
from events.scanning import Scanning
from events.schema import CANONICAL, DEAD_LETTERS
from events.steps import compile_steps
from events.tabular import select_text

Decoder = Callable[[RawBlock], Decoded]


def make_decoder(rules: InputRules, steps: Sequence[StepRule], now_us: int, scanned: bool = True) -> Decoder:
    """Return the pure function from a raw block to its events and dead letters.

    `scanned`: use the compiled scanner where it is there; what comes out is the same without it.
    """
    mapping = build_mapping(rules)
    step = compile_steps(steps) if steps else None

    def read_lines_of(block: RawBlock, raws: list[bytes], numbers: list[int]) -> Decoded:
        payload = b"\n".join(raws) + b"\n"
        text, rows = read_ndjson(payload, mapping, rules.max_record_bytes, len(raws))
        if text.height == 0:
            return _find_nothing(block, pl.DataFrame(schema=DEAD_LETTERS))
        lines = numbers if rows is None else [numbers[row] for row in rows]
        return canonicalise(text, lines, block, rules, step, now_us)

    scanning = Scanning(rules, step, now_us, read_lines_of)

    def decode(block: RawBlock) -> Decoded:
        if block.oversized:
            return _bury_oversized(block)
        decoded = scanning.decode(block) if scanned else None
        if decoded is not None:
            return decoded
        text, lines, early = _read_text(block, mapping, rules)
        if text.height == 0:
            return _find_nothing(block, early)
        decoded = canonicalise(text, lines, block, rules, step, now_us)
        if early.height == 0:
            return decoded
        dead = pl.concat([early, decoded.dead]).sort("source_position")
        return Decoded(block, decoded.events, decoded.lines, dead, decoded.received + early.height)

    return decode


def _find_nothing(block: RawBlock, dead: pl.DataFrame) -> Decoded:
    empty = pl.DataFrame(schema={**CANONICAL, "person_hash": pl.UInt64})
    return Decoded(block, empty, pl.Series([], dtype=pl.Int64), dead, dead.height)


def _bury_oversized(block: RawBlock) -> Decoded:
    payload = block.payload if isinstance(block.payload, bytes) else b""
    dead = make_dead_letters(block, [_describe_large(block.limit)], [0], [payload[:RAW_KEPT]])
    return _find_nothing(block, dead)


def _describe_large(limit: int) -> tuple[str, str]:
    # The same words whether the line was read whole or not: what is dead does not depend on how a file is cut.
    return "too_large", f"longer than {limit} bytes"


def _read_text(
    block: RawBlock, mapping: Mapping, rules: InputRules
) -> tuple[pl.DataFrame, list[int] | None, pl.DataFrame]:
    none = pl.DataFrame(schema=DEAD_LETTERS)
    if isinstance(block.payload, pl.DataFrame):
        return select_text(block.payload, mapping), None, none
    if block.kind == "csv":
        return _read_csv(block, mapping)
    payload = block.payload
    large = find_oversized(payload, rules.max_record_bytes)
    if large:
        split = payload.split(b"\n")
        for i in large:
            split[i] = b""
        payload = b"\n".join(split)
    lines = 0 if large else block.lines
    if mapping.tabs:
        rows = read_lines(payload, mapping, rules.max_record_bytes)
    else:
        rows = TextRows(*read_ndjson(payload, mapping, rules.max_record_bytes, lines), [])
    if not large and not rows.bad:
        return rows.frame, rows.lines, none
    reasons = dict.fromkeys(large, _describe_large(rules.max_record_bytes))
    reasons |= {number: (reason, detail) for number, reason, detail in rows.bad}
    numbers = sorted(reasons)
    dead = make_dead_letters(block, [reasons[i] for i in numbers], numbers, read_raw(block, numbers))
    return rows.frame, rows.lines, dead


def _read_csv(block: RawBlock, mapping: Mapping) -> tuple[pl.DataFrame, list[int] | None, pl.DataFrame]:
    payload = block.payload if isinstance(block.payload, bytes) else b""
    rows = read_rows(payload, block.header, block.limit)
    numbers = [number for number, _, _ in rows.bad]
    reasons = [(reason, detail) for _, reason, detail in rows.bad]
    dead = make_dead_letters(block, reasons, numbers, read_raw(block, numbers) if numbers else [])
    return select_text(rows.frame, mapping), rows.lines, dead
