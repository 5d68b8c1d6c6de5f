"""Ordered funnels, re-anchored on the latest entry, as a fold over ordered events.

Equal to ClickHouse's `windowFunnel` in its default mode (its state: per step the newest chain's entry), with one
row for each step that a chain reaches. Level by level, every event takes the newest chain of the level below.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from config import FunnelRules
from events.hashing import U64, hash_strings, mix, to_hex
from events.schema import CODED, FUNNEL_STEPS, Schema
from events.times import to_date
from operators.chains import CHAINS, Scopes, drop_expired, match_chains, merge_chains, number_attempts
from operators.columns import (
    BEGINNING,
    I64,
    Mask,
    mark_changes,
    pick,
    read_codes,
    read_us,
    to_utc,
)

# Inside the stream, names are categories.
REACHED: Schema = {**FUNNEL_STEPS, "funnel": CODED, "step": CODED, "channel": CODED, "dt": pl.Date}


@dataclass(frozen=True)
class Funnelled:
    """`reached`: rows of funnel_steps with `dt`; `chains`: the newest live chain per scope and level.

    Chains (CHAINS) are sorted by (scope_key, level); `attempt_*` are the halves of the attempt's id.
    """

    reached: pl.DataFrame
    chains: pl.DataFrame


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
        return Funnelled(pl.DataFrame(schema=REACHED), drop_expired(chains, rules.within, watermark))
    # Scopes without a hit keep their chains as they are.
    rows, owner = match_chains(chains, scopes, hits.who[mark_changes(hits.who)])
    work = _lay_out(hits, chains, rows, owner)
    names = _name_attempts(work, events, chains, rules)
    levels = _advance(work, number_attempts(chains, rows, owner), rules)
    reached = _report(work, events, levels, names, rules)
    left = np.ones(chains.height, dtype=np.bool_)
    left[rows] = False
    state = merge_chains(chains, np.flatnonzero(left), _take_state(work, events, scopes, levels, names, chains))
    return Funnelled(reached, drop_expired(state, rules.within, watermark))


def _find_scopes(events: pl.DataFrame, starts: I64, rules: FunnelRules) -> Scopes:
    if events.height == 0:
        return Scopes(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.uint64), pl.Series([], dtype=pl.String))
    begins = np.zeros(events.height, dtype=np.bool_)
    begins[starts] = True
    if rules.scope == "session":
        begins |= events["session_index"].to_numpy() == 0
    rows = np.flatnonzero(begins)
    if rules.scope == "session":
        ids = pick(events["session_id"], rows)
        keys = hash_strings(ids)
    else:
        ids = pick(events["person_id"], rows)
        keys = events["person_hash"].to_numpy()[rows]
    return Scopes(np.cumsum(begins) - 1, keys, ids)


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


def _find_hits(events: pl.DataFrame, scopes: Scopes, rules: FunnelRules) -> _Work:
    none = np.empty(0, dtype=np.int64)
    if events.height == 0:
        return _Work(none, none, none, none, none)
    times, codes = read_us(events["event_time"]), read_codes(events["step"])
    wanted = read_codes(pl.Series(rules.steps, dtype=pl.String))
    if len(set(rules.steps)) == len(rules.steps):
        place = np.full(int(max(codes.max(), wanted.max())) + 1, -1, dtype=np.int64)
        place[wanted] = np.arange(wanted.size)
        found = place[codes]
        row = np.flatnonzero(found >= 0)
        level = found[row]
    else:
        parts = [np.flatnonzero(codes == code) for code in wanted]
        row, level = np.concatenate(parts), np.repeat(np.arange(len(parts)), [part.size for part in parts])
    who, time = scopes.of_row[row], times[row]
    if not _is_sorted(who, time, level):
        order = np.lexsort((row, level, time, who))
        row, level, who, time = row[order], level[order], who[order], time[order]
    return _Work(who, time, level, row, time)


def _is_sorted(who: I64, time: I64, level: I64) -> bool:
    steps = [np.diff(column) for column in (who, time, level)]
    back = (steps[0] < 0) | ((steps[0] == 0) & ((steps[1] < 0) | ((steps[1] == 0) & (steps[2] < 0))))
    return not back.any()


def _lay_out(hits: _Work, chains: pl.DataFrame, rows: I64, owner: I64) -> _Work:
    """Put each scope's carried chains before its hits."""
    if rows.size == 0:
        return hits
    who = np.concatenate([owner, hits.who])
    order = np.argsort(who, kind="stable")
    entered, reached, level = (chains[name].to_numpy()[rows] for name in ("entered_us", "reached_us", "level"))
    return _Work(
        who[order],
        np.concatenate([entered, hits.time])[order],
        np.concatenate([level, hits.level])[order],
        np.concatenate([-1 - rows, hits.row])[order],
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


@dataclass(frozen=True)
class _Names:
    """Halves of the ids of all attempts, the state's first; `place`: where each row that enters one has its id."""

    high: U64
    low: U64
    place: I64


def _name_attempts(work: _Work, events: pl.DataFrame, chains: pl.DataFrame, rules: FunnelRules) -> _Names:
    made = np.flatnonzero((work.level == 0) & (work.row >= 0))
    row = work.row[made]
    parts = (
        np.full(row.size, hash_strings(pl.Series([rules.name]))[0], dtype=np.uint64),
        events["person_hash"].to_numpy()[row],
        work.time[made].view(np.uint64),
        hash_strings(pick(events["event_id"], row)),
    )
    place = np.where(work.row < 0, -1 - work.row, 0)
    place[made] = chains.height + np.arange(row.size)
    return _Names(
        np.concatenate([chains["attempt_high"].to_numpy(), mix(*parts, seed=5)]),
        np.concatenate([chains["attempt_low"].to_numpy(), mix(*parts, seed=6)]),
        place,
    )


def _report(work: _Work, events: pl.DataFrame, levels: _Levels, names: _Names, rules: FunnelRules) -> pl.DataFrame:
    rows = np.flatnonzero(levels.fresh)
    entry = levels.entry[rows]
    entered, reached, level, row = work.time[entry], work.time[rows], work.level[rows], work.row[rows]
    previous = np.where(level == 0, reached, levels.below[rows])
    place = names.place[entry]
    return pl.DataFrame(
        {
            "funnel": pl.Series([rules.name], dtype=pl.String).cast(CODED).new_from_index(0, rows.size),
            "attempt_id": to_hex(names.high[place], names.low[place]),
            "person_id": pick(events["person_id"], row),
            "step_index": pl.Series(level.astype(np.int32)),
            "step": pick(pl.Series(rules.steps, dtype=pl.String).cast(CODED), level),
            "entered_at": to_utc(entered),
            "reached_at": to_utc(reached),
            "seconds_from_entry": (reached - entered) / 1e6,
            "seconds_from_previous": (reached - previous) / 1e6,
            "channel": pick(events["channel"], row),
            "dt": to_date(pl.Series(reached)),
        }
    )


def _take_state(
    work: _Work, events: pl.DataFrame, scopes: Scopes, levels: _Levels, names: _Names, chains: pl.DataFrame
) -> pl.DataFrame:
    took = np.flatnonzero(levels.took)
    depth = int(work.level.max()) + 1
    # Of each scope and level the last row taken; rows are in order already.
    newest = np.full(scopes.ids.len() * depth, -1, dtype=np.int64)
    newest[work.who[took] * depth + work.level[took]] = took
    rows = newest[newest >= 0]
    entry, who, row = levels.entry[rows], work.who[rows], work.row[rows]
    person, place = events["person_hash"].to_numpy()[np.maximum(row, 0)], names.place[entry]
    if chains.height:
        person = np.where(row < 0, chains["person_hash"].to_numpy()[np.maximum(-1 - row, 0)], person)
    return pl.DataFrame(
        {
            "scope_key": scopes.keys[who],
            "scope_id": pick(scopes.ids, who),
            "person_hash": person,
            "level": work.level[rows],
            "entered_us": work.time[entry],
            "reached_us": levels.first[rows],
            "attempt_high": names.high[place],
            "attempt_low": names.low[place],
        },
        schema=CHAINS,
    )
