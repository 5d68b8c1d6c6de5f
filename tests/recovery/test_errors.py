"""What can't go on says so, with a remedy, leaves the warehouse as it was, and goes on once the cause is gone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from errors import (
    ConfigChangedError,
    JourneyError,
    RecoveryError,
    SourceChangedError,
    UsageError,
    WarehouseError,
    WarehouseLockedError,
)
from flows.replay import run_replay
from sinks.storage import Folders, hold_writer_lock
from tests.recovery.conftest import SMALL, Truth
from tests.recovery.data import write_inputs
from tests.recovery.driver import make_config, make_options
from tests.recovery.jobs import KILLED, assert_same, finish_job, newest_manifest, read_version, run_job

pytestmark = pytest.mark.slow
FRESH = "replay into a new"


@pytest.fixture(scope="module")
def killed(small: Truth, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a warehouse whose job was killed on the way, with tables and a store."""
    warehouse = tmp_path_factory.mktemp("killed") / "warehouse"
    told = small.told(warehouse, snapshot_ms=1)
    assert run_job(told, fail_at="before_forget_descriptor:3").code == KILLED
    assert newest_manifest(told).parts
    return warehouse


@pytest.fixture
def begun(killed: Path, tmp_path: Path) -> Path:
    """Copy that warehouse."""
    return Path(shutil.copytree(killed, tmp_path / "warehouse"))


def refuse(error: type[JourneyError], told: dict[str, Any]) -> JourneyError:
    """Run a replay that must refuse to start, in this process: the dataflow is never begun. Returns its error."""
    with pytest.raises(error) as caught:
        run_replay(make_options(told), make_config(told))
    assert caught.value.remedy, "an error without a remedy"
    return caught.value


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"gap_s": 60}, "[sessions]"),
        ({"time_unit": "ms"}, "[input]"),
        ({"step": "renamed"}, "[[steps]]"),
        ({"within_s": 60}, "[funnels]"),
        ({"key_groups": 5}, "key_groups = 3"),
        ({"writers": 1}, "writers = 2"),
    ],
)
def test_settings_that_would_change_the_tables_are_refused_by_name(
    small: Truth, begun: Path, change: dict[str, Any], named: str
) -> None:
    version = read_version(small.told(begun))
    error = refuse(ConfigChangedError, small.told(begun, **change))
    assert named in error.problem
    assert read_version(small.told(begun)) == version


def test_other_snapshot_intervals_blocks_and_workers_are_no_change(small: Truth, begun: Path) -> None:
    finish_job(small.told(begun, snapshot_ms=77, block_bytes=1 << 20, workers=2, release_rows=1_000))
    small.assert_same(begun)


