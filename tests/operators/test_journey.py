"""All operators of one key group: watermarks, the reorder buffer, late arrivals, and an end that can be taken back."""

from __future__ import annotations

from datetime import date

import orjson
import polars as pl

from config import Config, FunnelRules, JobRules, SessionRules
from operators.columns import BEGINNING, FOREVER
from operators.journey import (
    GroupBatch,
    GroupState,
    Tables,
    close_everything,
    find_watermark,
    release_batch,
    settle_rows,
    take_batch,
)
from operators.state import save_state
from tests.support.frames import SECOND, T0, make_events, texts

CONFIG = Config(
    sessions=SessionRules(gap=10 * SECOND, max_session=60 * SECOND, allowed_lateness=5 * SECOND),
    funnels=(FunnelRules("f", ("a", "b"), 100 * SECOND), FunnelRules("s", ("a", "b"), 100 * SECOND, "session")),
    job=JobRules(key_groups=1),
)
P = frozenset({"p"})
PQ = frozenset({"p", "q"})


def state_with(*rows: tuple[str, float, str], partition: str = "p") -> GroupState:
    """Return a state that has taken these events of one partition and released nothing."""
    state = GroupState()
    events = make_events(rows, partition=partition)
    take_batch(state, GroupBatch(partition, int(events["event_time"].to_physical().max()), True, events))  # type: ignore[arg-type]
    return state


def rows_of(tables: Tables, table: str, *columns: str) -> list[tuple[object, ...]]:
    return [row for frame in tables.get(table, []) for row in texts(frame, *columns)]


def test_watermark_is_that_of_the_slowest_partition_less_the_lateness() -> None:
    state = GroupState(progress={"p": (T0, True), "q": (T0 + 100, True)})
    assert find_watermark(state, PQ, 7) == T0 - 7


def test_watermark_stands_still_until_every_partition_has_spoken() -> None:
    state = GroupState(progress={"p": (T0, True)})
    assert find_watermark(state, PQ, 7) == BEGINNING
    state.progress["q"] = (BEGINNING, True)
    assert find_watermark(state, PQ, 7) == BEGINNING


def test_partition_that_has_ended_holds_nobody_up() -> None:
    state = GroupState(progress={"p": (T0, False), "q": (T0 + 100, True)})
    assert find_watermark(state, PQ, 7) == T0 + 93
    state.progress["q"] = (T0 + 100, False)
    assert find_watermark(state, PQ, 7) == T0 + 93
    empty = GroupState(progress={"p": (BEGINNING, False)})
    assert find_watermark(empty, P, 7) == BEGINNING


def test_watermark_never_goes_back() -> None:
    state = GroupState(progress={"p": (T0, True)}, released=T0 + 50)
    assert find_watermark(state, P, 7) == T0 + 50
    assert find_watermark(state, PQ, 7) == T0 + 50


def test_released_events_go_through_every_operator_and_the_rest_waits() -> None:
    state = state_with(("u", 0, "a"), ("u", 1, "b"), ("u", 20, "a"))
    tables = release_batch(state, T0 + 20 * SECOND, CONFIG)
    assert rows_of(tables, "events", "event_id", "session_index") == [("p0", 0), ("p1", 1)]
    assert rows_of(tables, "sessions", "person_id", "steps", "events") == [("u", ["a", "b"], 2)]
    assert sorted(rows_of(tables, "funnel_steps", "funnel", "step")) == [("f", "a"), ("f", "b"), ("s", "a"), ("s", "b")]
    moves = [("(start)", "a"), ("a", "b"), ("b", "(end)")]
    assert sorted(rows_of(tables, "transitions", "from_step", "to_step")) == moves
    assert rows_of(tables, "paths", "steps") == [(["a", "b"],)]
    assert rows_of(tables, "ledger", "source_partition", "accepted", "duplicate") == [("p", 2, 0)]
    assert (state.waiting(), state.released) == (1, T0 + 20 * SECOND)


def test_session_stays_open_until_the_watermark_is_past_its_gap() -> None:
    state = state_with(("u", 0, "a"))
    assert "sessions" not in release_batch(state, T0 + 10 * SECOND, CONFIG)
    assert state.open.height == 1
    assert rows_of(release_batch(state, T0 + 10 * SECOND + 1, CONFIG), "sessions", "person_id") == [("u",)]
    assert state.open.height == 0


def test_duplicates_are_settled_by_the_partition_that_brought_them() -> None:
    state = state_with(("u", 0, "a"))
    copy = make_events([("u", 0, "a")], partition="q", event_id=["p0"])
    take_batch(state, GroupBatch("q", T0, True, copy))
    tables = release_batch(state, FOREVER, CONFIG)
    assert sorted(rows_of(tables, "ledger", "source_partition", "accepted", "duplicate")) == [("p", 1, 0), ("q", 0, 1)]
    assert rows_of(tables, "events", "source_partition") == [("p",)]


