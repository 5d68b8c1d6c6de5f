"""Every view that answers a question, against its answer worked out with Polars from the tables below it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from sinks.views import RAW
from tests.sample_warehouse import connect, get_finished, get_stopped, make_config, read

BUCKET_ERROR = 2 ** (1 / 16) - 1  # half a bucket of the histogram: 4.43 %
NO_STAGE = "(no stage)"


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return get_finished(tmp_path_factory)


@pytest.fixture(scope="session")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return get_stopped(tmp_path_factory)


@pytest.fixture(params=["finished", "stopped"])
def shop(request: pytest.FixtureRequest) -> Iterator[duckdb.DuckDBPyConnection]:
    """Return the catalog of a finished replay, then of one that was stopped with sessions open."""
    with connect(request.getfixturevalue(request.param)) as connection:
        yield connection


def read_placed(shop: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """Return every event with its stage, its session's state, and what came next in the session."""
    events = read(shop, "FROM events").sort("session_id", "session_index")
    closed = read(shop, "FROM sessions")["session_id"]
    stage_of = {step: stage for stage, steps in make_config().stages.items() for step in steps}
    stage = pl.col("step").replace_strict(stage_of, default=NO_STAGE)
    following = {name: pl.col(name).shift(-1).over("session_id") for name in ("stage", "channel", "step")}
    pause = pl.col("event_time").shift(-1).over("session_id") - pl.col("event_time")
    return events.with_columns(
        stage.alias("stage"), pl.col("session_id").is_in(closed.implode()).alias("closed")
    ).with_columns(
        *(value.alias(f"next_{name}") for name, value in following.items()),
        (pause.dt.total_microseconds() / 1e6).alias("seconds"),
    )


