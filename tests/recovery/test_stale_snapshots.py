"""Snapshots that a killed run left past the resume epoch must never be loaded: the engine would, the fence mends it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from bytewax.recovery import init_db_dir

from flows.recovery import fence, read_resume_epoch
from tests.recovery.conftest import Truth
from tests.recovery.data import Shape, write_inputs
from tests.recovery.jobs import KILLED, compare_warehouses, finish_job, run_job, start_python

pytestmark = pytest.mark.slow
KEYS = ("a", "a", "a", "b", "a")
LONG_MS, SHORT_MS = 60_000, 1


def count_keys(folder: Path, crash_at: int, stop_at: int, interval_ms: int) -> int:
    """Run the counting flow; return its exit code."""
    arguments = [str(folder / "store"), str(folder / "out"), str(crash_at), str(stop_at), str(interval_ms), *KEYS]
    process = start_python("tests/recovery/counting.py", *arguments)
    _, err = process.communicate(timeout=60)
    assert process.returncode in (0, KILLED), err
    return process.returncode


def last_counts(folder: Path) -> dict[str, int]:
    """Return the last count that was written for each key."""
    return {key: int(count) for key, count in map(str.split, (folder / "out").read_text().splitlines())}


def list_snapshots(store: Path) -> list[tuple[str, str, int]]:
    """List step, key and epoch of every snapshot in a store."""
    with closing(sqlite3.connect(store / "part-0.sqlite3")) as connection:
        return connection.execute("SELECT step_id, state_key, snap_epoch FROM snaps").fetchall()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Make an empty store for the counting flow."""
    (tmp_path / "store").mkdir()
    init_db_dir(tmp_path / "store", 1)
    return tmp_path


@pytest.mark.parametrize(("fenced", "count_of_b"), [(False, 2), (True, 1)])
def test_the_engine_counts_a_quiet_key_twice_after_two_runs_and_the_fence_mends_it(
    store: Path, fenced: bool, count_of_b: int
) -> None:
    # One long epoch takes in everything; the kill comes after the counts' snapshots and before the epoch is recorded.
    assert count_keys(store, crash_at=5, stop_at=99, interval_ms=LONG_MS) == KILLED
    assert read_resume_epoch(store / "store") == 1
    assert ("b", 1) in [(key, epoch) for _, key, epoch in list_snapshots(store / "store")]
    if fenced:
        assert fence(store / "store") > 0
    # Short epochs, and an end before `b` is read again: the resume epoch passes the dead run's snapshots.
    assert count_keys(store, crash_at=0, stop_at=2, interval_ms=SHORT_MS) == 0
    if fenced:
        fence(store / "store")
    assert count_keys(store, crash_at=0, stop_at=99, interval_ms=LONG_MS) == 0
    assert last_counts(store) == {"a": 4, "b": count_of_b}


def test_the_fence_removes_only_what_lies_at_or_past_the_resume_epoch(store: Path) -> None:
    assert count_keys(store, crash_at=0, stop_at=3, interval_ms=SHORT_MS) == 0
    before = list_snapshots(store / "store")
    assert fence(store / "store") == 0
    assert list_snapshots(store / "store") == before


def test_our_job_is_right_over_the_snapshots_of_a_dead_run(truth: Truth, tmp_path: Path) -> None:
    """Two kills: one leaves snapshots of every lane's end past the resume epoch, one passes their epochs by."""
    killed = tmp_path / "killed"
    one_epoch = truth.told(killed, snapshot_ms=600_000)
    assert run_job(one_epoch, fail_at="before_descriptor").code == KILLED
    stale = [key for step, key, epoch in list_snapshots(killed / "_journeys" / "recovery") if "accept" in step]
    assert stale == ["lane-000", "lane-001", "lane-002"]

    short = truth.told(killed, snapshot_ms=1)
    assert run_job(short, fail_at="epoch_durable:4").code == KILLED
    finish_job(truth.told(killed))
    truth.assert_same(killed)


def test_a_lane_that_stays_quiet_over_many_kills_keeps_its_state(tmp_path: Path) -> None:
    inputs = tmp_path / "inputs"
    write_inputs(inputs, Shape(events=500))
    told = {"patterns": [str(inputs)], "snapshot_ms": 1}
    for point in ("after_descriptor:6", "epoch_durable:9", "after_descriptor:5", "after_file:20"):
        assert run_job({**told, "warehouse": str(tmp_path / "killed")}, fail_at=point).code == KILLED
    finish_job({**told, "warehouse": str(tmp_path / "killed")})
    finish_job({**told, "warehouse": str(tmp_path / "whole"), "snapshot_ms": 1_000})
    differing = compare_warehouses(tmp_path / "killed", tmp_path / "whole")
    assert not any(differing.values()), differing