def test_end_shows_the_open_sessions_closed_and_leaves_the_state_as_it_was() -> None:
    """What the end adds can be taken back: a second end adds the same, and the job goes on as if there was none."""
    state = state_with(("u", 0, "a"), ("u", 5, "b"), ("v", 30, "a"))
    release_batch(state, T0 + 4 * SECOND, CONFIG)
    before = save_state(state)
    tail = close_everything(state, CONFIG)
    assert rows_of(tail, "sessions", "person_id", "steps") == [("u", ["a", "b"]), ("v", ["a"])] or rows_of(
        tail, "sessions", "person_id", "steps"
    ) == [("v", ["a"]), ("u", ["a", "b"])]
    assert sorted(rows_of(tail, "events", "event_id")) == [("p1",), ("p2",)]
    assert save_state(state) == before
    assert sorted(rows_of(close_everything(state, CONFIG), "events", "event_id")) == [("p1",), ("p2",)]
    more = make_events([("u", 6, "c")], first_position=3)
    take_batch(state, GroupBatch("p", T0 + 30 * SECOND, True, more))
    assert sorted(rows_of(close_everything(state, CONFIG), "sessions", "person_id", "events")) == [("u", 3), ("v", 1)]


def test_what_is_behind_the_released_watermark_is_late_and_settled() -> None:
    """A lane that goes on after its end can't reopen what was given out; at the watermark itself is in time."""
    state = state_with(("u", 0, "a"))
    release_batch(state, T0 + 3 * SECOND, CONFIG)
    events = make_events([("u", 2.999999, "b"), ("u", 3, "c"), ("v", 1, "d")], partition="q")
    tables = take_batch(state, GroupBatch("q", T0 + 3 * SECOND, True, events))
    columns = ("event_id", "person_id", "reason", "source", "source_partition", "source_position", "dt")
    assert rows_of(tables, "late_events", *columns) == [
        ("q0", "u", "behind_all_partitions", "q.ndjson", "q", 0, date(2023, 11, 14)),
        ("q2", "v", "behind_all_partitions", "q.ndjson", "q", 2, date(2023, 11, 14)),
    ]
    late = tables["late_events"][0]
    assert late["watermark"].to_physical().to_list() == [T0 + 3 * SECOND] * 2
    assert orjson.loads(late["raw"][0])["step"] == "b"
    assert rows_of(tables, "ledger", "source_partition", "received", "late") == [("q", 0, 2)]
    assert [frame["event_id"].to_list() for frame in state.buffer["q"]] == [["q1"]]


def test_before_the_first_release_nothing_is_behind() -> None:
    state = state_with(("u", 100, "a"))
    assert take_batch(state, GroupBatch("q", T0, True, make_events([("u", 0, "a")], partition="q"))) == {}
    assert state.waiting() == 2


def test_batch_without_events_moves_the_partition_only() -> None:
    state = GroupState()
    assert take_batch(state, GroupBatch("p", T0, True, None)) == {}
    assert take_batch(state, GroupBatch("q", T0 + 1, False, make_events([]))) == {}
    assert state.progress == {"p": (T0, True), "q": (T0 + 1, False)}
    assert state.buffer == {}


def test_chains_of_session_funnels_go_with_their_session() -> None:
    """A person's chain of a person funnel lives on through its window."""
    state = state_with(("u", 0, "a"))
    release_batch(state, T0 + SECOND, CONFIG)
    assert (state.chains["f"].height, state.chains["s"].height) == (1, 1)
    release_batch(state, T0 + 11 * SECOND, CONFIG)
    assert (state.chains["f"].height, state.chains["s"].height) == (1, 0)
    release_batch(state, T0 + 100 * SECOND + 1, CONFIG)
    assert state.chains["f"].height == 0


def test_quiet_release_still_closes_what_the_watermark_passed() -> None:
    state = state_with(("u", 0, "a"))
    release_batch(state, T0 + SECOND, CONFIG)
    tables = release_batch(state, T0 + 30 * SECOND, CONFIG)
    assert rows_of(tables, "sessions", "person_id") == [("u",)]
    assert rows_of(tables, "transitions", "from_step", "to_step") == [("a", "(end)")]
    assert tables.keys() == {"sessions", "transitions", "paths"}


def test_ledger_row_is_zero_where_nothing_is_named() -> None:
    rows = settle_rows([("s", "p", {"dead": 3})])
    assert rows.drop("epoch").rows() == [("s", "p", 0, 0, 0, 0, 3)]
    assert rows.schema["received"] == pl.Int64
