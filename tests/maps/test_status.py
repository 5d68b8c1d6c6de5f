"""Status tells what is there without disturbing the job: rows, ledger, what waits, and who writes."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import duckdb
import pytest

from errors import InputError
from maps.status import LedgerRow, find_job, measure_folder, read_status
from sinks.catalog import open_views
from sinks.storage import Folders, hold_writer_lock
from tests.sample_warehouse import get_finished, get_stopped


@pytest.fixture
def finished(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(get_finished(tmp_path_factory))


@pytest.fixture
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(get_stopped(tmp_path_factory))


def count(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    row = connection.execute(query).fetchone()
    assert row is not None
    return int(row[0])


def test_rows_are_those_of_the_tables(finished: Folders) -> None:
    status = read_status(finished)
    connection, _ = open_views(finished)
    with connection:
        for table in ("events", "sessions", "funnel_steps", "late_events", "dead_letters"):
            assert status.rows(table) == count(connection, f"SELECT count(*) FROM {table}") > 0


def test_a_finished_replay_keeps_nobody_waiting(finished: Folders) -> None:
    status = read_status(finished)
    assert status.complete
    assert (status.total.waiting, status.total.accepted) == (0, status.rows("events"))
    assert (status.total.late, status.total.dead) == (1, 2)


def test_a_stopped_replay_shows_what_waits_in_the_reorder_buffer(stopped: Folders) -> None:
    status = read_status(stopped)
    assert not status.complete
    assert status.total.waiting == status.total.received - status.total.accepted - status.total.duplicate
    assert status.total.waiting > 0


def test_waiting_is_what_is_neither_accepted_nor_refused() -> None:
    assert LedgerRow("lane-000", received=10, accepted=4, duplicate=1, late=2, dead=1).waiting == 2


def test_newest_event_is_the_tables_newest(finished: Folders) -> None:
    status = read_status(finished)
    connection, _ = open_views(finished)
    with connection:
        newest = count(connection, "SELECT epoch_us(max(event_time)) FROM events")
    assert status.ordered_until is not None
    assert round(status.ordered_until.timestamp() * 1e6) == newest
    assert status.to_dict()["ordered_until"].endswith("Z")


def test_lanes_name_their_files(finished: Folders) -> None:
    files = [file for lane in read_status(finished).lanes for file in lane.files]
    assert sorted(Path(file).name for file in files) == ["odd.ndjson", "shop.ndjson"]


def test_status_can_be_written_as_json(stopped: Folders) -> None:
    body = json.loads(json.dumps(read_status(stopped).to_dict()))
    assert body["total"]["waiting"] == sum(row["waiting"] for row in body["ledger"])
    assert "source_partition" not in body["total"]


def test_a_job_is_seen_while_it_holds_the_lock_and_can_go_on(tmp_path: Path) -> None:
    folders = Folders(tmp_path)
    folders.make()
    assert find_job(folders) == ""
    with hold_writer_lock(folders, "test"):
        assert find_job(folders) == f"process {os.getpid()} (test)"
    assert find_job(folders) == ""


def test_the_name_that_a_killed_job_left_behind_is_not_taken_for_a_job(tmp_path: Path) -> None:
    folders = Folders(tmp_path)
    folders.make()
    (folders.inner / "writer.lock").write_text("process 1 (journeys replay)\n")
    assert find_job(folders) == ""


def test_looking_for_a_job_does_not_keep_one_from_starting(finished: Folders, tmp_path: Path) -> None:
    folders = Folders(shutil.copytree(finished.root, tmp_path / "w"))
    read_status(folders)
    with hold_writer_lock(folders, "test"):
        read_status(folders)


def test_where_there_is_no_warehouse_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no warehouse"):
        read_status(Folders(tmp_path / "nowhere"))
    assert not (tmp_path / "nowhere").exists()


def test_bytes_on_disk_count_everything_below_the_folder(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "one").write_bytes(b"x" * 10)
    (tmp_path / "a" / "b" / "two").write_bytes(b"x" * 5)
    assert measure_folder(tmp_path) == 15
