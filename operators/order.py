"""Reorder buffer: hold events until the global watermark passes them, then release them ordered and once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from events.hashing import U64
from operators.columns import I64, Mask, count_groups, mark_changes, pick, read_codes, read_us, renumber, to_index


@dataclass(frozen=True)
class Released:
    """`events` ordered by (person, event time, partition, position), persons contiguous, no duplicates.

    `starts`: row number at which each person begins. `duplicates`: (source, source_partition) -> rows dropped.
    `accepted`: the same for rows kept. `waiting`: what stays in the buffer, by partition, in position order.
    """

    events: pl.DataFrame
    starts: I64
    accepted: dict[tuple[str, str], int]
    duplicates: dict[tuple[str, str], int]
    waiting: dict[str, pl.DataFrame]


def release_events(buffer: dict[str, list[pl.DataFrame]], watermark: int) -> Released:
    """Release the buffered events older than `watermark` (microseconds; strictly smaller).

    `buffer`: frames of each partition in position order, with canonical columns and `person_hash`.
    Two events of one person with equal id and time are duplicates; the first by (partition, position) stays.
    """
    partitions = [name for name in sorted(buffer) if any(frame.height for frame in buffer[name])]
    if not partitions:
        return Released(pl.DataFrame(), np.empty(0, dtype=np.int64), {}, {}, {})
    frames = [frame for name in partitions for frame in buffer[name]]
    # One chunk: taking rows from text in many chunks costs ten times as much.
    held = pl.concat(frames, how="diagonal", rechunk=True)
    due = read_us(held["event_time"]) < watermark
    waiting = _keep_waiting(buffer, partitions, held, due)
    if not due.any():
        return Released(pl.DataFrame(), np.empty(0, dtype=np.int64), {}, {}, waiting)
    # Order and duplicates are found on the few columns that decide them; the rest is moved once.
    rows = np.flatnonzero(due)
    keys = pl.DataFrame([held[name] for name in ("person_hash", "person_id", "event_time", "event_id")])
    order, starts = find_order(keys if rows.size == held.height else keys[to_index(rows)])
    rows = rows[order]
    later = find_later_copies(keys, rows)
    duplicates: dict[tuple[str, str], int] = {}
    if later.size:
        duplicates = count_origins(held[to_index(rows[later])])
        kept = np.ones(rows.size, dtype=np.bool_)
        kept[later] = False
        rows = rows[kept]
        # A person's first row is never a later copy, so the starts move but none goes away.
        starts = (np.cumsum(kept) - 1)[starts]
    events = held[to_index(rows)]
    return Released(events, starts, count_origins(events), duplicates, waiting)


def _keep_waiting(
    buffer: dict[str, list[pl.DataFrame]], partitions: list[str], held: pl.DataFrame, due: Mask
) -> dict[str, pl.DataFrame]:
    waiting: dict[str, pl.DataFrame] = {}
    begin = 0
    for name in partitions:
        end = begin + sum(frame.height for frame in buffer[name])
        rows = begin + np.flatnonzero(~due[begin:end])
        if rows.size:
            waiting[name] = held[to_index(rows)]
        begin = end
    return waiting


def sort_persons(events: pl.DataFrame) -> tuple[pl.DataFrame, I64]:
    """Sort as `find_order` says."""
    order, starts = find_order(events)
    return events[to_index(order)], starts


def find_order(events: pl.DataFrame) -> tuple[I64, I64]:
    """Find the stable order by person and time, and the row at which each person begins in it.

    Persons come in the order of their hash, each one contiguous; equal hashes of different persons (possible, if
    hardly likely) are told apart by the id itself.
    """
    hashes, times, person = events["person_hash"].to_numpy(), read_us(events["event_time"]), events["person_id"]
    order = _sort_nearly(hashes, times)
    changes = mark_changes(hashes[order])
    if (_differs(pick(person, order)) != changes).any():
        exact = events.select(pl.arg_sort_by("person_hash", "person_id", "event_time", maintain_order=True))
        order = exact.to_series().to_numpy().astype(np.int64)
        changes = _differs(pick(person, order))
    return order, np.flatnonzero(changes)


def _sort_nearly(hashes: U64, times: I64) -> I64:
    """Sort by hash and time, hashes compared without their lowest bits; stable.

    Rows come nearly in time, so that sort is cheap; then one sort of numbers that hold the hash above and the
    place in time below, all different, does the rest.
    """
    bits = max(1, int(len(hashes) - 1).bit_length())
    by_time = np.argsort(times, kind="stable")
    low = np.uint64((1 << bits) - 1)
    packed = (hashes[by_time] & ~low) | np.arange(len(hashes), dtype=np.uint64)
    packed.sort()
    return by_time[(packed & low).astype(np.int64)]


def _differs(person: pl.Series) -> Mask:
    marks = np.ones(person.len(), dtype=np.bool_)
    marks[1:] = (person.slice(1) != person.slice(0, person.len() - 1)).to_numpy()
    return marks


def find_later_copies(keys: pl.DataFrame, rows: I64) -> I64:
    """Find the places in `rows` of later copies; `rows` are ordered by person and time, ties by (partition, position)."""
    hashes, times = keys["person_hash"].to_numpy()[rows], read_us(keys["event_time"])[rows]
    same = np.flatnonzero((hashes[1:] == hashes[:-1]) & (times[1:] == times[:-1])) + 1
    if not same.size:
        return same
    tied = np.zeros(rows.size, dtype=np.bool_)
    tied[same] = tied[same - 1] = True
    places = np.flatnonzero(tied)
    few = keys.select("person_id", "event_time", "event_id")[to_index(rows[places])]
    later: I64 = places[~few.select(pl.struct(pl.all()).is_first_distinct()).to_series().to_numpy()]
    return later


def count_origins(events: pl.DataFrame) -> dict[tuple[str, str], int]:
    """Count rows by (source, source_partition)."""
    if events.height == 0:
        return {}
    if all(_is_constant(events[name]) for name in ("source", "source_partition")):
        return {(str(events["source"][0]), str(events["source_partition"][0])): events.height}
    source = renumber(read_codes(events["source"]), events["source"])
    partition = renumber(read_codes(events["source_partition"]), events["source_partition"])
    groups, rows, _ = count_groups([source.numbers, partition.numbers], [source.names.len(), partition.names.len()])
    return {
        (str(source.names[int(one)]), str(partition.names[int(other)])): int(count)
        for one, other, count in zip(*groups, rows, strict=True)
    }


def _is_constant(column: pl.Series) -> bool:
    codes = read_codes(column)
    return bool((codes == codes[0]).all())
