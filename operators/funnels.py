"""Ordered funnels, re-anchored on the latest entry, as a fold over ordered events.

Equal to ClickHouse's `windowFunnel` in its default mode (its state: per step the newest chain's entry), with one
row for each step that a chain reaches. Level by level, every event takes the newest chain of the level below.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from config import FunnelRules
from events.hashing import hash_strings, mix, to_hex
from events.schema import FUNNEL_STEPS, Schema
from operators.columns import BEGINNING, I64, Mask, mark_changes, read_us, to_mask, to_utc

CHAINS: Schema = {
    "scope_key": pl.UInt64,
    "scope_id": pl.String,
    "person_hash": pl.UInt64,
    "level": pl.Int64,
    "entered_us": pl.Int64,
    "reached_us": pl.Int64,
    "attempt_id": pl.String,
}


@dataclass(frozen=True)
class Funnelled:
    """`reached`: rows of funnel_steps with `dt`; `chains`: the newest live chain per scope and level (CHAINS)."""

    reached: pl.DataFrame
    chains: pl.DataFrame


def start_chains() -> pl.DataFrame:
    """Return the state of a funnel that nobody has entered."""
    return pl.DataFrame(schema=CHAINS)


def fold_funnel(events: pl.DataFrame, starts: I64, chains: pl.DataFrame, rules: FunnelRules, watermark: int) -> Funnelled:
    """Advance one funnel over ordered events.

    Input: events of `sessionize`, ordered by person and time (person_hash, person_id, event_id, event_time, step,
    channel, session_id, session_index); `starts`: first row of each person; `chains`: the state. n -> m rows.
    Chains that `watermark` shows to be past their window are dropped. Semantics: docs/semantics.md, Funnels.
    """
    scopes = _find_scopes(events, starts, rules)
    hits = _find_hits(events, scopes, rules)
    if hits.height == 0:
        return Funnelled(pl.DataFrame(schema={**FUNNEL_STEPS, "dt": pl.Date}), _drop_expired(chains, rules, watermark))
    owner = _match_chains(chains, scopes)
    # Scopes without a hit keep their chains as they are.
    hit = np.zeros(scopes.ids.len(), dtype=np.bool_)
    hit[hits["who"].to_numpy()] = True
    touched = (owner >= 0) & hit[np.maximum(owner, 0)] if scopes.ids.len() else owner >= 0
    work = _lay_out(hits, chains.filter(pl.Series(touched)), owner[touched])
    levels = _advance(work, rules)
    reached = _report(work, events, levels, rules)
    state = pl.concat([chains.filter(pl.Series(~touched)), _take_state(work, events, scopes, levels, rules)])
    return Funnelled(reached, _drop_expired(state, rules, watermark))


@dataclass(frozen=True)
class _Scopes:
    """The persons (or sessions) of a batch: number of each row's scope, keys and ids of the scopes."""

    of_row: I64
    keys: npt.NDArray[np.uint64]
    ids: pl.Series


def _find_scopes(events: pl.DataFrame, starts: I64, rules: FunnelRules) -> _Scopes:
    if events.height == 0:
        return _Scopes(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.uint64), pl.Series([], dtype=pl.String))
    begins = np.zeros(events.height, dtype=np.bool_)
    begins[starts] = True
    if rules.scope == "session":
        begins |= events["session_index"].to_numpy() == 0
    rows = np.flatnonzero(begins)
    if rules.scope == "session":
        ids = events["session_id"].gather(rows)
        keys = hash_strings(ids)
    else:
        ids = events["person_id"].gather(rows)
        keys = events["person_hash"].to_numpy()[rows]
    return _Scopes(np.cumsum(begins) - 1, keys, ids)


def _find_hits(events: pl.DataFrame, scopes: _Scopes, rules: FunnelRules) -> pl.DataFrame:
    schema = {"who": pl.Int64, "turn": pl.Int8, "time": pl.Int64, "level": pl.Int64, "row": pl.Int64}
    if events.height == 0:
        return pl.DataFrame(schema=schema)
    times, step = read_us(events["event_time"]), events["step"]
    parts = []
    for level, name in enumerate(rules.steps):
        rows = np.flatnonzero(to_mask(step == name))
        parts.append(
            pl.DataFrame(
                {"who": scopes.of_row[rows], "turn": 1, "time": times[rows], "level": level, "row": rows}, schema=schema
            )
        )
    return pl.concat(parts)