def assert_same(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    """Compare as sets of rows; column order and integer widths are the view's own matter."""
    assert found.height > 0
    assert_frame_equal(found, expected, check_row_order=False, check_column_order=False, check_dtypes=False)


def test_additive_tables_had_something_to_add_up(shop: duckdb.DuckDBPyConnection) -> None:
    for name, key in (("transitions", "hour, channel, from_step, to_step"), ("paths", "dt, path_hash")):
        commits = read(shop, f"SELECT count(*) > count(DISTINCT ({key})) AS several FROM {RAW}{name}")
        assert commits["several"][0], name


def test_transitions_sum_the_commits_and_their_histograms(shop: duckdb.DuckDBPyConnection) -> None:
    keys = ["hour", "channel", "from_step", "to_step", "dt"]
    raw = read(shop, "FROM raw_transitions")
    bars = raw.select(*keys, "seconds_histogram").explode("seconds_histogram", empty_as_null=False)
    bars = bars.unnest("seconds_histogram")
    merged = bars.group_by(*keys, "bucket").agg(pl.col("n").sum()).sort("bucket")
    expected = raw.group_by(keys).agg(pl.col("transitions", "total_seconds").sum())
    expected = expected.join(
        merged.group_by(keys, maintain_order=True).agg(pl.struct("bucket", "n").alias("bars")), on=keys, how="left"
    )
    found = read(shop, "FROM transitions").join(expected, on=keys, suffix="_expected")
    assert found.height == expected.height > 0
    assert found["transitions"].equals(found["transitions_expected"])
    assert found["total_seconds"].to_list() == pytest.approx(found["total_seconds_expected"].to_list())
    assert found["seconds_histogram"].to_list() == [bar or [] for bar in found["bars"].to_list()]


def test_paths_sum_the_closed_sessions_of_a_day(shop: duckdb.DuckDBPyConnection) -> None:
    sessions = read(shop, "FROM sessions")
    expected = sessions.group_by("dt", "steps").agg(
        pl.len().alias("sessions"), pl.col("events").sum(), pl.col("duration_s").sum().alias("total_seconds")
    )
    assert_same(read(shop, "SELECT * EXCLUDE (path_hash) FROM paths"), expected)


def test_step_transitions_count_events_in_a_row_and_ends_of_closed_sessions(shop: duckdb.DuckDBPyConnection) -> None:
    placed = read_placed(shop)
    moves = pl.concat(
        [
            placed.filter(pl.col("next_step").is_not_null()).select("step", to="next_step"),
            placed.filter(pl.col("session_index") == 0).select(pl.lit("(start)").alias("step"), to="step"),
            placed.filter("closed", pl.col("next_step").is_null()).select("step", to=pl.lit("(end)")),
        ]
    )
    expected = moves.group_by(from_step="step", to_step="to").agg(transitions=pl.len())
    expected = expected.with_columns(
        share_of_exits=pl.col("transitions") / pl.col("transitions").sum().over("from_step")
    )
    found = read(shop, "FROM step_transitions")
    assert_same(found.select("from_step", "to_step", "transitions", "share_of_exits"), expected)


def test_step_transitions_times_are_within_half_a_bucket(shop: duckdb.DuckDBPyConnection) -> None:
    expected = (
        read_placed(shop)
        .filter(pl.col("next_step").is_not_null())
        .group_by(from_step="step", to_step="next_step")
        .agg(
            median=pl.col("seconds").sort().get((pl.len() + 1) // 2 - 1),
            p90=pl.col("seconds").sort().get((0.9 * pl.len()).ceil().cast(pl.Int64) - 1),
            mean=pl.col("seconds").mean(),
        )
    )
    found = read(shop, "FROM step_transitions")
    timed = found.join(expected, on=["from_step", "to_step"])
    assert timed.height == expected.height > 30
    assert timed["mean_seconds"].to_list() == pytest.approx(timed["mean"].to_list())
    assert timed["median_seconds"].to_list() == pytest.approx(timed["median"].to_list(), rel=BUCKET_ERROR)
    assert timed["p90_seconds"].to_list() == pytest.approx(timed["p90"].to_list(), rel=BUCKET_ERROR)
    ends = found.filter((pl.col("from_step") == "(start)") | (pl.col("to_step") == "(end)"))
    assert ends.select(pl.col("mean_seconds", "median_seconds", "p90_seconds").is_null().all()).row(0) == (True,) * 3


def test_funnel_conversion_counts_people_and_shows_steps_that_nobody_reached(shop: duckdb.DuckDBPyConnection) -> None:
    steps = read(shop, "FROM funnel_steps")
    expected = []
    for rules in make_config().funnels:
        of_funnel = steps.filter(pl.col("funnel") == rules.name)
        by_index = [of_funnel.filter(pl.col("step_index") == index) for index in range(len(rules.steps))]
        people = [arrivals["person_id"].n_unique() for arrivals in by_index]
        for index, step in enumerate(rules.steps):
            before = people[index - 1] if index else 0
            expected.append(
                {
                    "funnel": rules.name,
                    "step_index": index,
                    "step": step,
                    "persons": people[index],
                    "attempts": by_index[index]["attempt_id"].n_unique(),
                    "conversion_from_start": people[index] / people[0] if people[0] else None,
                    "conversion_from_previous": people[index] / before if before else None,
                    "dropped": people[index] - people[index + 1] if index + 1 < len(people) else 0,
                }
            )
    found = read(shop, "FROM funnel_conversion")
    assert_same(found, pl.DataFrame(expected))
    assert found.filter(pl.col("funnel") == "unreached")["persons"].to_list()[1:] == [0, 0]


def test_first_step_of_a_funnel_counts_everybody_with_that_step(shop: duckdb.DuckDBPyConnection) -> None:
    people = read(shop, "FROM events").filter(pl.col("step") == "product")["person_id"].n_unique()
    found = read(shop, "FROM funnel_conversion").filter(pl.col("step_index") == 0)
    assert dict(found.select("funnel", "persons").iter_rows()) == {
        rules.name: people if rules.steps[0] == "product" else 0 for rules in make_config().funnels
    }


def test_time_to_convert_is_over_all_arrivals(shop: duckdb.DuckDBPyConnection) -> None:
    arrivals = read(shop, "FROM funnel_steps").filter(pl.col("step_index") > 0)
    times = {"entry": pl.col("seconds_from_entry"), "previous": pl.col("seconds_from_previous")}
    expected = arrivals.group_by("funnel", "step_index", "step").agg(
        pl.len().alias("arrivals"),
        *(value.median().alias(f"median_seconds_from_{name}") for name, value in times.items()),
        *(value.quantile(0.9, "linear").alias(f"p90_seconds_from_{name}") for name, value in times.items()),
    )
    assert_same(read(shop, "FROM time_to_convert"), expected)


def test_top_paths_share_the_closed_sessions(shop: duckdb.DuckDBPyConnection) -> None:
    sessions = read(shop, "FROM sessions")
    expected = (
        sessions.with_columns(path=pl.col("steps").list.join(" > "))
        .group_by("path")
        .agg(
            pl.col("steps").first(),
            pl.len().alias("sessions"),
            (pl.len() / sessions.height).alias("share"),
            pl.col("events").sum(),
            pl.col("duration_s").mean().alias("mean_seconds"),
        )
    )
    found = read(shop, "FROM top_paths")
    assert_same(found, expected)
    assert found["sessions"].is_sorted(descending=True)
    assert found["share"].sum() == pytest.approx(1)


def test_journey_map_counts_all_events_and_drop_off_of_closed_sessions(shop: duckdb.DuckDBPyConnection) -> None:
    placed = read_placed(shop)
    is_last = pl.col("closed") & pl.col("next_step").is_null()
    closed = pl.col("session_id").filter("closed").n_unique()
    expected = placed.group_by("stage", "channel").agg(
        pl.len().alias("events"),
        pl.col("person_id").n_unique().alias("persons"),
        pl.col("session_id").n_unique().alias("sessions"),
        is_last.sum().alias("left_here"),
        pl.when(closed > 0).then(is_last.sum() / closed).alias("drop_off"),
        pl.col("seconds").median().alias("median_seconds_to_next"),
    )
    found = read(shop, "FROM journey_map")
    assert_same(found, expected)
    assert found["left_here"].sum() == read(shop, "FROM sessions").height
    order = [*make_config().stages, NO_STAGE]
    assert [order.index(stage) for stage in found["stage"]] == sorted(order.index(stage) for stage in found["stage"])


def test_steps_of_no_stage_have_a_row_of_their_own(finished: Path) -> None:
    with connect(finished) as shop:
        found = read(shop, "FROM journey_map").filter(pl.col("stage") == NO_STAGE)
    assert found.select("channel", "events").rows() == [("web", 1)]


def test_stage_flows_join_a_stage_and_channel_to_the_next(shop: duckdb.DuckDBPyConnection) -> None:
    placed = read_placed(shop)
    columns = ["from_stage", "from_channel", "to_stage", "to_channel", "session_id", "seconds"]
    here, nothing = pl.col("channel").alias("next"), pl.lit(None, dtype=pl.Float64).alias("seconds")
    inner = placed.filter(pl.col("next_stage").is_not_null())
    first = placed.filter(pl.col("session_index") == 0)
    last = placed.filter("closed", pl.col("next_stage").is_null())
    parts = [
        inner.select("stage", "channel", "next_stage", "next_channel", "session_id", "seconds"),
        first.select(pl.lit("(start)"), "channel", "stage", here, "session_id", nothing),
        last.select("stage", "channel", pl.lit("(end)"), here, "session_id", nothing),
    ]
    moves = pl.concat([part.rename(dict(zip(part.columns, columns, strict=True))) for part in parts])
    expected = moves.group_by(columns[:4]).agg(
        pl.len().alias("moves"),
        pl.col("session_id").n_unique().alias("sessions"),
        pl.col("seconds").median().alias("median_seconds"),
    )
    whole = pl.col("moves").sum().over("from_stage", "from_channel")
    expected = expected.with_columns((pl.col("moves") / whole).alias("share_of_exits"))
    assert_same(read(shop, "FROM stage_flows"), expected)


def test_live_sessions_are_those_with_events_and_no_end(stopped: Path) -> None:
    with connect(stopped) as shop:
        expected = (
            read_placed(shop)
            .filter(~pl.col("closed"))
            .group_by("session_id")
            .agg(
                pl.col("person_id").first(),
                pl.col("event_time").min().alias("started_at"),
                pl.col("event_time").max().alias("last_event_at"),
                pl.len().alias("events"),
                pl.col("step").last().alias("current_step"),
                pl.col("channel").last().alias("current_channel"),
            )
        )
        assert_same(read(shop, "FROM live_sessions"), expected)


def test_a_finished_replay_has_no_live_sessions(finished: Path) -> None:
    with connect(finished) as shop:
        assert read(shop, "FROM live_sessions").height == 0


def test_daily_sessions_agree_with_the_events_of_closed_sessions(shop: duckdb.DuckDBPyConnection) -> None:
    sessions = (
        read_placed(shop)
        .filter("closed")
        .group_by("session_id")
        .agg(
            pl.col("person_id").first(),
            pl.col("event_time").min().dt.date().alias("dt"),
            ((pl.col("event_time").max() - pl.col("event_time").min()).dt.total_microseconds() / 1e6).alias("duration"),
            pl.len().alias("size"),
        )
    )
    expected = sessions.group_by("dt").agg(
        pl.len().alias("sessions"),
        pl.col("person_id").n_unique().alias("persons"),
        pl.col("size").sum().alias("events"),
        pl.col("duration").mean().alias("mean_duration_s"),
        pl.col("duration").median().alias("median_duration_s"),
        (pl.col("size") == 1).mean().alias("bounce_share"),
    )
    found = read(shop, "FROM daily_sessions")
    assert_same(found, expected)
    assert found["dt"].is_sorted()


def test_persons_sum_up_their_closed_sessions(shop: duckdb.DuckDBPyConnection) -> None:
    placed = read_placed(shop).filter("closed").sort("event_time", "source_partition", "source_position")
    expected = placed.group_by("person_id", maintain_order=True).agg(
        pl.col("session_id").n_unique().alias("sessions"),
        pl.col("event_time").filter(pl.col("session_index") == 0).dt.date().n_unique().alias("days"),
        pl.len().alias("events"),
        pl.col("seconds").sum().alias("total_seconds"),
        pl.col("event_time").min().alias("first_seen_at"),
        pl.col("event_time").max().alias("last_seen_at"),
        pl.col("channel").unique().sort().alias("channels"),
        pl.col("channel").first().alias("first_channel"),
        pl.col("step").last().alias("last_step"),
    )
    assert_same(read(shop, "FROM persons"), expected)


def test_ledger_sums_the_commits(shop: duckdb.DuckDBPyConnection) -> None:
    counts = ["received", "accepted", "duplicate", "late", "dead"]
    expected = read(shop, "FROM raw_ledger").group_by("source", "source_partition").agg(pl.col(counts).sum())
    found = read(shop, "FROM ledger")
    assert_same(found, expected)
    assert found["accepted"].sum() == read(shop, "FROM events").height
