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
from operators.columns import BEGINNING, I64, Mask, mark_changes, read_codes, read_us, to_utc

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


def fold_funnel(
    events: pl.DataFrame, starts: I64, chains: pl.DataFrame, rules: FunnelRules, watermark: int
) -> Funnelled:
    """Advance one funnel over ordered events.

    Input: events of `sessionize`, ordered by person and time (person_hash, person_id, event_id, event_time, step,
    channel, session_id, session_index); `starts`: first row of each person; `chains`: the state. n -> m rows.
    Chains that `watermark` shows to be past their window are dropped. Semantics: docs/semantics.md, Funnels.
    """
    scopes = _find_scopes(events, starts, rules)
    hits = _find_hits(events, scopes, rules)
    if hits.row.size == 0:
        return Funnelled(pl.DataFrame(schema={**FUNNEL_STEPS, "dt": pl.Date}), _drop_expired(chains, rules, watermark))
    owner = _match_chains(chains, scopes)
    # Scopes without a hit keep their chains as they are.
    hit = np.zeros(scopes.ids.len(), dtype=np.bool_)
    hit[hits.who] = True
    touched = (owner >= 0) & hit[np.maximum(owner, 0)]
    work = _lay_out(hits, chains, owner, touched)
    names = _name_attempts(work, events, chains, rules)
    levels = _advance(work, _number_attempts(chains, touched), rules)
    reached = _report(work, events, levels, names, rules)
    state = pl.concat([chains.filter(pl.Series(~touched)), _take_state(work, events, scopes, levels, names, chains)])
    return Funnelled(reached, _drop_expired(state, rules, watermark))


def _number_attempts(chains: pl.DataFrame, touched: Mask) -> I64:
    """Number the attempts of carried chains, equal for equal ids; 0 for the rest of the state."""
    numbers = np.zeros(chains.height, dtype=np.int64)
    if touched.any():
        numbers[touched] = chains["attempt_id"].filter(pl.Series(touched)).rank("dense").cast(pl.Int64).to_numpy()
    return numbers


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


@dataclass(frozen=True)
class _Work:
    """Carried chains and hits of a batch, by (scope, carried first, time, level, arrival); one row each.

    `row`: the event's row, -1 - (row of the state) for a carried chain.
    """

    who: I64
    time: I64
    level: I64
    row: I64
    reached: I64

    @property
    def is_carried(self) -> Mask:
        return self.row < 0


def _find_hits(events: pl.DataFrame, scopes: _Scopes, rules: FunnelRules) -> _Work:
    none = np.empty(0, dtype=np.int64)
    if events.height == 0:
        return _Work(none, none, none, none, none)
    times, codes = read_us(events["event_time"]), read_codes(events["step"])
    wanted = read_codes(pl.Series(rules.steps, dtype=pl.String))
    parts = [np.flatnonzero(codes == code) for code in wanted]
    row = np.concatenate(parts)
    level = np.repeat(np.arange(len(parts)), [part.size for part in parts])
    order = np.lexsort((row, level, times[row], scopes.of_row[row]))
    row, level = row[order], level[order]
    return _Work(scopes.of_row[row], times[row], level, row, times[row])


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


def _lay_out(hits: _Work, chains: pl.DataFrame, owner: I64, touched: Mask) -> _Work:
    """Put each scope's carried chains before its hits."""
    carried = np.flatnonzero(touched)
    if carried.size == 0:
        return hits
    who = np.concatenate([owner[carried], hits.who])
    order = np.argsort(who, kind="stable")
    entered, reached = chains["entered_us"].to_numpy()[carried], chains["reached_us"].to_numpy()[carried]
    return _Work(
        who[order],
        np.concatenate([entered, hits.time])[order],
        np.concatenate([chains["level"].to_numpy()[carried], hits.level])[order],
        np.concatenate([-1 - carried, hits.row])[order],
        np.concatenate([reached, hits.time])[order],
    )


@dataclass(frozen=True)
class _Levels:
    """Per row of the work frame: did it take its level; which row entered its chain; when that chain first took the
    level; and the same for the level below."""

    took: Mask
    entry: I64
    first: I64
    below: I64
    fresh: Mask


def _advance(work: _Work, attempts: I64, rules: FunnelRules) -> _Levels:
    n = work.row.size
    rows = np.arange(n, dtype=np.int64)
    is_carried = work.is_carried
    began = np.maximum.accumulate(np.where(mark_changes(work.who), rows, 0))
    # A chain is known by its entry's row; carried chains of several levels that are one attempt share a name.
    chain = (
        np.where(is_carried, -1 - attempts[np.where(is_carried, -1 - work.row, 0)], rows)
        if attempts.size
        else rows.copy()
    )
    took, fresh = is_carried.copy(), np.zeros(n, dtype=np.bool_)
    entry, entered = rows.copy(), work.time.copy()
    first, below = work.reached.copy(), np.full(n, BEGINNING, dtype=np.int64)
    for depth in range(len(rules.steps)):
        here = work.level == depth
        mine = np.flatnonzero(here & ~is_carried)
        if depth > 0 and mine.size:
            lower = _latest(took & (work.level == depth - 1))[mine]
            valid = lower >= began[mine]
            valid &= work.time[mine] <= np.where(valid, entered[lower], 0) + rules.within
            mine, lower = mine[valid], lower[valid]
            entry[mine], entered[mine], below[mine], chain[mine] = (
                entry[lower],
                entered[lower],
                first[lower],
                chain[lower],
            )
        took[mine] = True
        _find_first(np.flatnonzero(here & took), chain, began, first, fresh)
    return _Levels(took, entry, first, below, fresh & ~is_carried)


