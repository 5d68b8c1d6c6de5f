"""The oracle against answers worked out by hand."""

from __future__ import annotations

import random
from datetime import date

import orjson
import polars as pl
import pytest
from hypothesis import given, settings

from config import MINUTE, SECOND, Config, FunnelRules, SessionRules

from .oracle import OUTPUTS, RECORDS, compute_tables
from .oracle_funnel import Arrival, Visit, compute_level, walk_funnel
from .strategies import MIDNIGHT, make_stream, streams, to_segment_lines

GAP, LONGEST, LATENESS = 10 * SECOND, 25 * SECOND, 5 * SECOND
CONFIG = Config(sessions=SessionRules(GAP, LONGEST, LATENESS, max_path_steps=3))
T0 = 1_700_000_000 * SECOND


def run(*rows: tuple[str, str, int, str], config: Config = CONFIG) -> dict[str, pl.DataFrame]:
    """Compute the tables for (partition, event id, microseconds after T0, step) rows of the user u on the web."""
    seen: dict[str, int] = {}
    records = []
    for partition, event_id, time, step in rows:
        position = seen[partition] = seen.get(partition, -1) + 1
        records.append((partition, position, event_id, T0 + time, "u", None, "u", "web", step))
    return compute_tables(pl.DataFrame(records, schema=RECORDS, orient="row"), config)


def starts(tables: dict[str, pl.DataFrame]) -> list[tuple[int, int]]:
    """Return (seconds from T0 to the start, events) of each session."""
    sessions = tables["sessions"].select((pl.col("started_at") - T0) / SECOND, "events")
    return [(int(start), events) for start, events in sessions.rows()]


def places(frame: pl.DataFrame) -> list[tuple[str, int]]:
    return list(frame.select("source_partition", "source_position").rows())


def test_pause_as_long_as_the_gap_stays_and_one_microsecond_more_splits() -> None:
    assert starts(run(("p", "1", 0, "a"), ("p", "2", GAP, "a"))) == [(0, 2)]
    assert starts(run(("p", "1", 0, "a"), ("p", "2", GAP + 1, "a"))) == [(0, 1), (10, 1)]


def test_longest_session_counts_from_the_first_event_of_the_current_session() -> None:
    steady = [("p", str(n), n * 5 * SECOND, "a") for n in range(13)]  # 0 s to 60 s without a gap
    assert starts(run(*steady)) == [(0, 6), (30, 6), (60, 1)]
    exact = [*steady[:5], ("p", "x", LONGEST, "a"), ("p", "y", LONGEST + 1, "a")]
    assert starts(run(*exact)) == [(0, 6), (25, 1)]


def test_event_at_the_watermark_is_in_time_and_one_microsecond_older_is_late() -> None:
    tables = run(("p", "1", 20 * SECOND, "a"), ("p", "2", 15 * SECOND, "b"), ("p", "3", 15 * SECOND - 1, "c"))
    assert places(tables["late"]) == [("p", 2)]
    assert tables["late"]["watermark"].to_list() == [T0 + 15 * SECOND]
    assert tables["events"]["step"].to_list() == ["b", "a"]
    assert tables["ledger"].rows() == [("p", 3, 2, 0, 1)]


def test_other_partitions_do_not_make_an_event_late() -> None:
    tables = run(("q", "1", 900 * SECOND, "a"), ("p", "2", 0, "a"), ("q", "3", 0, "a"))
    assert places(tables["late"]) == [("q", 1)]


def test_first_copy_by_partition_then_position_is_kept() -> None:
    copies = (("q", "1", 1, "q0"), ("p", "0", 0, "other id"), ("p", "1", 1, "p1"), ("p", "1", 1, "p2"))
    tables = run(*copies, ("p", "1", 2, "c"))
    assert places(tables["duplicates"]) == [("p", 2), ("q", 0)]
    assert tables["events"]["step"].to_list() == ["other id", "p1", "c"]
    assert tables["ledger"].rows() == [("p", 4, 3, 1, 0), ("q", 1, 0, 1, 0)]


def test_events_of_one_moment_go_by_partition_then_position() -> None:
    tables = run(("q", "1", 1, "third"), ("p", "2", 0, "first"), ("p", "3", 1, "second"), ("q", "4", 1, "fourth"))
    assert tables["events"]["step"].to_list() == ["first", "second", "third", "fourth"]
    assert tables["events"]["session_index"].to_list() == [0, 1, 2, 3]
    assert tables["events"]["first_event_id"].to_list() == ["2"] * 4


def test_late_copy_counts_as_late_and_hides_no_copy_that_is_in_time() -> None:
    tables = run(("p", "0", 60 * SECOND, "a"), ("p", "1", 0, "late"), ("q", "1", 0, "kept"))
    assert places(tables["late"]) == [("p", 1)]
    assert places(tables["duplicates"]) == []
    assert tables["events"]["step"].to_list() == ["kept", "a"]


