"""How a live job stood when it was last heard of, as status tells it: for a running job, a stopped one and a lost one."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest
from rich.console import Console

from clock import from_us, to_us
from maps.pictures import draw_status
from maps.pictures_live import describe_age
from maps.standing import PartitionStanding, Standing, name_file, save_standing
from maps.status import WarehouseStatus, read_status
from sinks.storage import Folders, hold_writer_lock
from tests.sample_warehouse import get_stopped

NOON = to_us(datetime(2026, 1, 5, 12, tzinfo=timezone.utc))
SECOND = 1_000_000
PARTS = (
    PartitionStanding("s/t", "s/t/0", 10, 1_000, NOON - 90 * SECOND, lag=4),
    PartitionStanding("s/t", "s/t/1", 5, 500, NOON - 60 * SECOND, lag=0),
    PartitionStanding("s/t", "s/t/2", 0, 0, NOON - 900 * SECOND, idle=True),
)
STANDING = Standing(
    "running",
    NOON,
    NOON - 100 * SECOND,
    10.0,
    version=7,
    committed_at=NOON - 20 * SECOND,
    open_sessions=3,
    partitions=PARTS,
)


@pytest.fixture
def folders(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(shutil.copytree(get_stopped(tmp_path_factory), tmp_path / "w"))


def ask(folders: Folders, standing: Standing, later_s: int) -> WarehouseStatus:
    """Leave a standing and read the status some seconds after it."""
    name_file(folders).write_bytes(save_standing(standing))
    return read_status(folders, lambda: from_us(standing.at + later_s * SECOND))


def draw(status: WarehouseStatus) -> str:
    console = Console(file=io.StringIO(), width=120, color_system=None)
    for part in draw_status(status):
        console.print(part)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_running_job_tells_watermark_lag_sessions_and_its_last_commit(folders: Folders) -> None:
    with hold_writer_lock(folders, "journeys run"):
        status = ask(folders, STANDING, 3)
        text = draw(status)
    live = json.loads(json.dumps(status.to_dict()))["live"]
    assert (live["state"], live["age_s"], live["commit_age_s"], live["open_sessions"]) == ("running", 3.0, 23.0, 3)
    assert (live["watermark"], live["lag"]) == ("2026-01-05T11:58:30Z", 4)
    assert [part["lag"] for part in live["partitions"]] == [4, 0, None]
    assert live["partitions"][2]["watermark"] == "2026-01-05T11:45:00Z"
    for said in (
        "running; said so 3 s ago",
        "23 s ago",
        "2026-01-05 11:58:30 UTC",
        "4 records",
        "idle",
        "Partitions, 3 s ago",
    ):
        assert said in text
    assert "replay command" not in text


def test_stopped_job_tells_what_was_last_known_and_how_old_it_is(folders: Folders) -> None:
    status = ask(folders, replace(STANDING, state="stopped"), 7_200)
    assert status.to_dict()["live"]["state"] == "stopped"
    text = draw(status)
    assert "stopped 2 h ago" in text
    assert "Partitions, 2 h ago" in text


def test_job_that_never_said_that_it_ended_is_lost_whoever_writes_the_warehouse_now(folders: Folders) -> None:
    assert "ended without a stop; last heard of 5 min ago" in draw(ask(folders, STANDING, 300))
    with hold_writer_lock(folders, "journeys forget"):
        assert ask(folders, STANDING, 300).to_dict()["live"]["state"] == "lost"


def test_failed_job_tells_its_problem(folders: Folders) -> None:
    text = draw(ask(folders, replace(STANDING, state="failed", problem="no space left"), 60))
    assert "failed 60 s ago: no space left" in text


def test_replay_has_no_live_job(folders: Folders) -> None:
    status = read_status(folders)
    assert status.to_dict()["live"] is None
    assert "the same replay command goes on" in draw(status)


def test_watermark_is_that_of_the_slowest_partition_that_is_waited_for() -> None:
    assert STANDING.watermark == NOON - 90 * SECOND
    idle = tuple(replace(part, idle=True) for part in PARTS)
    assert replace(STANDING, partitions=idle).watermark == NOON - 60 * SECOND
    silent = PartitionStanding("s/t", "s/t/3")
    assert replace(STANDING, partitions=(*PARTS, silent)).watermark is None
    assert replace(STANDING, partitions=()).watermark is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7_199, "120 min"), (7_200, "2 h"), (200_000, "2 d")],
)
def test_age_is_told_in_its_largest_unit(seconds: int, text: str) -> None:
    assert describe_age(seconds) == text
