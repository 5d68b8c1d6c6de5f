"""Compaction changes files and nothing else, whoever writes, reads or kills meanwhile."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from errors import WarehouseError
from events.schema import TABLES
from sinks.compaction import compact, merge_rows, plan_merges
from sinks.manifest import (
    MERGED,
    DataFile,
    Manifest,
    add_files,
    clean_up,
    list_data,
    name_files,
    publish,
    read_manifest,
    remove_orphans,
)
from sinks.rewriting import read_data, write_data
from sinks.storage import Folders, hold_publish_lock, hold_rewrite_lock
from tests.sample_warehouse import get_finished, get_stopped
from tests.upkeep import halt_command, kill_command, list_failed, read_catalog_version, read_tables

COMPACT = "import sys, pathlib; from sinks.compaction import compact; from sinks.storage import Folders;"
COMPACT += "compact(Folders(pathlib.Path(sys.argv[1])))"


@pytest.fixture
def folders(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(shutil.copytree(get_finished(tmp_path_factory), tmp_path / "warehouse"))


def list_merged(folders: Folders) -> list[str]:
    return sorted(path.name for path in list_data(folders) if path.name.startswith(MERGED))


def list_unnamed(folders: Folders) -> set[str]:
    return {path.relative_to(folders.root).as_posix() for path in list_data(folders)} - name_files(folders)


def describe_columns(folders: Folders, files: tuple[DataFile, ...]) -> set[str]:
    """Return the Parquet types of the columns, as any reader sees them."""
    return {str(pq.read_metadata(folders.root / file.path).schema).partition("\n")[2] for file in files}


def pick_merged(files: tuple[DataFile, ...]) -> list[DataFile]:
    """Leave out what was a day's only file and stayed as the job wrote it."""
    return [file for file in files if Path(file.path).name.startswith(MERGED)]


def append_event(folders: Folders, name: str) -> DataFile:
    """Do what a running job does: write a file and publish a manifest with it at the end."""
    manifest = read_manifest(folders)
    row = read_data(folders, "events", manifest.files["events"][0].path).head(1)
    row = row.with_columns(event_id=pl.lit(name), person_id=pl.lit(name))
    file = write_data(folders, "events", manifest.files["events"][0].dt, name, row)
    with hold_publish_lock(folders):
        newest = read_manifest(folders)
        publish(folders, replace(newest, files=add_files(newest.files, {"events": (file,)})))
    return file


@pytest.mark.parametrize("get", [get_finished, get_stopped])
def test_views_stay_the_same_and_files_become_few(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, get: object
) -> None:
    assert callable(get)
    folders = Folders(shutil.copytree(get(tmp_path_factory), tmp_path / "warehouse"))
    before, old = read_tables(folders), read_manifest(folders)
    report = compact(folders)
    new = read_manifest(folders)
    assert read_tables(folders) == before
    assert report.version == new.version == read_catalog_version(folders)
    assert report.tables
    assert (new.tail, new.parts, new.epoch, new.run, new.complete) == (
        old.tail,
        old.parts,
        old.epoch,
        old.run,
        old.complete,
    )
    for table, files in new.files.items():
        assert len(files) <= len(old.files[table])
        # All is small here, so each day has one file.
        assert len({file.dt for file in files}) == len(files)
    assert list_failed(folders) == []


def test_schema_of_every_file_stays_the_same(folders: Folders) -> None:
    old = read_manifest(folders)
    before = {table: describe_columns(folders, files) for table, files in old.files.items()}
    compact(folders)
    for table, files in read_manifest(folders).files.items():
        assert describe_columns(folders, files) == before[table]
        for file in pick_merged(files):
            assert dict(pl.read_parquet_schema(folders.root / file.path)) == TABLES[table]


def test_second_compaction_finds_nothing_to_do(folders: Folders) -> None:
    compact(folders)
    version = read_manifest(folders).version
    report = compact(folders)
    assert report.tables == ()
    assert read_manifest(folders).version == version
    assert "nothing" in str(report)


def test_additive_rows_are_summed_and_others_sorted(folders: Folders) -> None:
    compact(folders)
    files = read_manifest(folders).files
    keys = {"transitions": ["hour", "channel", "from_step", "to_step"], "paths": ["path_hash"]}
    for table, names in keys.items():
        for file in files[table]:
            frame = read_data(folders, table, file.path)
            assert frame.select(pl.struct(names).is_unique().all()).item(), table
    merged = pick_merged(files["events"])
    assert merged
    for file in merged:
        keys_of_rows = read_data(folders, "events", file.path).select("person_id", "event_time")
        assert keys_of_rows.equals(keys_of_rows.sort("person_id", "event_time"))


