"""Sessions: cut at gaps and at the longest session, the same whether events come at once or in batches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest

from config import SessionRules
from operators.columns import FOREVER
from operators.sessionize import OpenSessions, Sessionized, finish_sessions, match_state, sessionize, start_sessions
from tests.support.frames import SECOND, T0, make_events, order_events, texts
from tests.support.hashing_reference import hash_text, make_id

RULES = SessionRules(gap=10 * SECOND, max_session=25 * SECOND, allowed_lateness=0, max_path_steps=3)
Row = tuple[str, float, str]


def fold(
    *batches: pl.DataFrame | Sequence[Row], rules: SessionRules = RULES
) -> tuple[list[pl.DataFrame], pl.DataFrame]:
    """Sessionize batches one after another; return each batch's events, and all sessions.

    Each batch's watermark is its last event's time, so that nothing closes before its time; what is open closes last.
    """
    state = start_sessions()
    events: list[pl.DataFrame] = []
    closed: list[pl.DataFrame] = []
    for batch in batches:
        frame = batch if isinstance(batch, pl.DataFrame) else make_events(batch, first_position=100 * len(events))
        ordered, starts = order_events(frame)
        done = sessionize(ordered, starts, state, rules, int(frame["event_time"].to_physical().max()))  # type: ignore[arg-type]
        state = done.open
        events.append(done.events)
        closed.append(done.closed)
    last = end(state, FOREVER, rules)
    return events, finish_sessions(pl.concat([*closed, last.closed])).sort("person_id", "started_at")


def end(state: OpenSessions, watermark: int, rules: SessionRules = RULES) -> Sessionized:
    return sessionize(pl.DataFrame(), np.empty(0, dtype=np.int64), state, rules, watermark)


def spans(sessions: pl.DataFrame) -> list[tuple[str, float, float, int]]:
    """Return (person, start, end in seconds after T0, events) of each session."""
    rows = sessions.select("person_id", pl.col("started_at", "ended_at").to_physical() - T0, "events").rows()
    return [(person, started / SECOND, ended / SECOND, count) for person, started, ended, count in rows]


@pytest.mark.parametrize("split", [False, True])
def test_pause_as_long_as_the_gap_goes_on_and_longer_begins_anew(split: bool) -> None:
    """Also between two batches."""
    rows = [("u", 0, "a"), ("u", 10, "b"), ("u", 20.000001, "c")]
    batches = [[row] for row in rows] if split else [rows]
    _, sessions = fold(*batches)
    assert spans(sessions) == [("u", 0, 10, 2), ("u", 20.000001, 20.000001, 1)]


@pytest.mark.parametrize("split", [False, True])
def test_longest_session_is_cut_at_the_first_event_beyond_it(split: bool) -> None:
    """An event exactly at the limit still belongs; the next session is measured from its own first event."""
    rows = [("u", at, "a") for at in (0, 9, 18, 25, 25.000001, 35, 45, 50.000001, 50.000002)]
    batches = [[row] for row in rows] if split else [rows]
    events, sessions = fold(*batches)
    assert spans(sessions) == [("u", 0, 25, 4), ("u", 25.000001, 50.000001, 4), ("u", 50.000002, 50.000002, 1)]
    numbered = pl.concat(events)["session_index"].to_list()
    assert numbered == [0, 1, 2, 3, 0, 1, 2, 3, 0]


def test_session_that_a_batch_cuts_in_the_middle_keeps_its_id_and_counts_on() -> None:
    whole, _ = fold([("u", 0, "a"), ("u", 1, "b"), ("u", 2, "c")])
    first, second = fold([("u", 0, "a")], [("u", 1, "b"), ("u", 2, "c")])[0]
    assert second["session_index"].to_list() == [1, 2]
    assert set(second["session_id"]) == set(first["session_id"]) == set(whole[0]["session_id"])
    assert texts(second, "previous_step") == [("a",), ("b",)]
    assert second["previous_us"].to_list() == [T0, T0 + SECOND]


def test_session_begins_without_a_previous_step() -> None:
    events = fold([("u", 0, "a"), ("u", 20, "b"), ("v", 21, "c")])[0][0]
    assert events["previous_step"].null_count() == 3
    assert (events["previous_us"] == events["event_time"].to_physical()).all()


def test_session_id_is_the_hash_of_person_start_and_first_event() -> None:
    """A literal id: it must never change."""
    events, sessions = fold([("u", 0, "a"), ("u", 1, "b")])
    expected = make_id(hash_text("u"), T0, hash_text("p0"), seeds=(1, 2))
    assert sessions["session_id"].to_list() == [expected]
    assert events[0]["session_id"].to_list() == [expected] * 2
    assert expected == "2ff01a241a3f9aac374530676890f438"


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 5])
def test_device_user_and_channels_are_the_first_known_and_in_order_of_appearance(cut: int) -> None:
    """However a batch cuts the session."""
    frame = make_events(
        [("u", at, "a") for at in range(6)],
        device_id=[None, None, "d2", "d3", None, "d5"],
        user_id=[None, None, None, None, "u4", "u5"],
        channel=["web", "store", "web", "mobile", "store", "web"],
    )
    _, sessions = fold(frame[:cut], frame[cut:])
    columns = ("device_id", "user_id", "channels", "entry_channel")
    assert sessions.select(columns).rows() == [("d2", "u4", ["web", "store", "mobile"], "web")]


def test_ids_are_not_borrowed_from_the_next_session_or_person() -> None:
    """A session in which no device is known has none, though the row after it has one."""
    frame = make_events(
        [("u", 0, "a"), ("u", 20, "b"), ("v", 0, "c")], device_id=[None, "d1", None], user_id=[None, None, "v"]
    )
    _, sessions = fold(frame)
    assert sessions.select("person_id", "device_id", "user_id").rows() == [
        ("u", None, None),
        ("u", "d1", None),
        ("v", None, "v"),
    ]


def test_devices_and_users_that_no_event_of_a_batch_has_are_null() -> None:
    """A block leaves out columns that are null throughout; the next batch may bring them."""
    bare = make_events([("u", 0, "a")]).drop("device_id", "user_id")
    _, sessions = fold(bare, make_events([("u", 1, "b")], device_id=["d"], first_position=1))
    assert sessions.select("device_id", "user_id").rows() == [("d", "u")]


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 5])
def test_steps_are_collapsed_and_cut_however_a_batch_cuts_the_session(cut: int) -> None:
    rows = [("u", at, step) for at, step in enumerate("aabbac")]
    _, sessions = fold(rows[:cut], rows[cut:])
    assert sessions.select("steps", "path_cut", "entry_step", "exit_step").rows() == [(["a", "b", "a"], True, "a", "c")]


def test_path_as_long_as_allowed_is_not_cut_and_stays_so() -> None:
    _, sessions = fold([("u", 0, "a"), ("u", 1, "b")], [("u", 2, "c"), ("u", 3, "c")])
    assert sessions.select("steps", "path_cut").rows() == [(["a", "b", "c"], False)]


def test_cut_path_goes_on_being_cut_when_later_steps_come() -> None:
    _, sessions = fold([("u", at, s) for at, s in enumerate("abcd")], [("u", 5, "d")], [("u", 6, "e")])
    assert sessions.select("steps", "path_cut", "exit_step").rows() == [(["a", "b", "c"], True, "e")]


def test_cut_path_stays_cut_when_another_persons_path_is_cut() -> None:
    rows: list[Row] = [("u", at, step) for at, step in enumerate("abcd")]
    _, sessions = fold(rows, [("u", 5, "d"), *(("v", at, step) for at, step in enumerate("abcd", start=5))])
    assert sessions.select("person_id", "path_cut").rows() == [("u", True), ("v", True)]


def test_session_closes_when_the_watermark_is_past_the_last_event_plus_gap() -> None:
    """At exactly that moment an event could still join it."""
    ordered, starts = order_events(make_events([("u", 0, "a")]))
    state = sessionize(ordered, starts, start_sessions(), RULES, T0).open
    assert end(state, T0 + 10 * SECOND).closed.height == 0
    assert end(state, T0 + 10 * SECOND + 1).closed.height == 1
    assert end(state, T0 + 10 * SECOND + 1).open.height == 0


def test_session_closes_when_the_watermark_is_past_its_longest_time() -> None:
    rows = [("u", at, "a") for at in (0, 10, 20)]
    ordered, starts = order_events(make_events(rows))
    state = sessionize(ordered, starts, start_sessions(), RULES, T0).open
    assert end(state, T0 + 25 * SECOND).closed.height == 0
    assert end(state, T0 + 25 * SECOND + 1).closed.height == 1


def test_quiet_persons_stay_open_while_others_speak() -> None:
    rows_u, rows_v = [("u", 0, "a")], [("v", 1, "b")]
    events, sessions = fold(rows_u, rows_v, [("u", 5, "c"), ("v", 6, "d")])
    assert spans(sessions) == [("u", 0, 5, 2), ("v", 1, 6, 2)]
    assert [frame.height for frame in events] == [1, 1, 2]


def test_state_of_persons_with_one_hash_is_kept_apart() -> None:
    """Each person goes on with the own session, whether the others of the hash are there or not."""
    hashes = {"u": 7, "v": 7, "w": 7}
    batches = [
        make_events([("u", 0, "a"), ("v", 1, "b")], hashes=hashes),
        make_events([("v", 2, "c"), ("w", 3, "d")], hashes=hashes, first_position=2),
        make_events([("w", 4, "e"), ("u", 5, "f")], hashes=hashes, first_position=4),
    ]
    _, sessions = fold(*batches)
    assert sessions.select("person_id", "steps").rows() == [("u", ["a", "f"]), ("v", ["b", "c"]), ("w", ["d", "e"])]


def test_state_is_matched_by_id_where_hashes_agree() -> None:
    hashes = {"u": 7, "v": 7, "x": 9}
    ordered, starts = order_events(make_events([("v", 0, "a"), ("x", 0, "a")], hashes=hashes))
    state = sessionize(ordered, starts, start_sessions(), RULES, T0).open
    both, begins = order_events(make_events([("u", 1, "a"), ("x", 1, "a")], hashes=hashes))
    place = {person: row for row, person in enumerate(state.sessions["person_id"])}
    assert match_state(both, begins, state).tolist() == [-1, place["x"]]
    only, begins = order_events(make_events([("u", 1, "a")], hashes=hashes))
    assert match_state(only, begins, state).tolist() == [-1]
    assert match_state(only, begins, start_sessions()).tolist() == [-1]


def test_duration_and_day_are_those_of_the_start() -> None:
    """To the last bit: what a division of the microseconds by a million gives."""
    _, sessions = fold([("u", 6399.5, "a"), ("u", 6401, "b")], [("v", at, "a") for at in (0, 10, 20, 20.000001)])
    found = sessions.select("duration_s", pl.col("dt").cast(pl.String)).rows()  # u: around midnight
    assert found == [(1.5, "2023-11-14"), (20.000001, "2023-11-14")]