def test_same_id_and_time_of_another_person_is_another_event() -> None:
    rows = [("p", n, "1", T0, person, None, person, "web", "a") for n, person in enumerate("uvu")]
    tables = compute_tables(pl.DataFrame(rows, schema=RECORDS, orient="row"), CONFIG)
    assert places(tables["duplicates"]) == [("p", 2)]
    assert tables["sessions"]["person_id"].to_list() == ["u", "v"]


def test_session_row_takes_first_known_ids_and_collapsed_cut_steps() -> None:
    rows = [
        ("p", 0, "1", T0, "u", None, None, "web", "a"),
        ("p", 1, "2", T0, "u", "d2", None, "store", "a"),
        ("p", 2, "3", T0 + 3 * SECOND, "u", "d3", "u", "web", "b"),
        ("p", 3, "4", T0 + 4 * SECOND, "u", None, "u", "mobile", "a"),
        ("p", 4, "5", T0 + 4_500_000, "u", None, "u", "mobile", "c"),
    ]
    tables = compute_tables(pl.DataFrame(rows, schema=RECORDS, orient="row"), CONFIG)
    assert tables["sessions"].to_dicts() == [
        {
            "person_id": "u",
            "started_at": T0,
            "first_event_id": "1",
            "device_id": "d2",
            "user_id": "u",
            "channels": ["web", "store", "mobile"],
            "entry_channel": "web",
            "ended_at": T0 + 4_500_000,
            "duration_s": 4.5,
            "events": 5,
            "entry_step": "a",
            "exit_step": "c",
            "steps": ["a", "b", "a"],
            "path_cut": True,
            "dt": date(2023, 11, 14),
        }
    ]
    assert tables["paths"].rows() == [(date(2023, 11, 14), ["a", "b", "a"], 1, 5, 4.5)]


def test_path_of_just_max_path_steps_is_not_cut() -> None:
    sessions = run(("p", "1", 0, "a"), ("p", "2", 1, "b"), ("p", "3", 2, "c"), ("p", "4", 3, "c"))["sessions"]
    assert sessions.select("steps", "path_cut").rows() == [(["a", "b", "c"], False)]


def test_transitions_count_repeats_ends_and_pauses_in_the_later_events_hour() -> None:
    before_midnight = MIDNIGHT - T0 - 2 * SECOND
    visits = (
        ("p", "1", before_midnight, "a"),
        ("p", "2", before_midnight, "a"),
        ("p", "3", before_midnight + 8 * SECOND, "a"),
    )
    transitions = run(*visits)["transitions"].drop("channel").rows()
    hour, last_hour, day, last_day = MIDNIGHT, MIDNIGHT - 60 * MINUTE, date(2024, 3, 1), date(2024, 2, 29)
    assert transitions == [
        (last_hour, "(start)", "a", 1, 0.0, [], last_day),
        (last_hour, "a", "a", 1, 0.0, [{"bucket": -1000, "n": 1}], last_day),
        (hour, "a", "(end)", 1, 0.0, [], day),
        (hour, "a", "a", 1, 8.0, [{"bucket": 24, "n": 1}], day),
    ]


@pytest.mark.parametrize(
    ("pause", "bucket"), [(0, -1000), (1, -160), (500_000, -8), (SECOND, 0), (999_999, -1), (3 * SECOND, 12)]
)
def test_pause_falls_into_its_logarithmic_bucket(pause: int, bucket: int) -> None:
    transitions = run(("p", "1", 0, "a"), ("p", "2", pause, "b"))["transitions"]
    assert transitions.filter(pl.col("to_step") == "b")["seconds_histogram"].to_list()[-1] == [
        {"bucket": bucket, "n": 1}
    ]


def walk(steps: str, within: int, *visits: tuple[int, str]) -> list[tuple[int, int, int, int]]:
    """Return (entered, step index, reached, previous) of each arrival, for (time, step) visits."""
    rules = FunnelRules("f", tuple(steps), within)
    arrivals = walk_funnel([Visit(time, "p", n, step, f"e{n}") for n, (time, step) in enumerate(visits)], rules)
    return [(a.entered_at, a.step_index, a.visit.event_time, a.previous_at) for a in arrivals]


def test_funnel_window_is_inclusive_and_counts_from_the_entry() -> None:
    entered = [(0, 0, 0, 0), (0, 1, 6, 0)]
    assert walk("abc", 10, (0, "a"), (6, "b"), (10, "c")) == [*entered, (0, 2, 10, 6)]
    assert walk("abc", 10, (0, "a"), (6, "b"), (11, "c")) == entered