def test_histograms_are_added_bucket_by_bucket() -> None:
    hour = pl.datetime(2026, 1, 1, time_unit="us", time_zone="UTC")

    def make(n: int, seconds: float, bars: list[tuple[int, int]], step: str = "b") -> pl.DataFrame:
        row = {
            "channel": "web",
            "from_step": "a",
            "to_step": step,
            "transitions": n,
            "total_seconds": seconds,
            "seconds_histogram": [{"bucket": bucket, "n": count} for bucket, count in bars],
        }
        columns = [name for name in TABLES["transitions"] if name != "hour"]
        frame = pl.DataFrame([row], schema={name: TABLES["transitions"][name] for name in columns})
        return frame.with_columns(hour=hour).select(*TABLES["transitions"])

    merged = merge_rows(
        "transitions", [make(2, 1.5, [(3, 1), (9, 1)]), make(3, 0.25, [(-1000, 1), (3, 2)]), make(1, 0.0, [], "(end)")]
    )
    assert merged["transitions"].to_list() == [1, 5]
    assert merged["total_seconds"].to_list() == [0.0, 1.75]
    assert merged["seconds_histogram"].to_list() == [
        [],
        [{"bucket": -1000, "n": 1}, {"bucket": 3, "n": 3}, {"bucket": 9, "n": 1}],
    ]


def test_large_files_are_left_alone_and_a_merge_ends_at_its_target(folders: Folders) -> None:
    day = "2026-01-05"
    real = read_manifest(folders).files["events"][0]
    sizes = [10, 40, 10, 10, 10, 10]
    rows = tuple(replace(real, bytes=size, dt=day) for size in sizes)
    merges = list(plan_merges(folders, "events", Manifest(files={"events": rows}), 30, 25))
    assert [[file.bytes for file in merge] for merge in merges] == [[10, 10, 10], [10, 10]]


def test_old_files_stay_for_readers_of_older_manifests_and_go_with_them(folders: Folders) -> None:
    old = {file.path for files in read_manifest(folders).files.values() for file in files}
    compact(folders)
    assert all((folders.root / name).exists() for name in old)
    clean_up(folders, keep=1)
    kept = {file.path for files in read_manifest(folders).files.values() for file in files}
    assert not any((folders.root / name).exists() for name in old - kept)
    assert list_failed(folders) == []


def test_compact_itself_can_let_go_of_the_old_files(folders: Folders) -> None:
    report = compact(folders, keep=1)
    assert report.removed > 0
    assert list_unnamed(folders) == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    "point",
    [
        "compact_begin",
        "before_rewritten:3",
        "after_rewritten:2",
        "compact_written:2",
        "before_manifest:2",
        "after_manifest:2",
        "before_catalog_rename:2",
        "compact_swapped:2",
    ],
)
def test_kill_leaves_the_same_tables_and_the_next_call_finishes(folders: Folders, point: str) -> None:
    compact_alone = Folders(shutil.copytree(folders.root, folders.root.parent / "alone"))
    compact(compact_alone)
    wanted = read_tables(compact_alone)
    kill_command(COMPACT, str(folders.root), point=point)
    assert list_failed(folders) == []
    compact(folders)
    assert read_tables(folders) == wanted
    assert list_unnamed(folders) == set()
    assert [len(files) for files in read_manifest(folders).files.values()] == [
        len(files) for files in read_manifest(compact_alone).files.values()
    ]


def test_commits_of_a_running_job_are_kept(folders: Folders) -> None:
    with halt_command(COMPACT, str(folders.root), point="compact_written"):
        added = append_event(folders, "newcomer")
    files = read_manifest(folders).files["events"]
    assert added in files
    assert len(files) == len({file.dt for file in files}) + 1
    assert any("newcomer" in row for row in read_tables(folders)["events"])


def test_starting_job_leaves_a_running_compactions_files_alone_but_not_a_dead_ones(folders: Folders) -> None:
    with halt_command(COMPACT, str(folders.root), point="compact_written"):
        waiting = list_unnamed(folders)
        assert waiting
        assert remove_orphans(folders, ()) == 0
        assert list_unnamed(folders) == waiting
    assert list_unnamed(folders) == set()
    assert list_failed(folders) == []
    dead = read_manifest(folders).files["events"][0]
    shutil.copy(folders.root / dead.path, (folders.root / dead.path).with_name(f"{MERGED}9999999-00000.parquet"))
    assert remove_orphans(folders, ()) == 1


def test_second_compaction_waits_for_the_first(folders: Folders) -> None:
    halted = halt_command(COMPACT, str(folders.root), point="compact_written")
    with halted, hold_rewrite_lock(folders, wait=False) as got:
        assert not got
    with hold_rewrite_lock(folders, wait=False) as got:
        assert got


def test_merge_whose_inputs_are_gone_is_given_up(folders: Folders) -> None:
    with halt_command(COMPACT, str(folders.root), point="compact_written"), hold_publish_lock(folders):
        newest = read_manifest(folders)
        rows = newest.files["events"]
        gone = next(file for file in rows if sum(other.dt == file.dt for other in rows) > 1)
        stay = [file for file in rows if file != gone]
        publish(folders, replace(newest, files={**newest.files, "events": tuple(stay)}))
    files = read_manifest(folders).files["events"]
    assert gone not in files
    assert [file for file in files if file.dt == gone.dt] == [file for file in stay if file.dt == gone.dt]
    assert sum(file.rows for file in files) == sum(file.rows for file in stay)
    assert list_unnamed(folders) == set()


def test_folder_without_tables_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WarehouseError, match="holds no tables"):
        compact(Folders(tmp_path))
    assert list(tmp_path.iterdir()) == []
