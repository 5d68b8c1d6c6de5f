"""docs/recipes.md: every recipe is run as it stands, and its result compared with one worked out another way."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tests.sample_warehouse import connect, get_finished, make_config, read

PAGE = (Path(__file__).parents[1] / "docs" / "recipes.md").read_text(encoding="utf-8")
PURCHASE = next(rules for rules in make_config().funnels if rules.name == "purchase")

ELSEWHERE = ("From ", "With ", "For ", "Live ")  # in test_docs_recipes_tools.py

Check = Callable[[pl.DataFrame, duckdb.DuckDBPyConnection], None]
CHECKS: dict[str, Check] = {}


def read_recipes() -> dict[str, tuple[str, str]]:
    """Return title -> language and text of the block of code."""
    recipes = {}
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        (block,) = re.findall(r"^```(\w+)\n(.*?)^```$", section, flags=re.MULTILINE | re.DOTALL)
        recipes[section.splitlines()[0]] = block
    return recipes


RECIPES = read_recipes()


def check(title: str) -> Callable[[Check], Check]:
    """Register the check of the SQL recipe under that title."""

    def register(function: Check) -> Check:
        CHECKS[title] = function
        return function

    return register


@pytest.fixture
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return get_finished(tmp_path_factory)


@pytest.fixture
def shop(warehouse: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect(warehouse) as connection:
        yield connection


def test_every_recipe_is_listed_at_the_top_and_checked_below() -> None:
    listed = set(re.findall(r"\]\(#([\w-]+)\)", PAGE))
    assert listed == {title.lower().replace(" ", "-") for title in RECIPES}
    assert CHECKS.keys() == {title for title in RECIPES if not title.startswith(ELSEWHERE)}
    assert all(RECIPES[title][0] == "sql" for title in CHECKS)
    assert sum(title.startswith(ELSEWHERE) for title in RECIPES) == 8


@pytest.mark.parametrize("title", [title for title in RECIPES if not title.startswith(ELSEWHERE)])
def test_recipe(title: str, shop: duckdb.DuckDBPyConnection) -> None:
    found = read(shop, RECIPES[title][1])
    assert found.height > 0
    CHECKS[title](found, shop)


def read_sessions(shop: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """Return one row per session, put together from the events alone."""
    events = read(shop, "FROM events").sort("session_id", "session_index")
    return events.group_by("session_id", maintain_order=True).agg(
        pl.col("person_id").first(),
        pl.col("channel").first().alias("entry_channel"),
        pl.col("event_time").first().dt.date().alias("dt"),
        pl.len().alias("size"),
        ((pl.col("event_time").last() - pl.col("event_time").first()).dt.total_microseconds() / 1e6).alias("seconds"),
        pl.col("step"),
    )


def find_attempts(shop: duckdb.DuckDBPyConnection) -> list[tuple[str, date, str, bool]]:
    """Walk every person's events: (person, day and channel of entry, bought) of every attempt at `purchase`."""
    events = read(shop, "FROM events").sort("event_time", "source_partition", "source_position")
    chains: dict[str, list[Any]] = {}
    attempts: list[list[Any]] = []
    for person, step, at, channel in events.select("person_id", "step", "event_time", "channel").iter_rows():
        if step not in PURCHASE.steps:
            continue
        index, mine = PURCHASE.steps.index(step), chains.setdefault(person, [None] * len(PURCHASE.steps))
        if index == 0:
            mine[0] = [person, at.date(), channel, False, at]
            attempts.append(mine[0])
        elif mine[index - 1] is not None and at - mine[index - 1][4] <= timedelta(microseconds=PURCHASE.within):
            mine[index] = mine[index - 1]
            mine[index][3] |= index == len(PURCHASE.steps) - 1
    return [(person, day, channel, bought) for person, day, channel, bought, _ in attempts]


@check("Conversion by day and channel")
def _(found: pl.DataFrame, shop: duckdb.DuckDBPyConnection) -> None:
    began: dict[tuple[date, str], set[str]] = {}
    bought: dict[tuple[date, str], set[str]] = {}
    for person, day, channel, success in find_attempts(shop):
        began.setdefault((day, channel), set()).add(person)
        if success:
            bought.setdefault((day, channel), set()).add(person)
    expected = {key: (len(people), len(bought.get(key, ()))) for key, people in began.items()}
    assert {(day, channel): (b, p) for day, channel, b, p, _ in found.iter_rows()} == expected
    assert found["bought"].sum() > 10
    assert found["conversion"].to_list() == pytest.approx((found["bought"] / found["began"]).to_list())


@check("Drop-off in a funnel")
def _(found: pl.DataFrame, shop: duckdb.DuckDBPyConnection) -> None:
    people = {person for person, _, _, success in find_attempts(shop) if success}
    assert found["persons"][-1] == len(people) > 10
    assert found["persons"][0] - found["dropped"].sum() == found["persons"][-1]
    assert found["drop_off"].to_list() == pytest.approx((found["dropped"] / found["persons"]).to_list())


