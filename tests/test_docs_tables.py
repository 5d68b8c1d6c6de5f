"""docs/tables.md against the schema of a real warehouse: nothing missing, nothing invented, types and nulls right."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import duckdb
import polars as pl
import pytest

from events.schema import TABLES
from sinks.views import ADDITIVE, sql_type
from tests.sample_warehouse import connect, get_finished, get_stopped, read

PAGE = (Path(__file__).parents[1] / "docs" / "tables.md").read_text(encoding="utf-8")
# Null only where every session of a stage and channel is still open, which depends on the moment of the stop.
NULLS_NOT_IN_THE_SAMPLES = {("journey_map", "drop_off")}


class Column(NamedTuple):
    """One line of a table of the page."""

    view: str
    name: str
    type: str
    unit: str
    null: str


def read_page() -> dict[str, list[Column]]:
    views: dict[str, list[Column]] = {}
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        view = section.splitlines()[0].strip()
        same = re.search(r"^The columns of `(\w+)`\.$", section, flags=re.MULTILINE)
        rows = re.findall(r"^\| `(\w+)` \| `([^`]+)` \|([^|]*)\| ([^|]+) \| [^|]+ \|$", section, flags=re.MULTILINE)
        columns = [Column(view, name, kind, unit.strip(), null.strip()) for name, kind, unit, null in rows]
        assert len(columns) == len(re.findall(r"^\| `", section, flags=re.MULTILINE)), view
        views[view] = views[same[1]] if same else columns
    return views


VIEWS = read_page()
COLUMNS = [column for view, columns in VIEWS.items() for column in columns if column.view == view]


@pytest.fixture
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect(get_finished(tmp_path_factory)) as connection:
        yield connection


@pytest.fixture
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect(get_stopped(tmp_path_factory)) as connection:
        yield connection


def test_documented_views_are_those_of_the_catalog(shop: duckdb.DuckDBPyConnection) -> None:
    real = read(shop, "SELECT view_name FROM duckdb_views() WHERE NOT internal")["view_name"].to_list()
    assert sorted(VIEWS) == sorted(real)


@pytest.mark.parametrize("view", VIEWS)
def test_documented_columns_and_types_are_the_real_ones_in_order(view: str, shop: duckdb.DuckDBPyConnection) -> None:
    real = read(shop, f'SELECT column_name, column_type FROM (DESCRIBE "{view}")').rows()
    assert [(column.name, column.type) for column in VIEWS[view]] == real


@pytest.mark.parametrize("table", TABLES)
def test_documented_columns_are_those_the_files_hold(table: str) -> None:
    written = [(name, sql_type(dtype)) for name, dtype in TABLES[table].items()]
    documented = VIEWS[f"raw_{table}" if table in ADDITIVE else table]
    assert [(column.name, column.type) for column in documented if column.name != "dt"] == written


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: f"{column.view}.{column.name}")
def test_documented_null_rule_holds_both_ways(
    column: Column, shop: duckdb.DuckDBPyConnection, stopped: duckdb.DuckDBPyConnection
) -> None:
    if (column.view, column.name) in NULLS_NOT_IN_THE_SAMPLES:
        return
    count = f'SELECT count(*) FROM "{column.view}" WHERE "{column.name}" IS NULL'
    nulls = read(shop, count).item() + read(stopped, count).item()
    assert (nulls == 0) == (column.null == "never")


def test_every_view_had_rows_to_check_the_null_rules_on(
    shop: duckdb.DuckDBPyConnection, stopped: duckdb.DuckDBPyConnection
) -> None:
    for view in VIEWS:
        rows = [read(connection, f'SELECT count(*) FROM "{view}"').item() for connection in (shop, stopped)]
        assert sum(rows) > 0, view


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: f"{column.view}.{column.name}")
def test_units_are_told_where_there_is_one(column: Column, shop: duckdb.DuckDBPyConnection) -> None:
    if column.type == "TIMESTAMP WITH TIME ZONE":
        assert column.unit == "UTC"
    elif column.type == "DOUBLE":
        assert column.unit == ("s" if re.search("seconds|_s$", column.name) else "0 to 1")
    if column.unit == "0 to 1":
        values = read(shop, f'SELECT min("{column.name}"), max("{column.name}") FROM "{column.view}"').row(0)
        assert 0 <= values[0] <= values[1] <= 1


def test_overview_links_every_table_and_view_but_the_raw_ones() -> None:
    linked = set(re.findall(r"\[(\w+)\]\(#(\w+)\)", PAGE))
    assert linked == {(view, view) for view in VIEWS if not view.startswith("raw_")}


def test_times_are_microseconds_in_utc(shop: duckdb.DuckDBPyConnection) -> None:
    assert read(shop, "SELECT event_time FROM events").schema["event_time"] == pl.Datetime("us", "UTC")