def damage_store(warehouse: Path, how: str) -> None:
    """Damage the recovery store in one of several ways."""
    folder = warehouse / "_journeys" / "recovery"
    part = folder / "part-0.sqlite3"
    for log in folder.glob("part-0.sqlite3-*"):
        log.unlink()
    if how == "truncated":
        os.truncate(part, part.stat().st_size // 2)
    elif how == "empty":
        part.write_bytes(b"")
    elif how == "garbage":
        part.write_bytes(os.urandom(20_000))
    elif how == "overwritten":
        with open(part, "r+b") as file:
            file.seek(4096)
            file.write(os.urandom(part.stat().st_size - 4096))
    elif how == "missing":
        shutil.rmtree(folder)
    elif how == "part missing":
        part.rename(folder / "part-1.sqlite3")
        (folder / "part-0.sqlite3").write_bytes(b"")


@pytest.mark.parametrize("how", ["truncated", "empty", "garbage", "overwritten", "missing", "part missing"])
def test_a_damaged_store_is_an_error_and_the_tables_stay(small: Truth, begun: Path, how: str) -> None:
    version = read_version(small.told(begun))
    damage_store(begun, how)
    error = refuse(RecoveryError, small.told(begun))
    assert FRESH in error.remedy
    assert read_version(small.told(begun)) == version


def test_the_store_of_another_warehouse_is_refused(small: Truth, begun: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    finish_job(small.told(other, snapshot_ms=50))
    shutil.rmtree(begun / "_journeys" / "recovery")
    shutil.copytree(other / "_journeys" / "recovery", begun / "_journeys" / "recovery")
    assert "another warehouse" in refuse(RecoveryError, small.told(begun)).problem
    # A used store and an empty warehouse would begin in the middle.
    told = small.told(tmp_path / "new", recovery=str(other / "_journeys" / "recovery"))
    assert "another warehouse" in refuse(RecoveryError, told).problem


def test_a_store_older_than_the_tables_is_refused(small: Truth, begun: Path, tmp_path: Path) -> None:
    older = shutil.copytree(begun / "_journeys" / "recovery", tmp_path / "older")
    finish_job(small.told(begun))
    shutil.rmtree(begun / "_journeys" / "recovery")
    shutil.copytree(older, begun / "_journeys" / "recovery")
    assert "older than the tables" in refuse(RecoveryError, small.told(begun)).problem


def test_tables_older_than_the_store_are_refused(small: Truth, begun: Path, tmp_path: Path) -> None:
    told = small.told(begun, recovery=str(tmp_path / "store"))
    shutil.move(begun / "_journeys" / "recovery", tmp_path / "store")
    older = shutil.copytree(begun, tmp_path / "older")
    finish_job(told)
    assert "is missing here" in refuse(RecoveryError, {**told, "warehouse": str(older)}).problem


def test_a_second_writer_is_refused_while_one_runs_and_a_dead_ones_lock_is_not(small: Truth, begun: Path) -> None:
    assert "process" in (begun / "_journeys" / "writer.lock").read_text(), "the killed job left no lock file"
    with hold_writer_lock(Folders(begun), "a test"):
        error = refuse(WarehouseLockedError, small.told(begun))
    assert f"process {os.getpid()} (a test)" in error.problem
    finish_job(small.told(begun))
    small.assert_same(begun)


def test_a_run_without_recovery_is_refused_where_a_replay_began(small: Truth, begun: Path) -> None:
    assert "--no-recovery" in refuse(UsageError, small.told(begun, use_recovery=False)).problem


@pytest.fixture
def own(small: Truth, tmp_path: Path) -> dict[str, Any]:
    """Kill a job over inputs that a test may change."""
    inputs = shutil.copytree(small.inputs, tmp_path / "inputs")
    told = {"patterns": [str(inputs)], "warehouse": str(tmp_path / "own"), "snapshot_ms": 1}
    assert run_job(told, fail_at="after_manifest:4").code == KILLED
    return told


def test_a_file_that_vanished_shrank_or_changed_between_runs_is_named(own: dict[str, Any]) -> None:
    file = Path(own["patterns"][0]) / "web-0.ndjson"
    content = file.read_bytes()
    file.unlink()
    assert str(file) in refuse(SourceChangedError, own).problem
    file.write_bytes(content[:-1_000])
    assert "changed" in refuse(SourceChangedError, own).problem
    file.write_bytes(content.replace(b"messageId", b"messageID", 1))
    assert "changed" in refuse(SourceChangedError, own).problem
    file.write_bytes(content)
    finish_job(own)


def test_a_file_that_grew_is_taken_up_if_it_was_the_last_of_its_lane(tmp_path: Path) -> None:
    inputs, whole = tmp_path / "inputs", tmp_path / "whole"
    write_inputs(inputs, SMALL)
    last = inputs / "web-2.ndjson"
    lines = last.read_bytes().splitlines(keepends=True)
    last.write_bytes(b"".join(lines[:200]))
    for other in ("support.ndjson", "mobile.ndjson.gz"):
        (inputs / other).unlink()
    told = {"patterns": [str(inputs)], "warehouse": str(tmp_path / "warehouse")}
    finish_job(told)
    last.write_bytes(b"".join(lines))
    assert finish_job(told).outcome == "finished"
    finish_job({**told, "warehouse": str(whole)})
    assert_same(tmp_path / "warehouse", whole)
    first = inputs / "web-0.ndjson"
    first.write_bytes(first.read_bytes() + lines[0])
    assert "grew" in refuse(SourceChangedError, told).problem


def test_a_file_that_grew_in_the_middle_of_a_line_is_refused(tmp_path: Path) -> None:
    inputs = tmp_path / "inputs"
    write_inputs(inputs, SMALL)
    for other in ("support.ndjson", "mobile.ndjson.gz", "web-1.ndjson", "web-2.ndjson"):
        (inputs / other).unlink()
    content = (inputs / "web-0.ndjson").read_bytes()
    (inputs / "web-0.ndjson").write_bytes(content[:-100])
    told = {"patterns": [str(inputs)], "warehouse": str(tmp_path / "warehouse")}
    finish_job(told)
    (inputs / "web-0.ndjson").write_bytes(content)
    assert "grew" in refuse(SourceChangedError, told).problem


def test_a_folder_that_cant_be_made_is_a_clear_error(small: Truth, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    error = refuse(WarehouseError, small.told(tmp_path / "file" / "warehouse"))
    assert "can't be written" in error.problem


@pytest.mark.parametrize("most", [20_000, 150_000])
def test_a_run_that_may_write_no_more_fails_clearly_and_goes_on_later(small: Truth, tmp_path: Path, most: int) -> None:
    told = small.told(tmp_path / "warehouse", snapshot_ms=50)
    ending = run_job({**told, "rlimit": most})
    assert ending.code == 1, ending
    assert "WarehouseError" in ending.err or "RecoveryError" in ending.err, ending.err
    assert "→" in ending.err
    finish_job(told)
    small.assert_same(tmp_path / "warehouse")


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 2 MB; only root can."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this user can't mount a file system")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_is_a_clear_error_and_the_job_goes_on_when_there_is_space(small: Truth, tiny_disk: Path) -> None:
    told = small.told(tiny_disk / "warehouse", snapshot_ms=50)
    ending = run_job(told)
    assert ending.code == 1, ending
    assert "WarehouseError" in ending.err or "RecoveryError" in ending.err, ending.err
    subprocess.run(["mount", "-o", "remount,size=100m", str(tiny_disk)], check=True)
    finish_job(told)
    small.assert_same(tiny_disk / "warehouse")


def test_a_damaged_manifest_or_metadata_is_named(small: Truth, begun: Path) -> None:
    newest = max((begun / "_journeys" / "manifests").glob("*.json"))
    content = newest.read_text()
    newest.write_text(content[: len(content) // 2])
    assert newest.name in refuse(WarehouseError, small.told(begun)).problem
    newest.write_text(json.dumps({**json.loads(content), "format": 99}))
    assert "format 99" in refuse(WarehouseError, small.told(begun)).problem