@check("Drop-off after a step")
def _(found: pl.DataFrame, shop: duckdb.DuckDBPyConnection) -> None:
    steps = read_sessions(shop)["step"]
    left = steps.explode().value_counts(name="left")
    expected = steps.list.last().alias("step").value_counts(name="ended").join(left, on="step")
    joined = found.join(expected, on="step", suffix="_expected")
    assert joined.height == found.height == expected.height
    assert joined["ended"].equals(joined["ended_expected"].cast(pl.Int64).rename("ended"))
    assert joined["drop_off"].to_list() == pytest.approx((joined["ended_expected"] / joined["left"]).to_list())


@check("What those who dropped did next")
def _(found: pl.DataFrame, shop: duckdb.DuckDBPyConnection) -> None:
    reached = read(shop, "FROM funnel_steps").filter(pl.col("funnel") == "purchase")
    furthest = reached.group_by("person_id").agg(
        pl.col("step_index").max(), pl.col("reached_at").filter(pl.col("step_index") == 1).max()
    )
    events = read(shop, "FROM events").sort("event_time")
    counts: dict[str, int] = {}
    for person, index, at in furthest.iter_rows():
        if index == 1:
            later = events.filter(pl.col("person_id") == person, pl.col("event_time") > at)["step"].to_list()
            following = [*later, "(nothing)"][0]
            counts[following] = counts.get(following, 0) + 1
    assert dict(found.select("next_step", "persons").iter_rows()) == counts
    assert found["share"].sum() == pytest.approx(1)


@check("Time to convert by channel")
def _(found: pl.DataFrame, shop: duckdb.DuckDBPyConnection) -> None:
    arrivals = read(shop, "FROM funnel_steps").filter(pl.col("funnel") == "purchase", pl.col("step_index") == 4)
    taken = (arrivals["reached_at"] - arrivals["entered_at"]).dt.total_microseconds() / 1e6
    expected = arrivals.with_columns(taken.alias("t")).group_by("channel").agg(pl.len(), pl.col("t").median())
    expected = expected.sort("channel")
    assert found["channel"].to_list() == expected["channel"].to_list()
    assert found["purchases"].to_list() == expected["len"].to_list()
    assert found["median_seconds"].to_list() == pytest.approx(expected["t"].to_list())


@check("Top paths to purchase")
def _(found: pl.DataFrame, shop: duckdb.DuckDBPyConnection) -> None:
    ways: dict[str, int] = {}
    for steps in read_sessions(shop)["step"].to_list():
        if "purchase" in steps:
            way = steps[: steps.index("purchase") + 1]
            path = " > ".join(step for n, step in enumerate(way) if n == 0 or way[n - 1] != step)
            ways[path] = ways.get(path, 0) + 1
    best = sorted(ways.items(), key=lambda item: (-item[1], item[0]))[:10]
    assert list(found.select("path", "sessions").iter_rows()) == best
    assert found["share"][0] == pytest.approx(best[0][1] / sum(ways.values()))


@check("Transition matrix")
def _(found: pl.DataFrame, shop: duckdb.DuckDBPyConnection) -> None:
    shares = read(shop, "SELECT from_step, to_step, share_of_exits FROM step_transitions")
    cells = {(a, b): share for a, b, share in shares.iter_rows()}
    assert set(found.columns) == {"from_step", *shares["to_step"]}
    assert set(found["from_step"]) == set(shares["from_step"])
    for row in found.iter_rows(named=True):
        origin = row.pop("from_step")
        assert row == {to: pytest.approx(cells.get((origin, to), 0), abs=6e-4) for to in row}