def _match_chains(chains: pl.DataFrame, scopes: _Scopes) -> I64:
    """Give each chain the number of its scope in the batch, -1 if it has none."""
    if chains.height == 0 or scopes.ids.len() == 0:
        return np.full(chains.height, -1, dtype=np.int64)
    index = pl.DataFrame({"scope_key": scopes.keys, "scope_id": scopes.ids}).with_row_index("who")
    found = chains.select("scope_key").join(index.drop("scope_id"), on="scope_key", how="left", maintain_order="left")
    owner = found["who"].cast(pl.Int64).fill_null(-1).to_numpy()
    if len(owner) == chains.height:
        known = owner >= 0
        if (chains["scope_id"].filter(pl.Series(known)) == scopes.ids.gather(owner[known])).all():
            return owner
    # Two scopes share a key: match by the id as well.
    found = chains.select("scope_key", "scope_id").join(
        index, on=["scope_key", "scope_id"], how="left", maintain_order="left"
    )
    return found["who"].cast(pl.Int64).fill_null(-1).to_numpy()


def _lay_out(hits: pl.DataFrame, carried: pl.DataFrame, owner: I64) -> pl.DataFrame:
    """Put each scope's carried chains before its hits; ties go to the funnel's order, then to arrival."""
    before = carried.select(
        pl.Series("who", owner),
        pl.lit(0, dtype=pl.Int8).alias("turn"),
        pl.col("entered_us").alias("time"),
        "level",
        pl.lit(-1, dtype=pl.Int64).alias("row"),
        "reached_us",
        "attempt_id",
        "person_hash",
    )
    work = pl.concat([before, hits], how="diagonal")
    return work.sort("who", "turn", "time", "level", "row")


@dataclass(frozen=True)
class _Levels:
    """Per row of the work frame: did it take its level; which row entered its chain; when that chain first took the
    level; and the same for the level below."""

    took: Mask
    entry: I64
    first: I64
    below: I64
    fresh: Mask


def _advance(work: pl.DataFrame, rules: FunnelRules) -> _Levels:
    n = work.height
    rows = np.arange(n, dtype=np.int64)
    time, level = work["time"].to_numpy(), work["level"].to_numpy()
    is_carried = work["turn"].to_numpy() == 0
    began = _begin_of_scope(work)
    chain = _name_chains(work, is_carried)
    took, fresh = is_carried.copy(), np.zeros(n, dtype=np.bool_)
    entry, entered = np.where(is_carried | (level == 0), rows, -1), time.copy()
    first = np.where(is_carried, work["reached_us"].fill_null(0).to_numpy(), time)
    below = np.full(n, BEGINNING, dtype=np.int64)
    for depth in range(len(rules.steps)):
        here = level == depth
        if depth == 0:
            took[here] = True
        else:
            mine = np.flatnonzero(here & ~is_carried)
            lower = _latest(took & (level == depth - 1))[mine]
            valid = (lower >= began[mine]) & (lower >= 0)
            valid &= time[mine] <= np.where(valid, entered[lower], 0) + rules.within
            mine, lower = mine[valid], lower[valid]
            took[mine] = True
            entry[mine], entered[mine], below[mine], chain[mine] = entry[lower], entered[lower], first[lower], chain[lower]
        _find_first(here & took, chain, began, first, fresh, is_carried)
    return _Levels(took, entry, first, below, fresh)


def _begin_of_scope(work: pl.DataFrame) -> I64:
    changed = mark_changes(work["who"].to_numpy())
    return np.maximum.accumulate(np.where(changed, np.arange(work.height), 0))


def _name_chains(work: pl.DataFrame, is_carried: Mask) -> I64:
    # A chain is known by its entry's row; carried chains of several levels that share an attempt share a name.
    names = np.arange(work.height, dtype=np.int64)
    rows = np.flatnonzero(is_carried)
    if rows.size:
        attempts = work["attempt_id"].gather(rows)
        ranks = attempts.rank("dense").cast(pl.Int64).to_numpy()
        names[rows] = -ranks
    return names


def _latest(marks: Mask) -> I64:
    """Give each row the number of the last marked row at or before it, -1 if none."""
    return np.maximum.accumulate(np.where(marks, np.arange(len(marks)), -1))


