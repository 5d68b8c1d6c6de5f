"""What the recovery store calls durable is published, once, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import polars as pl
import pytest

from events.schema import TABLES
from sinks.manifest import DataFile, Files, Manifest, read_manifest, save_files
from sinks.publishing import discard_undurable, find_lost, list_descriptors, list_waiting, publish_durable
from sinks.storage import Folders, write_atomically

EVENTS, SESSIONS = "events", "sessions"


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    folders = Folders(tmp_path / "warehouse")
    folders.make()
    return folders


def make_file(folders: Folders, name: str, table: str = EVENTS) -> DataFile:
    """Write an empty data file of a table."""
    path = folders.root / table / "dt=2026-01-01" / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(schema=TABLES[table]).write_parquet(path)
    return DataFile(path.relative_to(folders.root).as_posix(), 0, path.stat().st_size, "2026-01-01")


def describe(folders: Folders, part: str, commit: int, run: int = 1, *, tail: bool = False) -> DataFile:
    """Write what a writer writes in an epoch; with `tail`, also what the end of the replay adds."""
    file = make_file(folders, f"{part}-{commit}")
    ended: Files = {SESSIONS: (make_file(folders, f"{part}-{commit}-tail", SESSIONS),)} if tail else {}
    body = {
        "part": part,
        "commit": commit,
        "run": run,
        "files": save_files({EVENTS: (file,)}),
        "tail": save_files(ended),
    }
    write_atomically(folders.pending / f"{part}-{commit:010d}.json", json.dumps(body).encode())
    return file


def names(manifest: Manifest, table: str = EVENTS) -> list[str]:
    return [Path(file.path).stem for file in manifest.visible(table)]


def test_durable_commits_of_all_writers_come_in_one_manifest(folders: Folders) -> None:
    for part in ("w00", "w01"):
        describe(folders, part, 1)
        describe(folders, part, 2)
    manifest = publish_durable(folders, {"w00": 2, "w01": 1}, 7)
    assert names(manifest) == ["w00-1", "w00-2", "w01-1"]
    assert (manifest.version, manifest.epoch, manifest.parts) == (1, 7, {"w00": 2, "w01": 1})
    assert read_manifest(folders) == manifest


def test_published_descriptors_go_and_undurable_ones_stay(folders: Folders) -> None:
    describe(folders, "w00", 1)
    describe(folders, "w00", 2)
    publish_durable(folders, {"w00": 1}, 1)
    assert [(found.part, found.commit) for found in list_descriptors(folders)] == [("w00", 2)]
    assert list_waiting(folders) == {"w00": 2}


def test_publishing_again_changes_nothing(folders: Folders) -> None:
    describe(folders, "w00", 1)
    first = publish_durable(folders, {"w00": 1}, 3)
    assert publish_durable(folders, {"w00": 1}, 3) == first
    describe(folders, "w00", 1)  # as after a kill before the descriptor was removed
    assert publish_durable(folders, {"w00": 1}, 3) == first
    assert list_descriptors(folders) == []


def test_nothing_durable_publishes_nothing(folders: Folders) -> None:
    describe(folders, "w00", 1)
    assert publish_durable(folders, {}, 1).version == 0
    assert read_manifest(folders) == Manifest()


def test_epoch_never_goes_back(folders: Folders) -> None:
    describe(folders, "w00", 1)
    publish_durable(folders, {"w00": 1}, 9)
    describe(folders, "w00", 2)
    assert publish_durable(folders, {"w00": 2}, 0).epoch == 9


def test_commit_of_a_later_run_takes_back_the_tail(folders: Folders) -> None:
    describe(folders, "w00", 1, tail=True)
    describe(folders, "w01", 1, tail=True)
    first = publish_durable(folders, {"w00": 1, "w01": 1}, 2, "all inputs")
    assert names(first, SESSIONS) == ["w00-1-tail", "w01-1-tail"]
    assert first.complete == "all inputs"
    describe(folders, "w00", 2, run=2)
    second = publish_durable(folders, {"w00": 2, "w01": 1}, 3)
    assert names(second, SESSIONS) == []
    assert names(second) == ["w00-1", "w01-1", "w00-2"]
    assert second.complete == ""


def test_tail_of_one_run_adds_up_over_its_commits(folders: Folders) -> None:
    describe(folders, "w00", 1, tail=True)
    publish_durable(folders, {"w00": 1}, 2)
    describe(folders, "w01", 1, tail=True)
    assert names(publish_durable(folders, {"w00": 1, "w01": 1}, 3), SESSIONS) == ["w00-1-tail", "w01-1-tail"]


def test_completion_without_new_rows_is_published(folders: Folders) -> None:
    describe(folders, "w00", 1)
    publish_durable(folders, {"w00": 1}, 2)
    manifest = publish_durable(folders, {"w00": 1}, 2, "inputs")
    assert (manifest.version, manifest.complete) == (2, "inputs")
    assert publish_durable(folders, {"w00": 1}, 2, "inputs").version == 2


def test_undurable_descriptors_are_discarded_and_needed_files_named(folders: Folders) -> None:
    kept = describe(folders, "w00", 1, tail=True)
    describe(folders, "w00", 2)
    needed = discard_undurable(folders, {"w00": 1})
    assert needed == [kept.path, kept.path.replace("events/", "sessions/").replace("w00-1", "w00-1-tail")]
    assert list_waiting(folders) == {"w00": 1}


def test_durable_commit_that_nobody_holds_is_found(folders: Folders) -> None:
    describe(folders, "w00", 1)
    manifest = publish_durable(folders, {"w00": 1}, 2)
    describe(folders, "w00", 3)
    assert find_lost(folders, manifest, {"w00": 3}) == ["w00-2"]
    assert find_lost(folders, manifest, {"w00": 1}) == []


def test_catalog_shows_what_was_published(folders: Folders) -> None:
    describe(folders, "w00", 1)
    manifest = publish_durable(folders, {"w00": 1}, 5)
    with duckdb.connect(str(folders.catalog), read_only=True) as connection:
        assert connection.execute("SELECT version, epoch FROM snapshot").fetchall() == [(manifest.version, 5)]


def test_missing_catalog_is_written_again(folders: Folders) -> None:
    describe(folders, "w00", 1)
    publish_durable(folders, {"w00": 1}, 1)
    folders.catalog.unlink()
    publish_durable(folders, {"w00": 1}, 1)
    assert folders.catalog.exists()
