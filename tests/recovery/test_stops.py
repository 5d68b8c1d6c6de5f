"""Stopping and going on: Ctrl-C and SIGTERM, a finished replay started again, and files that come later."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from tests.recovery.conftest import SMALL, Truth
from tests.recovery.data import Shape, write_day, write_inputs
from tests.recovery.jobs import (
    KILLED,
    Job,
    assert_same,
    count_rows,
    finish_job,
    newest_manifest,
    read_version,
    run_job,
)
from tests.recovery.reader import read_once

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, 2), (signal.SIGTERM, 1)])
def test_a_stop_keeps_sessions_open_and_the_next_run_goes_on(
    truth: Truth, tmp_path: Path, number: signal.Signals, workers: int
) -> None:
    warehouse = tmp_path / "warehouse"
    told = truth.told(warehouse, workers=workers, snapshot_ms=20)
    job = Job(told)
    assert job.wait_for_events()
    job.send(number)
    ending = job.wait()
    assert (ending.code, ending.outcome) == (0, "stopped"), ending.err
    assert read_once(warehouse, "views")[1] == []
    manifest = newest_manifest(told)
    assert not manifest.complete
    assert not manifest.tail, "sessions were closed as if the input had ended"
    rows = count_rows(warehouse)
    assert 0 < rows["events"] < count_rows(truth.warehouse)["events"]
    finish_job(truth.told(warehouse, workers=3 - workers, snapshot_ms=500))
    truth.assert_same(warehouse)


def test_stops_in_a_row_give_the_tables_of_an_uninterrupted_run(truth: Truth, tmp_path: Path) -> None:
    warehouse, outcomes = tmp_path / "warehouse", []
    for version in (1, 4, 8):
        job = Job(truth.told(warehouse, snapshot_ms=20))
        job.wait_for_version(version)
        job.send(signal.SIGINT)
        outcomes.append(job.wait().outcome)
    assert "stopped" in outcomes
    finish_job(truth.told(warehouse))
    truth.assert_same(warehouse)


def test_a_second_ctrl_c_ends_the_run_at_once_and_loses_nothing(truth: Truth, tmp_path: Path) -> None:
    warehouse = tmp_path / "warehouse"
    job = Job(truth.told(warehouse, snapshot_ms=60_000))
    assert job.wait_for_run(1)
    job.send(signal.SIGINT)
    try:
        job.process.wait(0.05)
    except subprocess.TimeoutExpired:
        job.send(signal.SIGINT)
    ending = job.wait()
    assert ending.code in (0, -signal.SIGINT) or "KeyboardInterrupt" in ending.err, ending
    finish_job(truth.told(warehouse))
    truth.assert_same(warehouse)


def test_a_finished_replay_started_again_has_nothing_to_do(small: Truth, tmp_path: Path) -> None:
    told = small.told(tmp_path / "warehouse")
    finish_job(told)
    version = read_version(told)
    again = run_job(small.told(tmp_path / "warehouse", workers=2))
    assert (again.code, again.outcome) == (0, "nothing_to_do")
    assert read_version(told) == version


def test_a_replay_killed_after_its_last_commit_has_nothing_to_do_but_its_catalog(small: Truth, tmp_path: Path) -> None:
    warehouse = tmp_path / "warehouse"
    # One epoch: its tables are published together with the end, in the first manifest.
    told = small.told(warehouse, snapshot_ms=600_000)
    assert run_job(told, fail_at="after_manifest").code == KILLED
    assert newest_manifest(told).complete
    assert count_rows(warehouse)["events"] == 0, "the catalog was not to be written yet"
    assert run_job(told).outcome == "nothing_to_do"
    small.assert_same(warehouse)


def test_files_that_extend_a_lane_are_taken_up_as_if_they_had_always_been_there(tmp_path: Path) -> None:
    inputs, warehouse, whole = tmp_path / "inputs", tmp_path / "warehouse", tmp_path / "whole"
    write_inputs(inputs, SMALL)
    (inputs / "support.ndjson").unlink()
    told = {"patterns": [str(inputs)], "warehouse": str(warehouse), "snapshot_ms": 50}
    finish_job(told)
    first = count_rows(warehouse)
    write_day(inputs, SMALL, SMALL.days)
    assert run_job(told, fail_at="after_descriptor:2").code == KILLED
    assert finish_job({**told, "workers": 2}).outcome == "finished"
    write_day(inputs, SMALL, SMALL.days + 1)
    ending = finish_job(told)
    assert ending.result["lanes"] == ["lane-000", "lane-001"]
    assert count_rows(warehouse)["events"] > first["events"]
    finish_job({**told, "warehouse": str(whole)})
    assert_same(warehouse, whole)


def test_while_a_replay_goes_on_the_end_of_the_finished_one_is_taken_back(tmp_path: Path) -> None:
    inputs, warehouse = tmp_path / "inputs", tmp_path / "warehouse"
    write_inputs(inputs, Shape(events=200))
    told = {"patterns": [str(inputs)], "warehouse": str(warehouse), "snapshot_ms": 1}
    finish_job(told)
    assert newest_manifest(told).tail
    write_day(inputs, Shape(events=400), 3)
    before = read_version(told)
    job = Job(told, fail_at="after_catalog:2")
    job.wait()
    assert read_version(told) > before
    assert not newest_manifest(told).tail
    assert read_once(warehouse, "views")[1] == []


@pytest.mark.parametrize("ending", ["stopped", "killed"])
def test_nothing_is_visible_before_the_first_epoch_is_committed(small: Truth, tmp_path: Path, ending: str) -> None:
    warehouse = tmp_path / "warehouse"
    told = small.told(warehouse, snapshot_ms=600_000)
    assert run_job(told, fail_at="before_descriptor").code == KILLED
    assert count_rows(warehouse) == dict.fromkeys(count_rows(warehouse), 0)
    assert read_version(told) == 0
    if ending == "stopped":
        job = Job(told)
        job.wait_for_run(2)
        job.send(signal.SIGTERM)
        # It may come before the job listens; then it is a kill, and as harmless.
        assert job.wait().code in (0, -signal.SIGTERM)
    finish_job(small.told(warehouse))
    small.assert_same(warehouse)