def _find_first(marks: Mask, chain: I64, began: I64, first: I64, fresh: Mask, is_carried: Mask) -> None:
    rows = np.flatnonzero(marks)
    if rows.size == 0:
        return
    again = np.zeros(rows.size, dtype=np.bool_)
    again[1:] = (chain[rows[1:]] == chain[rows[:-1]]) & (rows[:-1] >= began[rows[1:]])
    fresh[rows] = ~again & ~is_carried[rows]
    # A chain that takes the same level again keeps the moment of its first arrival.
    start = np.maximum.accumulate(np.where(~again, np.arange(rows.size), 0))
    first[rows] = first[rows[start]]


def _attempt_ids(work: pl.DataFrame, events: pl.DataFrame, entry: I64, rules: FunnelRules) -> pl.Series:
    """Return the attempt ids of the given entry rows: kept for carried chains, made for new ones."""
    ids = work["attempt_id"].gather(entry)
    new = ids.is_null().arg_true().to_numpy()
    if new.size:
        row = work["row"].to_numpy()[entry[new]]
        parts = (
            np.full(row.size, hash_strings(pl.Series([rules.name]))[0], dtype=np.uint64),
            events["person_hash"].to_numpy()[row],
            read_us(events["event_time"])[row].view(np.uint64),
            hash_strings(events["event_id"].gather(row)),
        )
        ids = ids.scatter(new, to_hex(mix(*parts, seed=5), mix(*parts, seed=6)))
    return ids


def _report(work: pl.DataFrame, events: pl.DataFrame, levels: _Levels, rules: FunnelRules) -> pl.DataFrame:
    rows = np.flatnonzero(levels.fresh)
    entry, time = levels.entry[rows], work["time"].to_numpy()
    entered, reached, level = time[entry], time[rows], work["level"].to_numpy()[rows]
    previous = np.where(level == 0, reached, levels.below[rows])
    row, when = work["row"].to_numpy()[rows], to_utc(reached)
    return pl.DataFrame(
        {
            "funnel": pl.Series([rules.name], dtype=pl.String).new_from_index(0, rows.size),
            "attempt_id": _attempt_ids(work, events, entry, rules),
            "person_id": events["person_id"].gather(row),
            "step_index": pl.Series(level).cast(pl.Int32),
            "step": pl.Series(rules.steps, dtype=pl.String).gather(level),
            "entered_at": to_utc(entered),
            "reached_at": when,
            "seconds_from_entry": (reached - entered) / 1e6,
            "seconds_from_previous": (reached - previous) / 1e6,
            "channel": events["channel"].gather(row),
            "dt": when.dt.date(),
        },
        schema={**FUNNEL_STEPS, "dt": pl.Date},
    )


def _take_state(
    work: pl.DataFrame, events: pl.DataFrame, scopes: _Scopes, levels: _Levels, rules: FunnelRules
) -> pl.DataFrame:
    took = np.flatnonzero(levels.took)
    who, level = work["who"].to_numpy()[took], work["level"].to_numpy()[took]
    # Of each scope and level the last row taken; rows are in order already.
    depth = len(rules.steps)
    newest = np.full(scopes.ids.len() * depth, -1, dtype=np.int64)
    newest[who * depth + level] = took
    rows = newest[newest >= 0]
    entry, who = levels.entry[rows], work["who"].to_numpy()[rows]
    row = work["row"].to_numpy()[rows]
    carried = work["person_hash"].fill_null(0).to_numpy()[rows]
    return pl.DataFrame(
        {
            "scope_key": scopes.keys[who],
            "scope_id": scopes.ids.gather(who),
            "person_hash": np.where(row >= 0, events["person_hash"].to_numpy()[np.maximum(row, 0)], carried),
            "level": work["level"].to_numpy()[rows],
            "entered_us": work["time"].to_numpy()[entry],
            "reached_us": levels.first[rows],
            "attempt_id": _attempt_ids(work, events, entry, rules),
        },
        schema=CHAINS,
    )


def _drop_expired(chains: pl.DataFrame, rules: FunnelRules, watermark: int) -> pl.DataFrame:
    live = chains["entered_us"].to_numpy() >= watermark - rules.within
    return chains if live.all() else chains.filter(pl.Series(live))
