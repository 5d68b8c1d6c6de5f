"""docs/recipes.md, the rest: recipes of other programs, own tables, and what only a stopped warehouse can show."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from tests.sample_warehouse import connect, get_finished, get_stopped, read
from tests.test_docs_recipes import RECIPES


@pytest.fixture
def beside(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder that holds the warehouse under the name that the page uses; return the warehouse."""
    (tmp_path / "warehouse").symlink_to(get_finished(tmp_path_factory))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "warehouse"


def run_python(title: str) -> dict[str, Any]:
    """Run a block of Python and return the names it leaves."""
    language, code = RECIPES[title]
    assert language == "python"
    names: dict[str, Any] = {}
    exec(code, names)
    return names


def run_statements(connection: duckdb.DuckDBPyConnection, title: str) -> pl.DataFrame:
    """Run all statements of a block and return the last one's result."""
    language, code = RECIPES[title]
    assert language == "sql"
    *first, last = code.strip().split(";\n")
    for statement in first:
        connection.execute(statement)
    return read(connection, last)


def test_live_sessions_of_a_stopped_replay(tmp_path_factory: pytest.TempPathFactory) -> None:
    with connect(get_stopped(tmp_path_factory)) as shop:
        found = run_statements(shop, "Live sessions")
        events = read(shop, "FROM events").sort("session_index")
        closed = read(shop, "FROM sessions")["session_id"]
    last = (
        events.filter(~pl.col("session_id").is_in(closed.implode())).group_by("session_id", maintain_order=True).last()
    )
    quiet = (events["event_time"].max() - pl.col("event_time")).dt.total_microseconds() / 1e6
    expected = (
        last.with_columns(quiet.alias("quiet")).group_by("step", "channel").agg(pl.len(), pl.col("quiet").median())
    )
    joined = found.join(expected, left_on=["current_step", "current_channel"], right_on=["step", "channel"])
    assert joined.height == found.height == expected.height > 0
    assert joined["sessions"].to_list() == joined["len"].to_list()
    assert joined["median_quiet_seconds"].to_list() == pytest.approx(joined["quiet"].to_list())


def test_python(beside: Path) -> None:
    names = run_python("From Python")
    with connect(beside) as shop:
        assert names["version"] == read(shop, "FROM snapshot")["version"][0]
        people = (
            read(shop, "FROM funnel_steps WHERE funnel = 'purchase'")
            .group_by("step")
            .agg(pl.col("person_id").n_unique())
        )
    assert names["complete"] is True
    assert [step for step, _ in names["steps"]] == ["product", "add_to_cart", "checkout", "payment", "purchase"]
    assert dict(names["steps"]) == dict(people.iter_rows())


def test_pandas(beside: Path) -> None:
    pytest.importorskip("pandas")
    names = run_python("From pandas")
    with connect(beside) as shop:
        days = read(shop, "FROM sessions")["dt"].value_counts()
    assert names["daily"]["sessions"].sum() == days["count"].sum()
    assert names["daily"].loc[names["busiest"], "sessions"] == days["count"].max()


def test_polars(beside: Path) -> None:
    by_entry = run_python("From Polars")["by_entry"]
    with connect(beside) as shop:
        starts = read(shop, "FROM step_transitions WHERE from_step = '(start)'")
    assert dict(by_entry.select("entry_step", "sessions").iter_rows()) == dict(
        starts.select("to_step", "transitions").iter_rows()
    )


def test_r(beside: Path) -> None:
    """R itself is not asked for: its query and its path are run here."""
    language, code = RECIPES["From R"]
    assert language == "r"
    (query,) = re.findall(r'dbGetQuery\(shop, "([^"]+)"\)', code)
    (path,) = re.findall(r'dbdir = "([^"]+)"', code)
    with duckdb.connect(path, read_only=True) as shop:
        found = read(shop, query)
        steps = read(shop, "FROM sessions")["steps"].list.join(" > ").value_counts()
    assert found["sessions"].to_list() == steps["count"].sort(descending=True).head(10).to_list()
    assert found["share"][0] == pytest.approx(found["sessions"][0] / steps["count"].sum())


def test_command_line(beside: Path) -> None:
    """Run with DuckDB's shell of major version 1 too, where it is installed: the catalog is written for both."""
    if shutil.which("duckdb") is None:
        pytest.skip("DuckDB's command line is not installed")
    language, code = RECIPES["From the command line"]
    assert language == "sh"
    subprocess.run(["bash", "-euc", code], check=True, timeout=60)
    rows = list(csv.DictReader(Path("daily.csv").read_text(encoding="utf-8").splitlines()))
    with connect(beside) as shop:
        days = read(shop, "FROM sessions").group_by("dt").agg(pl.len(), pl.col("person_id").n_unique()).sort("dt")
    assert [(row["dt"], int(row["sessions"]), int(row["persons"])) for row in rows] == [
        (str(day), sessions, persons) for day, sessions, persons in days.iter_rows()
    ]


def test_catalog_is_written_for_clients_of_duckdb_1_too(beside: Path) -> None:
    """The file header holds the storage version: 64 is what DuckDB 1.0 wrote."""
    header = (beside / "journeys.duckdb").read_bytes()[:20]
    assert header[8:12] == b"DUCK"
    assert int.from_bytes(header[12:20], "little") == 64


def test_own_tables(beside: Path) -> None:
    with duckdb.connect("own.duckdb") as mine:
        found = run_statements(mine, "With own tables")
    with connect(beside) as shop:
        sessions = read(shop, "FROM sessions")
    tier = pl.when(pl.len().over("person_id") > 5).then(pl.lit("gold")).otherwise(pl.lit("new")).alias("tier")
    bought = pl.col("steps").list.contains("purchase").sum().alias("with_purchase")
    expected = sessions.with_columns(tier).group_by("tier").agg(pl.len(), bought).sort("tier")
    assert list(found.iter_rows()) == list(expected.iter_rows())


def test_files_for_other_tools(beside: Path) -> None:
    with connect(beside) as shop:
        found = run_statements(shop, "For other tools")
        assert found["events"][0] == read(shop, "FROM events").height
    assert pl.read_parquet("events_by_day.parquet").height == found["rows"][0]
