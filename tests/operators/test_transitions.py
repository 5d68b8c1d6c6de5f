"""Transitions: counted by hour, channel and steps, with a histogram of the time between that can be merged."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timezone

import numpy as np
import polars as pl
import pytest

from config import HOUR, SessionRules
from operators.columns import FOREVER
from operators.sessionize import sessionize, start_sessions
from operators.transitions import COUNTED, count_transitions, find_buckets, merge_transitions
from tests.support.frames import T0, make_events, order_events

RULES = SessionRules(gap=HOUR, max_session=24 * HOUR)
Row = tuple[str, float, str]
TEN_PM = datetime(2023, 11, 14, 22, tzinfo=timezone.utc)
ELEVEN_PM = datetime(2023, 11, 14, 23, tzinfo=timezone.utc)


def count(*batches: Sequence[Row], channels: str = "web") -> list[pl.DataFrame]:
    """Count batches with the sessions carried over; the last one closes everything."""
    state, parts = start_sessions(), []
    for number, rows in enumerate(batches):
        frame = make_events(rows, first_position=100 * number, channel=[channels] * len(rows))
        ordered, starts = order_events(frame)
        done = sessionize(ordered, starts, state, RULES, T0 if number < len(batches) - 1 else FOREVER)
        parts.append(count_transitions(done.events, done.closed))
        state = done.open
    return parts


def pairs(*parts: pl.DataFrame) -> dict[tuple[str, str], tuple[int, float, dict[int, int]]]:
    """Return (transitions, total seconds, histogram) by (from, to), over all hours."""
    return {
        (row["from_step"], row["to_step"]): (
            row["transitions"],
            row["total_seconds"],
            {bar["bucket"]: bar["n"] for bar in row["seconds_histogram"]},
        )
        for row in merge_transitions(list(parts)).to_dicts()
    }


def test_session_gives_start_steps_repeats_and_end() -> None:
    assert pairs(*count([("u", 0, "a"), ("u", 1, "a"), ("u", 5, "b")])) == {
        ("(start)", "a"): (1, 0.0, {}),
        ("a", "a"): (1, 1.0, {0: 1}),
        ("a", "b"): (1, 4.0, {16: 1}),
        ("b", "(end)"): (1, 0.0, {}),
    }


def test_step_over_a_batch_boundary_is_counted_once_with_its_time() -> None:
    whole = pairs(*count([("u", 0, "a"), ("u", 2, "b"), ("u", 2, "c")]))
    assert pairs(*count([("u", 0, "a")], [("u", 2, "b")], [("u", 2, "c")])) == whole
    assert whole["a", "b"] == (1, 2.0, {8: 1})
    assert whole["b", "c"] == (1, 0.0, {-1000: 1})


def test_persons_do_not_step_from_one_to_another() -> None:
    assert set(pairs(*count([("u", 0, "a"), ("v", 1, "b")]))) == {
        ("(start)", "a"),
        ("a", "(end)"),
        ("(start)", "b"),
        ("b", "(end)"),
    }


def test_hour_and_channel_are_those_of_the_later_event() -> None:
    """22:59:50 to 23:00:10; the end belongs to the last event."""
    merged = merge_transitions(count([("u", 2790, "a"), ("u", 2810, "b")]))
    assert merged.select("hour", "from_step", "to_step", "dt").rows() == [
        (TEN_PM, "(start)", "a", date(2023, 11, 14)),
        (ELEVEN_PM, "a", "b", date(2023, 11, 14)),
        (ELEVEN_PM, "b", "(end)", date(2023, 11, 14)),
    ]
    frame = make_events([("u", 0, "a"), ("u", 1, "b")], channel=["web", "store"])
    ordered, starts = order_events(frame)
    done = sessionize(ordered, starts, start_sessions(), RULES, FOREVER)
    counted = count_transitions(done.events, done.closed)
    assert sorted(counted.select("to_step", "channel").rows()) == [("(end)", "store"), ("a", "web"), ("b", "store")]


def test_day_of_the_hour_is_the_day_of_the_row() -> None:
    """A transition after midnight is filed under the new day."""
    merged = merge_transitions(count([("u", 6399, "a"), ("u", 6401, "b")]))
    assert merged.filter(pl.col("to_step") == "b")["dt"].to_list() == [date(2023, 11, 15)]


@pytest.mark.parametrize(
    ("micros", "bucket"),
    [
        (0, -1000),
        (1, -160),
        (499_999, -9),
        (500_000, -8),
        (999_999, -1),
        (1_000_000, 0),
        (1_090_507, 0),
        (1_090_508, 1),
        (2_000_000, 8),
        (1_048_576_000_000, 160),
    ],
)
def test_bucket_is_the_floor_of_eight_logarithms(micros: int, bucket: int) -> None:
    """1,000,000 * 2^(1/8) = 1,090,507.7 is the first edge above a second."""
    assert find_buckets(np.array([micros], dtype=np.int64)).tolist() == [bucket]


def test_bucket_stands_for_a_time_within_four_and_a_half_percent() -> None:
    micros = np.array([3, 70, 1_500, 123_456, 9_999_999, 1_234_567_890, 86_400_000_000], dtype=np.int64)
    middle = 2 ** ((find_buckets(micros) + 0.5) / 8)
    assert (np.abs(middle / (micros / 1e6) - 1) < 0.045).all()


def test_merging_parts_in_any_grouping_gives_the_same_rows() -> None:
    """Parts of several batches and key groups: counts, times and histograms add up."""
    parts = count([("u", 0, "a"), ("v", 0, "a")], [("u", 3, "b"), ("v", 4, "b")], [("w", 7, "a"), ("w", 10, "b")])
    together = pairs(*parts)
    assert together["a", "b"] == (3, 10.0, {12: 2, 16: 1})
    assert pairs(*parts[::-1]) == together
    alone = [pairs(part) for part in parts]
    assert sum(found.get(("a", "b"), (0, 0.0, {}))[0] for found in alone) == 3


def test_histogram_is_sorted_and_leaves_out_starts_and_ends() -> None:
    rows = [("u", 0, "x"), ("u", 0, "x"), ("u", 9, "x"), ("u", 9.1, "x"), ("u", 1800, "x")]
    merged = merge_transitions(count(rows)).group_by("from_step", "to_step").agg(pl.col("seconds_histogram").explode())
    bars = merged.filter(pl.col("from_step") == "x", pl.col("to_step") == "x")["seconds_histogram"].to_list()[0]
    assert [bar["bucket"] for bar in bars] == [-1000, -27, 25, 86]
    assert all(bar["n"] == 1 for bar in bars)


def test_rows_are_sorted_by_their_keys_and_nothing_gives_no_row() -> None:
    merged = merge_transitions(count([("u", 0, "b"), ("v", 0, "a"), ("w", 3600, "c")]))
    keys = merged.select("hour", "channel", "from_step", "to_step").rows()
    assert keys == sorted(keys)
    nothing = count_transitions(pl.DataFrame(), start_sessions())
    assert (nothing.height, dict(nothing.schema)) == (0, COUNTED)
