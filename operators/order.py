"""Reorder buffer: hold events until the global watermark passes them, then release them ordered and once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from operators.columns import I64, Mask, count_groups, mark_changes, read_codes, read_us, renumber


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
    waiting: dict[str, pl.DataFrame] = {}
    ready: list[pl.DataFrame] = []
    for partition in sorted(buffer):
        frames = [frame for frame in buffer[partition] if frame.height]
        if not frames:
            continue
        # One chunk: taking rows from text in many chunks costs ten times as much.
        held = pl.concat(frames, how="diagonal", rechunk=True) if len(frames) > 1 else frames[0]
        due = read_us(held["event_time"]) < watermark
        if due.all():
            ready.append(held)
            continue
        waiting[partition] = held.filter(pl.Series(~due))
        if due.any():
            ready.append(held.filter(pl.Series(due)))
    if not ready:
        return Released(pl.DataFrame(), np.empty(0, dtype=np.int64), {}, {}, waiting)
    merged = pl.concat(ready, how="diagonal", rechunk=True) if len(ready) > 1 else ready[0]
    ordered, starts = sort_persons(merged)
    kept = find_first_copies(ordered)
    duplicates: dict[tuple[str, str], int] = {}
    if not kept.all():
        duplicates = count_origins(ordered.filter(pl.Series(~kept)))
        ordered = ordered.filter(pl.Series(kept))
        # A person's first row is never a later copy, so the starts move but none goes away.
        starts = (np.cumsum(kept) - 1)[starts]
    return Released(ordered, starts, count_origins(ordered), duplicates, waiting)


def sort_persons(events: pl.DataFrame) -> tuple[pl.DataFrame, I64]:
    """Sort stably by person and time; persons come in the order of their hash, each one contiguous.

    Equal hashes of different persons (possible, if hardly likely) are told apart by the id itself.
    """
    order = np.lexsort((read_us(events["event_time"]), events["person_hash"].to_numpy()))
    ordered = events[order]
    changes = mark_changes(ordered["person_hash"].to_numpy())
    person = ordered["person_id"]
    differs = np.ones(len(changes), dtype=np.bool_)
    differs[1:] = (person.slice(1) != person.slice(0, person.len() - 1)).to_numpy()
    if (differs & ~changes).any():
        order = events.select(
            pl.arg_sort_by("person_hash", "person_id", "event_time", maintain_order=True)
        ).to_series()
        ordered = events[order]
        person = ordered["person_id"]
        changes = np.ones(len(changes), dtype=np.bool_)
        changes[1:] = (person.slice(1) != person.slice(0, person.len() - 1)).to_numpy()
    return ordered, np.flatnonzero(changes)


def find_first_copies(ordered: pl.DataFrame) -> Mask:
    """Mark the rows that are not later copies; input sorted by person and time, ties by (partition, position)."""
    kept = np.ones(ordered.height, dtype=np.bool_)
    same = ~mark_changes(ordered["person_hash"].to_numpy()) & ~mark_changes(read_us(ordered["event_time"]))
    if not same.any():
        return kept
    tied = same.copy()
    tied[:-1] |= same[1:]
    rows = np.flatnonzero(tied)
    few = ordered.select("person_id", "event_time", "event_id")[rows]
    kept[rows] = few.select(pl.struct(pl.all()).is_first_distinct()).to_series().to_numpy()
    return kept


def count_origins(events: pl.DataFrame) -> dict[tuple[str, str], int]:
    """Count rows by (source, source_partition)."""
    if events.height == 0:
        return {}
    source = renumber(read_codes(events["source"]), events["source"])
    partition = renumber(read_codes(events["source_partition"]), events["source_partition"])
    groups, rows, _ = count_groups([source.numbers, partition.numbers], [source.names.len(), partition.names.len()])
    return {
        (str(source.names[int(one)]), str(partition.names[int(other)])): int(count)
        for one, other, count in zip(*groups, rows, strict=True)
    }
