"""Sessions by inactivity gap and longest length, as a fold over ordered events."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from config import SessionRules
from events.hashing import hash_strings
from events.schema import CODED, SESSIONS, UTC
from events.times import to_date
from operators.columns import I64, Mask, mark_changes, match_keys, pick, read_us, to_utc
from operators.open_sessions import CLOSED, Merged, Notes, OpenSessions, Runs, merge_runs, name_sessions, start_sessions

__all__ = ["OpenSessions", "Sessionized", "finish_sessions", "match_state", "sessionize", "start_sessions"]

NO_EVENTS = pl.DataFrame(
    schema={
        "event_id": pl.String,
        "event_time": UTC,
        "person_id": pl.String,
        "channel": CODED,
        "step": CODED,
        "person_hash": pl.UInt64,
    }
)


@dataclass(frozen=True)
class Sessionized:
    """`events`: the input plus session_id, session_index, previous_step, previous_us (null at a session's start).

    `closed`: sessions that no later event can join (CLOSED); `open`: the rest.
    """

    events: pl.DataFrame
    closed: pl.DataFrame
    open: OpenSessions


def sessionize(
    events: pl.DataFrame, starts: I64, state: OpenSessions, rules: SessionRules, watermark: int
) -> Sessionized:
    """Fold ordered events into sessions and close those the watermark has passed.

    Input: `events` ordered by person and time, no null step or channel; `starts`: first row of each person;
    `state`: the open sessions, one a person. n -> n events; a session closes when a later one of the person
    begins or `watermark` > last event + gap. Semantics: docs/semantics.md, Sessions.
    """
    if events.height == 0:
        over = _is_over(state.sessions["started_us"].to_numpy(), state.sessions["last_us"].to_numpy(), rules, watermark)
        if not over.any():
            return Sessionized(events, pl.DataFrame(schema=CLOSED), state)
    rows = events if events.height else NO_EVENTS
    step, channel = rows["step"].cast(CODED), rows["channel"].cast(CODED)
    carried = match_state(rows, starts, state)
    times = read_us(rows["event_time"])
    runs = _cut_sessions(rows, times, (starts, carried), state.sessions, rules)
    previous, moves = _find_moves(step, runs, state)
    switches = mark_changes(channel.to_physical().to_numpy())
    switches[runs.begin] = True
    notes = (_take_notes(step, moves, runs), _take_notes(channel, switches, runs))
    merged = merge_runs(rows, times, runs, state, notes)
    over = _is_over(merged.numbers["started_us"], merged.numbers["last_us"], rules, watermark)
    closed, still_open = _divide(over, carried, runs)
    return Sessionized(
        _number_events(rows, times, runs, merged, previous) if events.height else events,
        merged.take_closed(closed, rules.max_path_steps),
        merged.take_open(still_open, rules.max_path_steps),
    )


def _is_over(started: I64, last: I64, rules: SessionRules, watermark: int) -> Mask:
    over: Mask = np.minimum(last + rules.gap, started + rules.max_session) < watermark
    return over


def match_state(events: pl.DataFrame, starts: I64, state: OpenSessions) -> I64:
    """Find each person's row in the state; one number a person, -1 where there is none."""
    if state.height == 0 or starts.size == 0:
        return np.full(len(starts), -1, dtype=np.int64)
    known, person = state.sessions["person_hash"].to_numpy(), events["person_id"]
    rows = match_keys(events["person_hash"].to_numpy()[starts], known)
    if rows is not None:
        hit = np.flatnonzero(rows >= 0)
        if (pick(person, starts[hit]) == pick(state.sessions["person_id"], rows[hit])).all():
            return rows
    # Two persons share a hash: match by the id as well.
    index = state.sessions.select("person_hash", "person_id").with_columns(pl.int_range(pl.len()).alias("row"))
    persons = events.select("person_hash", "person_id")[starts]
    found = persons.join(index, on=["person_hash", "person_id"], how="left", maintain_order="left")
    return found["row"].fill_null(-1).to_numpy()


def _cut_sessions(
    events: pl.DataFrame, times: I64, persons: tuple[I64, I64], state: pl.DataFrame, rules: SessionRules
) -> Runs:
    """Cut the rows into runs; `persons`: first row of each, and its row in the state."""
    starts, carried = persons
    n = len(times)
    first = np.zeros(n, dtype=np.bool_)
    first[starts] = True
    begins = first.copy()
    begins[1:] |= np.diff(times) > rules.gap
    goes_on = np.full(n, -1, dtype=np.int64)
    last, began = state["last_us"].to_numpy(), state["started_us"].to_numpy()
    known = carried >= 0
    at, rows = starts[known], carried[known]
    joins = times[at] - last[rows] <= rules.gap
    goes_on[at[joins]] = rows[joins]
    while True:
        begin = np.flatnonzero(begins)
        base = times[begin]
        if state.height:
            base = np.where(goes_on[begin] >= 0, began[goes_on[begin]], base)
        of_row = np.cumsum(begins) - 1
        beyond = np.flatnonzero(times - base[of_row] > rules.max_session)
        if not beyond.size:
            break
        # The first event past the longest session begins a new one; what follows is measured from there.
        cut = beyond[mark_changes(of_row[beyond])]
        begins[cut] = True
        goes_on[cut] = -1
    end = np.append(begin[1:], n) - 1 if begin.size else begin
    on = goes_on[begin]
    hashes = hash_strings(pick(events["event_id"], begin))
    if state.height:
        hashes = np.where(on >= 0, state["first_hash"].to_numpy()[on], hashes)
    return Runs(begin, end, (np.cumsum(first) - 1)[begin], on, of_row, hashes)


def _take_notes(column: pl.Series, marks: Mask, runs: Runs) -> Notes:
    rows = np.flatnonzero(marks)
    return Notes(column, rows, runs.of_row[rows])


def _find_moves(step: pl.Series, runs: Runs, state: OpenSessions) -> tuple[pl.Series, Mask]:
    """Return each row's previous step, null at a session's start, and the rows whose step differs from it."""
    n, m = step.len(), state.height
    at = np.arange(m - 1, m + n - 1)
    new = runs.begin[runs.carried < 0]
    at[runs.begin] = np.where(runs.carried >= 0, runs.carried, m + runs.begin)
    exits = state.sessions["exit_step"]
    previous = pick(pl.concat([exits, step.alias(exits.name)], rechunk=True), at)
    moves = previous.to_physical().to_numpy() != step.to_physical().to_numpy()
    moves[new] = True
    absent = np.zeros(n, dtype=np.bool_)
    absent[new] = True
    return previous.set(pl.Series(absent), None), moves


def _divide(over: Mask, carried: I64, runs: Runs) -> tuple[I64, I64]:
    """Return the rows of merged sessions that are closed, and those that stay open.

    A session of the state is closed if its person went on with another; a run is, if the person has a later one.
    """
    m = over.size - runs.begin.size
    ended = over.copy()
    ended[carried[carried >= 0]] = True
    ended[m:-1] |= runs.person[1:] == runs.person[:-1]
    there = np.ones(over.size, dtype=np.bool_)
    there[runs.carried[runs.carried >= 0]] = False
    return np.flatnonzero(there & ended), np.flatnonzero(there & ~ended)


def _number_events(events: pl.DataFrame, times: I64, runs: Runs, merged: Merged, previous: pl.Series) -> pl.DataFrame:
    sessions = {name: values[-runs.begin.size :] for name, values in merged.numbers.items()}
    on = np.flatnonzero(runs.carried >= 0)
    since = np.empty_like(times)
    since[1:] = times[:-1]
    since[runs.begin] = times[runs.begin]
    since[runs.begin[on]] = merged.numbers["last_us"][runs.carried[on]]
    # A session's events so far end at its run's last row.
    index = np.arange(len(times)) - (runs.end + 1 - sessions["events"])[runs.of_row]
    return events.hstack(
        [
            pick(name_sessions(sessions), runs.of_row).alias("session_id"),
            pl.Series("session_index", index.astype(np.int32)),
            previous.alias("previous_step"),
            pl.Series("previous_us", since),
        ]
    )


def finish_sessions(closed: pl.DataFrame) -> pl.DataFrame:
    """Make `sessions` rows (with `dt` and the halves of the path's hash) of closed sessions; n -> n."""
    started, ended = closed["started_us"].to_numpy(), closed["last_us"].to_numpy()
    derived = {
        "started_at": to_utc(started),
        "ended_at": to_utc(ended),
        # NumPy divides; Polars multiplies by the inverse, which is off in the last bit.
        "duration_s": pl.Series((ended - started) / 1e6),
        "dt": to_date(closed["started_us"]),
    }
    names = (*SESSIONS, "path_high", "path_low", "dt")
    return pl.DataFrame([derived[name].alias(name) if name in derived else closed[name] for name in names])
