"""The catalog is one manifest's views in one file: readable by any client, replaced whole, right after a move."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import duckdb
import polars as pl
import pytest

from events.schema import TABLES
from sinks.catalog import open_views, read_declared, write_catalog
from sinks.manifest import DataFile, Manifest, publish
from sinks.storage import Folders, hold_publish_lock


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    folders = Folders(tmp_path / "ware'house")  # a quote, because paths end up in SQL
    folders.make()
    return folders


def add_event(folders: Folders, manifest: Manifest, name: str) -> Manifest:
    """Publish one more event and its catalog."""
    path = folders.root / "events" / "dt=2026-01-02" / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame({"event_id": [name]}, schema_overrides=TABLES["events"]).select(
        *(
            pl.col("event_id") if column == "event_id" else pl.lit(None, dtype=dtype).alias(column)
            for column, dtype in TABLES["events"].items()
        )
    ).write_parquet(path)
    file = DataFile(path.relative_to(folders.root).as_posix(), 1, path.stat().st_size, "2026-01-02")
    files = {"events": (*manifest.files.get("events", ()), file)}
    with hold_publish_lock(folders):
        manifest = publish(folders, replace(manifest, files=files))
        write_catalog(folders, manifest)
    return manifest


def count_events(connection: duckdb.DuckDBPyConnection) -> int:
    ((count,),) = connection.execute("SELECT count(*) FROM events").fetchall()
    return int(count)


def test_another_process_style_client_reads_the_views(folders: Folders) -> None:
    manifest = add_event(folders, Manifest(), "one")
    with duckdb.connect(str(folders.catalog), read_only=True) as connection:
        assert count_events(connection) == 1
        assert connection.execute("SELECT dt::VARCHAR FROM events").fetchall() == [("2026-01-02",)]
        assert connection.execute("SELECT version, complete FROM snapshot").fetchall() == [(manifest.version, False)]


def test_every_view_can_be_read_when_no_table_has_a_file(folders: Folders) -> None:
    write_catalog(folders, Manifest())
    with duckdb.connect(str(folders.catalog), read_only=True) as connection:
        found = connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
        views = [name for (name,) in found]
        assert set(TABLES) <= set(views)
        for view in views:
            connection.execute(f'SELECT * FROM "{view}"').fetchall()


def test_reader_keeps_the_epoch_that_it_opened(folders: Folders) -> None:
    manifest = add_event(folders, Manifest(), "one")
    with duckdb.connect(str(folders.catalog), read_only=True) as reader:
        add_event(folders, manifest, "two")
        assert count_events(reader) == 1
    with duckdb.connect(str(folders.catalog), read_only=True) as reader:
        assert count_events(reader) == 2


def test_log_left_beside_an_old_catalog_does_not_reach_the_new_one(folders: Folders) -> None:
    manifest = add_event(folders, Manifest(), "one")
    beside = folders.catalog.with_name(folders.catalog.name + ".wal")
    beside.write_bytes(b"something a client left")
    add_event(folders, manifest, "two")
    assert not beside.exists()


def test_nothing_is_left_beside_the_catalog(folders: Folders) -> None:
    add_event(folders, Manifest(), "one")
    assert [path.name for path in folders.root.glob("*.duckdb*")] == ["journeys.duckdb"]
    assert list(folders.inner.glob("catalog-*")) == []


def test_views_in_memory_are_right_after_the_folder_was_moved(folders: Folders) -> None:
    add_event(folders, Manifest(), "one")
    moved = Folders(folders.root.with_name("moved"))
    shutil.move(folders.root, moved.root)
    with duckdb.connect(str(moved.catalog), read_only=True) as connection, pytest.raises(duckdb.Error):
        count_events(connection)
    connection, manifest = open_views(moved)
    with connection:
        assert count_events(connection) == 1
    with hold_publish_lock(moved):
        write_catalog(moved, manifest)
    with duckdb.connect(str(moved.catalog), read_only=True) as connection:
        assert count_events(connection) == 1


def test_files_that_no_manifest_names_are_not_seen(folders: Folders) -> None:
    manifest = add_event(folders, Manifest(), "one")
    path = folders.root / manifest.files["events"][0].path
    shutil.copy(path, path.with_name("x.parquet"))
    with duckdb.connect(str(folders.catalog), read_only=True) as connection:
        assert count_events(connection) == 1


def test_stages_and_funnels_come_from_the_metadata(folders: Folders) -> None:
    assert read_declared(folders).stages == {}
    body = {
        "stages": {"Buying": ["cart"]},
        "funnel_rules": [{"name": "buy", "steps": ["a", "b"], "within": 5, "scope": "person"}],
    }
    (folders.inner / "warehouse.json").write_text(json.dumps(body))
    declared = read_declared(folders)
    assert declared.stages == {"Buying": ["cart"]}
    assert [rules.name for rules in declared.funnels] == ["buy"]
    add_event(folders, Manifest(), "one")
    with duckdb.connect(str(folders.catalog), read_only=True) as connection:
        assert connection.execute("SELECT stage, step FROM stages").fetchall() == [("Buying", "cart")]