@check("Median time between steps")
def _(found: pl.DataFrame, shop: duckdb.DuckDBPyConnection) -> None:
    events = read(shop, "FROM events").sort("session_id", "session_index")
    pause = (pl.col("event_time") - pl.col("event_time").shift(1).over("session_id")).dt.total_microseconds() / 1e6
    events = events.with_columns(pl.col("step").shift(1).over("session_id").alias("before"), pause.alias("seconds"))
    days = pl.col("dt").is_between(date(2026, 1, 5), date(2026, 1, 11))
    exact = (
        events.filter(pl.col("before").is_not_null(), pl.col("channel") == "mobile", days)
        .group_by(from_step="before", to_step="step")
        .agg(n=pl.len(), exact=pl.col("seconds").sort().get((pl.len() + 1) // 2 - 1))
    )
    joined = found.join(exact, on=["from_step", "to_step"])
    assert joined.height == found.height == exact.height > 20
    assert joined["transitions"].to_list() == joined["n"].to_list()
    assert joined["median_seconds"].to_list() == pytest.approx(joined["exact"].to_list(), rel=0.045)


@check("Returning persons")
def _(found: pl.DataFrame, shop: duckdb.DuckDBPyConnection) -> None:
    days = read_sessions(shop).group_by("person_id").agg(pl.col("dt").n_unique().alias("days"), pl.len())
    expected = days.group_by("days").agg(pl.len().alias("persons"), pl.col("len").sum()).sort("days")
    assert list(found.select("days", "persons", "sessions").iter_rows()) == list(expected.iter_rows())
    assert found["share"].sum() == pytest.approx(1)


@check("Retention by week")
def _(found: pl.DataFrame, shop: duckdb.DuckDBPyConnection) -> None:
    came: dict[str, set[date]] = {}
    for person, day in read_sessions(shop).select("person_id", "dt").iter_rows():
        came.setdefault(person, set()).add(day - timedelta(days=day.weekday()))
    cells: dict[tuple[date, int], int] = {}
    for weeks in came.values():
        for week in weeks:
            cell = (min(weeks), (week - min(weeks)).days // 7)
            cells[cell] = cells.get(cell, 0) + 1
    assert {(first, later): persons for first, later, persons, _ in found.iter_rows()} == cells
    assert found["retained"].to_list() == pytest.approx([n / cells[first, 0] for first, _, n, _ in found.iter_rows()])


@check("Session length")
def _(found: pl.DataFrame, shop: duckdb.DuckDBPyConnection) -> None:
    sessions = read_sessions(shop)
    one = pl.col("size") == 1
    counts = [
        sessions.filter(one).height,
        sessions.filter(~one, pl.col("seconds") < 30).height,
        *(
            sessions.filter(~one, pl.col("seconds") >= a, pl.col("seconds") < b).height
            for a, b in ((30, 120), (120, 600))
        ),
        sessions.filter(~one, pl.col("seconds") >= 600).height,
    ]
    assert found["sessions"].to_list() == counts
    assert found["length"][0] == "one event"
    assert found["length"][-1] == "10 min and more"


@check("Entry channels")
def _(found: pl.DataFrame, shop: duckdb.DuckDBPyConnection) -> None:
    expected = (
        read_sessions(shop)
        .group_by("entry_channel")
        .agg(
            pl.len().alias("sessions"),
            (pl.col("size") == 1).mean().alias("bounce_share"),
            pl.col("size").mean().alias("mean_events"),
            pl.col("seconds").median().alias("median_duration_s"),
            pl.col("step").list.contains("purchase").mean().alias("purchase_share"),
        )
    )
    assert_frame_equal(found, expected, check_row_order=False, check_dtypes=False)


@check("Week over week")
def _(found: pl.DataFrame, shop: duckdb.DuckDBPyConnection) -> None:
    weeks = read_sessions(shop).with_columns(pl.col("dt").dt.truncate("1w"))
    expected = weeks.group_by("dt").agg(pl.len().alias("n"), pl.col("person_id").n_unique()).sort("dt")
    assert list(found.select("week", "sessions", "persons").iter_rows()) == list(expected.iter_rows())
    assert found["change"].to_list()[1:] == pytest.approx((expected["n"] / expected["n"].shift(1) - 1).to_list()[1:])


@check("Across channels")
def _(found: pl.DataFrame, shop: duckdb.DuckDBPyConnection) -> None:
    flows = read(shop, "FROM stage_flows")
    best = flows.filter(pl.col("from_stage") == "Consideration", pl.col("to_stage") == "(end)")["moves"].max()
    assert found["moves"][0] == best
    assert found["moves"].is_sorted(descending=True)
    assert not (found["source"] == found["target"]).any()


@check("Money in the properties")
def _(found: pl.DataFrame, shop: duckdb.DuckDBPyConnection) -> None:
    sold = read(shop, "FROM events").filter(pl.col("step") == "purchase")
    price = pl.col("properties").str.json_path_match("$.product.price").cast(pl.Float64)
    expected = sold.group_by("channel").agg(pl.len().alias("n"), price.sum().alias("revenue"))
    joined = found.join(expected, on="channel", suffix="_expected")
    assert joined.height == found.height == expected.height
    assert joined["purchases"].to_list() == joined["n"].to_list()
    assert joined["revenue"].cast(pl.Float64).to_list() == pytest.approx(joined["revenue_expected"].to_list())


@check("What was left out")
def _(found: pl.DataFrame, shop: duckdb.DuckDBPyConnection) -> None:
    assert found["source"].to_list() == ["odd.ndjson", "shop.ndjson"]
    assert found.select("received", "accepted", "late", "dead").row(0) == (7, 4, 1, 2)
    assert found["reasons"][0].to_list() == ["no_time", "not_json"]
    assert found["lost_share"].to_list() == [3 / 7, 0.0]
