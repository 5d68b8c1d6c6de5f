"""The views as objects of a catalog: without rows, in odd folders, attached, with odd names."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import polars as pl
import pytest

from config import FunnelRules
from sinks.catalog import open_views
from sinks.manifest import Manifest
from sinks.storage import Folders
from sinks.views import ADDITIVE, QUESTIONS, Declared, build_views, sql_type
from tests.sample_warehouse import connect, get_finished, make_config, read


@pytest.fixture
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return get_finished(tmp_path_factory)


def test_a_warehouse_without_rows_answers_every_question_with_none(tmp_path: Path) -> None:
    connection, _ = open_views(Folders(tmp_path), threads=1)
    with connection:
        for name in build_views(tmp_path, Manifest(), Declared()):
            assert read(connection, f'FROM "{name}"').height == (name == "snapshot"), name


def test_views_have_the_same_columns_with_rows_and_without(finished: Path, tmp_path: Path) -> None:
    empty, _ = open_views(Folders(tmp_path), threads=1)
    with connect(finished) as shop, empty:
        for name in build_views(tmp_path, Manifest(), Declared()):
            describe = f'SELECT column_name, column_type FROM (DESCRIBE "{name}")'
            assert read(shop, describe).rows() == read(empty, describe).rows(), name


@pytest.mark.parametrize("name", ["shop [1]*?", "channel=web", "it's", "dt=1999-01-01"])
def test_views_read_a_warehouse_whatever_its_folder_is_called(finished: Path, tmp_path: Path, name: str) -> None:
    moved = tmp_path / name / "warehouse"
    shutil.copytree(finished, moved)
    connection, _ = open_views(Folders(moved), threads=1)
    query = "SELECT dt, channel, count(*) AS events FROM events GROUP BY ALL ORDER BY ALL"
    with connect(finished) as shop, connection:
        assert read(connection, query).equals(read(shop, query))
        assert read(connection, "DESCRIBE events").rows() == read(shop, "DESCRIBE events").rows()


def test_attached_under_another_name_the_views_still_find_each_other(finished: Path) -> None:
    with duckdb.connect() as connection, connect(finished) as shop:
        connection.execute(f"ATTACH '{finished / 'journeys.duckdb'}' AS other (READ_ONLY)")
        connection.execute("CREATE TABLE events AS SELECT 1 AS mine")
        for name in QUESTIONS:
            if name not in ADDITIVE:
                assert read(connection, f"FROM other.{name}").height == read(shop, f"FROM {name}").height


def test_names_with_quotes_are_kept(tmp_path: Path) -> None:
    declared = Declared({"It's": ("a'b",)}, [FunnelRules("f'1", ("a'b", "c"))])
    with duckdb.connect() as connection:
        views = build_views(tmp_path, Manifest(), declared)
        assert read(connection, views["stages"]).rows() == [(0, "It's", 0, "a'b")]
        assert read(connection, views["funnels"])["funnel"].to_list() == ["f'1", "f'1"]


def test_sql_types_of_nested_columns() -> None:
    assert sql_type(pl.List(pl.Struct({"bucket": pl.Int32, "n": pl.Int64}))) == "STRUCT(bucket INTEGER, n BIGINT)[]"


def test_stages_and_funnels_are_those_of_the_config(finished: Path) -> None:
    config = make_config()
    with connect(finished) as shop:
        stages = read(shop, "FROM stages")
        funnels = read(shop, "FROM funnels")
    named = [(n, name, step) for n, (name, steps) in enumerate(config.stages.items()) for step in steps]
    assert stages.rows() == [(n, name, place, step) for place, (n, name, step) in enumerate(named)]
    expected = [(r.name, n, s, r.within / 1e6, r.scope) for r in config.funnels for n, s in enumerate(r.steps)]
    assert sorted(funnels.rows()) == sorted(expected)


def test_no_view_multiplies_rows(finished: Path) -> None:
    """A step in two stages can't be declared; without that, every join of a view is to one row at most."""
    keys = {
        "transitions": "hour, channel, from_step, to_step",
        "paths": "dt, path_hash",
        "ledger": "source, source_partition",
        "funnel_conversion": "funnel, step_index",
        "time_to_convert": "funnel, step_index",
        "top_paths": "path",
        "step_transitions": "from_step, to_step",
        "journey_map": "stage, channel",
        "stage_flows": "from_stage, from_channel, to_stage, to_channel",
        "live_sessions": "session_id",
        "daily_sessions": "dt",
        "persons": "person_id",
    }
    assert keys.keys() == QUESTIONS.keys()
    with connect(finished) as shop:
        for name, key in keys.items():
            counts = read(shop, f'SELECT count(*) AS n, count(DISTINCT ({key})) AS keys FROM "{name}"').row(0)
            assert counts[0] == counts[1], name
        assert read(shop, "SELECT sum(events) FROM journey_map").item() == read(shop, "FROM events").height
