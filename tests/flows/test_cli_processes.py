"""Several processes give the tables of one; whatever ends one of them ends all, and the same command goes on."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from clock import read_stopwatch
from flows.cli_replay import run_first
from flows.generating import generate_files, plan_shape
from flows.replay import ReplayOptions
from flows.settings import load_config
from sinks.catalog import open_views
from sinks.manifest import list_manifests
from sinks.storage import Folders
from tests.support.commanding import SHOP, start_command

pytestmark = pytest.mark.slow

EVENTS = 40_000
JOB = "\n[job]\nkey_groups = 4\n"
SLOWLY = JOB + 'snapshot = "300ms"\nblock = "256KiB"\n'  # many commits, so that there is a middle to be ended in
LONG_S = 240
TABLES = {
    "events": "SELECT * FROM events ORDER BY event_id, source_position",
    "sessions": "SELECT * FROM sessions ORDER BY session_id",
    "transitions": "SELECT * EXCLUDE (total_seconds) FROM transitions ORDER BY ALL",
    "paths": "SELECT * EXCLUDE (total_seconds) FROM paths ORDER BY ALL",
    "funnel_steps": "SELECT * FROM funnel_steps ORDER BY ALL",
    "ledger": "SELECT * FROM ledger ORDER BY ALL",
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with events of four channels, their settings, and the warehouse of one process."""
    folder = tmp_path_factory.mktemp("shop")
    generate_files(plan_shape(EVENTS, 4, 7), folder / "events", "channel", ".ndjson")
    for name, job in (("journey.toml", JOB), ("slowly.toml", SLOWLY)):
        (folder / name).write_text(SHOP.read_text(encoding="utf-8") + job, encoding="utf-8")
    options = ReplayOptions((str(folder / "events"),), folder / "one")
    assert run_first(options, load_config(folder / "journey.toml"), 1, []).outcome == "finished"
    return folder


def read_table(warehouse: Path, query: str) -> pl.DataFrame:
    connection, _ = open_views(Folders(warehouse))
    with connection:
        frame = pl.from_arrow(connection.sql(query).to_arrow_table())
    assert isinstance(frame, pl.DataFrame)
    return frame


def assert_same_tables(warehouse: Path, right: Path) -> None:
    for query in TABLES.values():
        assert_frame_equal(read_table(warehouse, query), read_table(right, query))


def run_to_end(shop: Path, warehouse: Path, processes: int) -> None:
    running = start_command("replay", "events", "-w", warehouse, "--processes", processes, cwd=shop)
    out, err = running.communicate(timeout=LONG_S)
    assert running.returncode == 0, err.decode()
    assert out.startswith(b"Finished"), out.decode()


def start_and_wait_for_commit(shop: Path, warehouse: Path) -> tuple[subprocess.Popen[bytes], list[int]]:
    """Start a replay of three processes; return it and its members' ids once something was committed."""
    running = start_command("replay", "events", "-c", "slowly.toml", "-w", warehouse, "--processes", 3, cwd=shop)
    until = read_stopwatch() + LONG_S
    while not list_manifests(Folders(warehouse)):
        assert running.poll() is None, "ended before its first commit"
        assert read_stopwatch() < until
    return running, find_children(running.pid)


def find_children(parent: int) -> list[int]:
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [line.split() for line in listed.splitlines()]
    return [int(child) for child, of in pairs if int(of) == parent]


def is_alive(process: int) -> bool:
    listed = subprocess.run(["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True, check=False)
    return listed.stdout.strip() not in ("", "Z", "Zs", "Zl")


def test_processes_give_the_tables_of_one(shop: Path, tmp_path: Path) -> None:
    run_to_end(shop, tmp_path / "w", 2)
    assert_same_tables(tmp_path / "w", shop / "one")


def kill_a_member(running: subprocess.Popen[bytes], members: list[int]) -> None:
    os.kill(members[0], signal.SIGKILL)


def kill_the_first(running: subprocess.Popen[bytes], members: list[int]) -> None:
    running.kill()


def interrupt_the_first(running: subprocess.Popen[bytes], members: list[int]) -> None:
    running.send_signal(signal.SIGINT)


def terminate_a_member(running: subprocess.Popen[bytes], members: list[int]) -> None:
    os.kill(members[1], signal.SIGTERM)


@pytest.mark.parametrize(
    ("end", "code", "says"),
    [
        (kill_a_member, 1, "of the replay was killed by signal 9"),
        (kill_the_first, -signal.SIGKILL, ""),
        (interrupt_the_first, 0, "To go on from here, give the same command again"),
        (terminate_a_member, 0, "To go on from here, give the same command again"),
    ],
)
def test_the_end_of_one_process_is_the_end_of_all_and_the_next_run_goes_on(
    shop: Path,
    tmp_path: Path,
    end: Callable[[subprocess.Popen[bytes], list[int]], None],
    code: int,
    says: str,
) -> None:
    running, members = start_and_wait_for_commit(shop, tmp_path / "w")
    assert len(members) == 2
    end(running, members)
    out, err = running.communicate(timeout=LONG_S)
    assert running.returncode == code, err.decode()
    assert says in (out + err).decode()
    until = read_stopwatch() + LONG_S
    while any(is_alive(member) for member in members):
        assert read_stopwatch() < until, "a process outlived the replay"
    run_to_end(shop, tmp_path / "w", 2)
    assert_same_tables(tmp_path / "w", shop / "one")


def test_ctrl_c_of_a_single_process_stops_at_an_epoch_and_the_next_run_goes_on(shop: Path, tmp_path: Path) -> None:
    running = start_command("replay", "events", "-c", "slowly.toml", "-w", tmp_path / "w", cwd=shop)
    while not list_manifests(Folders(tmp_path / "w")):
        assert running.poll() is None
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=LONG_S)
    assert running.returncode == 0, err.decode()
    assert "Stopped at an epoch" in out.decode()
    assert f"journeys replay events -c slowly.toml -w {tmp_path / 'w'}" in out.decode().replace("\n", "")
    run_to_end(shop, tmp_path / "w", 1)
    assert_same_tables(tmp_path / "w", shop / "one")