def test_funnel_reanchors_on_the_latest_entry_and_keeps_the_older_chain_further_on() -> None:
    # c belongs to the chain that has b: the first; only its own b lets the second chain go on.
    visits = ((0, "a"), (1, "b"), (5, "a"), (6, "c"), (7, "b"), (8, "c"))
    assert walk("abc", 10, *visits) == [
        (0, 0, 0, 0),
        (0, 1, 1, 0),
        (5, 0, 5, 5),
        (0, 2, 6, 1),
        (5, 1, 7, 5),
        (5, 2, 8, 7),
    ]
    assert walk("ab", 10, (0, "a"), (8, "a"), (18, "b"), (18, "b")) == [(0, 0, 0, 0), (8, 0, 8, 8), (8, 1, 18, 8)]


def test_funnel_tie_goes_by_step_order_whatever_arrived_first() -> None:
    assert walk("abc", 0, (3, "c"), (3, "b"), (3, "a")) == [(3, 0, 3, 3), (3, 1, 3, 3), (3, 2, 3, 3)]


def test_one_event_fills_every_index_of_its_step() -> None:
    assert walk("aa", 10, (0, "a")) == [(0, 0, 0, 0), (0, 1, 0, 0)]
    assert walk("aba", 10, (0, "a"), (1, "b"), (2, "a")) == [(0, 0, 0, 0), (0, 1, 1, 0), (2, 0, 2, 2), (0, 2, 2, 1)]


def test_funnel_level_is_the_furthest_step_of_any_chain() -> None:
    visit = Visit(0, "p", 0, "a")
    assert compute_level([]) == 0
    assert compute_level([Arrival(0, "e", 2, 0, visit), Arrival(1, "f", 0, 1, visit)]) == 3


def test_session_scope_forgets_chains_between_sessions() -> None:
    funnels = tuple(FunnelRules(scope, ("a", "b"), within=60 * SECOND, scope=scope) for scope in ("person", "session"))
    config = Config(sessions=CONFIG.sessions, funnels=funnels)
    steps = run(("p", "1", 0, "a"), ("p", "2", 20 * SECOND, "b"), config=config)["funnel_steps"]
    assert steps.select("funnel", "step", "seconds_from_entry", "seconds_from_previous").rows() == [
        ("person", "a", 0.0, 0.0),
        ("person", "b", 20.0, 20.0),
        ("session", "a", 0.0, 0.0),
    ]
    assert steps["entry_event_id"].to_list() == ["1", "1", "1"]


@settings(max_examples=25, deadline=None)
@given(stream=streams())
def test_tables_of_any_stream_agree_with_each_other(stream: tuple[pl.DataFrame, Config]) -> None:
    """Ledger, sessions, transitions, paths and funnels of one stream add up, and have the promised columns."""
    records, config = stream
    tables = compute_tables(records, config)
    assert all(tables[name].schema == schema for name, schema in OUTPUTS.items())
    events, sessions, ledger = tables["events"], tables["sessions"], tables["ledger"]
    assert ledger["received"].sum() == records.height
    assert ledger["accepted"].sum() == events.height == sessions["events"].sum() == tables["paths"]["events"].sum()
    assert (ledger["duplicate"].sum(), ledger["late"].sum()) == (tables["duplicates"].height, tables["late"].height)
    assert tables["transitions"]["transitions"].sum() == events.height + sessions.height
    assert tables["paths"]["total_seconds"].sum() == pytest.approx(tables["transitions"]["total_seconds"].sum())
    keyed = tables["funnel_steps"].select("funnel", "person_id", "entered_at", "entry_event_id", "step_index")
    assert not keyed.is_duplicated().any()
    for rules in config.funnels:
        entries = keyed.filter(pl.col("funnel") == rules.name, pl.col("step_index") == 0).height
        assert entries == events.filter(pl.col("step") == rules.steps[0]).height


def test_large_stream_has_every_fate_in_every_partition() -> None:
    ledger = compute_tables(*make_stream(random.Random(7), 3000))["ledger"]
    assert ledger.height > 1
    assert ledger.select(pl.min_horizontal(pl.col("accepted", "duplicate", "late").min())).item() > 10


def test_segment_lines_hold_what_the_records_hold() -> None:
    records = pl.DataFrame(
        [
            ("p", 0, "1", MIDNIGHT - 1, "d", "d", None, "web", "a"),
            ("p", 1, "2", MIDNIGHT, "u", None, "u", "store", "b"),
        ],
        schema=RECORDS,
        orient="row",
    )
    assert [orjson.loads(line) for line in to_segment_lines(records)["p"]] == [
        {
            "messageId": "1",
            "anonymousId": "d",
            "type": "track",
            "event": "a",
            "timestamp": "2024-02-29T23:59:59.999999Z",
            "channel": "web",
        },
        {
            "messageId": "2",
            "userId": "u",
            "type": "track",
            "event": "b",
            "timestamp": "2024-03-01T00:00:00.000000Z",
            "channel": "store",
        },
    ]