def _latest(marks: Mask) -> I64:
    """Give each row the number of the last marked row at or before it, -1 if none."""
    return np.maximum.accumulate(np.where(marks, np.arange(len(marks)), -1))


def _find_first(rows: I64, chain: I64, began: I64, first: I64, fresh: Mask) -> None:
    if rows.size == 0:
        return
    again = np.zeros(rows.size, dtype=np.bool_)
    again[1:] = (chain[rows[1:]] == chain[rows[:-1]]) & (rows[:-1] >= began[rows[1:]])
    fresh[rows] = ~again
    # A chain that takes the same level again keeps the moment of its first arrival.
    start = np.maximum.accumulate(np.where(~again, np.arange(rows.size), 0))
    first[rows] = first[rows[start]]


def _name_attempts(
    work: _Work, events: pl.DataFrame, chains: pl.DataFrame, rules: FunnelRules
) -> tuple[pl.Series, I64]:
    """Return the ids of all attempts, the state's first, and the place in it of each row that enters one."""
    made = np.flatnonzero((work.level == 0) & (work.row >= 0))
    row = work.row[made]
    parts = (
        np.full(row.size, hash_strings(pl.Series([rules.name]))[0], dtype=np.uint64),
        events["person_hash"].to_numpy()[row],
        work.time[made].view(np.uint64),
        hash_strings(events["event_id"].gather(row)),
    )
    ids = pl.concat([chains["attempt_id"], to_hex(mix(*parts, seed=5), mix(*parts, seed=6))], rechunk=True)
    place = np.where(work.row < 0, -1 - work.row, 0)
    place[made] = chains.height + np.arange(row.size)
    return ids, place


def _report(
    work: _Work, events: pl.DataFrame, levels: _Levels, names: tuple[pl.Series, I64], rules: FunnelRules
) -> pl.DataFrame:
    rows = np.flatnonzero(levels.fresh)
    ids, place = names
    entry = levels.entry[rows]
    entered, reached, level, row = work.time[entry], work.time[rows], work.level[rows], work.row[rows]
    previous = np.where(level == 0, reached, levels.below[rows])
    when = to_utc(reached)
    return pl.DataFrame(
        {
            "funnel": pl.Series([rules.name], dtype=pl.String).new_from_index(0, rows.size),
            "attempt_id": ids.gather(place[entry]),
            "person_id": events["person_id"].gather(row),
            "step_index": pl.Series(level).cast(pl.Int32),
            "step": pl.Series(rules.steps, dtype=pl.String).gather(level),
            "entered_at": to_utc(entered),
            "reached_at": when,
            "seconds_from_entry": (reached - entered) / 1e6,
            "seconds_from_previous": (reached - previous) / 1e6,
            "channel": events["channel"].gather(row).cast(pl.String),
            "dt": when.dt.date(),
        }
    )


def _take_state(
    work: _Work,
    events: pl.DataFrame,
    scopes: _Scopes,
    levels: _Levels,
    names: tuple[pl.Series, I64],
    chains: pl.DataFrame,
) -> pl.DataFrame:
    took = np.flatnonzero(levels.took)
    depth = int(work.level.max()) + 1
    # Of each scope and level the last row taken; rows are in order already.
    newest = np.full(scopes.ids.len() * depth, -1, dtype=np.int64)
    newest[work.who[took] * depth + work.level[took]] = took
    rows = newest[newest >= 0]
    ids, place = names
    entry, who, row = levels.entry[rows], work.who[rows], work.row[rows]
    person = events["person_hash"].to_numpy()[np.maximum(row, 0)]
    if chains.height:
        person = np.where(row < 0, chains["person_hash"].to_numpy()[np.maximum(-1 - row, 0)], person)
    return pl.DataFrame(
        {
            "scope_key": scopes.keys[who],
            "scope_id": scopes.ids.gather(who),
            "person_hash": person,
            "level": work.level[rows],
            "entered_us": work.time[entry],
            "reached_us": levels.first[rows],
            "attempt_id": ids.gather(place[entry]),
        },
        schema=CHAINS,
    )


def _drop_expired(chains: pl.DataFrame, rules: FunnelRules, watermark: int) -> pl.DataFrame:
    live = chains["entered_us"].to_numpy() >= watermark - rules.within
    return chains if live.all() else chains.filter(pl.Series(live))
