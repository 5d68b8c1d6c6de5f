"""Compaction on a schedule: it is repeated, its failure ends nothing, and a stop does not wait for it."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from clock import read_system_clock
from config import SECOND, Config
from flows.compacting import Compactor, compacting
from flows.journal import Journal
from flows.monitor import Monitor
from sinks.manifest import read_manifest
from sinks.storage import FAIL_AT, Folders
from tests.sample_warehouse import get_finished
from tests.upkeep import read_tables

PATIENCE_S = 60.0


def make_monitor(lines: list[str]) -> Monitor:
    return Monitor(Config(), Journal(lines.append, "json"), read_system_clock)


def wait_until(reached: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not reached():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.02)


def count_files(folders: Folders) -> int:
    manifest = read_manifest(folders)
    return sum(len(manifest.files[table]) for table in manifest.files)


@pytest.mark.slow
def test_files_become_fewer_the_tables_stay_and_what_happened_is_told(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folders = Folders(shutil.copytree(get_finished(tmp_path_factory), tmp_path / "w"))
    before, tables, lines = count_files(folders), read_tables(folders), list[str]()
    monitor = make_monitor(lines)
    with compacting(folders, SECOND // 100, monitor):
        wait_until(lambda: monitor.compactions["done"] >= 1)
    assert count_files(folders) < before
    assert read_tables(folders) == tables
    told = [json.loads(line) for line in lines]
    assert {line["event"] for line in told} == {"compaction"}
    assert told[0]["files_before"] > told[0]["files_after"] > 0


@pytest.mark.slow
def test_failure_is_told_and_it_is_tried_again(tmp_path: Path) -> None:
    lines: list[str] = []
    monitor = make_monitor(lines)
    with compacting(Folders(tmp_path / "nowhere"), SECOND // 100, monitor):
        wait_until(lambda: monitor.compactions["failed"] >= 2)
    told = json.loads(lines[0])
    assert (told["event"], told["level"]) == ("compaction_failed", "warning")
    assert "there is no warehouse" in told["problem"]


@pytest.mark.slow
def test_stop_ends_a_compaction_that_hangs(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = Folders(shutil.copytree(get_finished(tmp_path_factory), tmp_path / "w"))
    version, lines = read_manifest(folders).version, list[str]()
    monkeypatch.setenv(FAIL_AT, f"compact_written:1:{signal.SIGSTOP.value}")
    compactor = Compactor(folders, 0.01, make_monitor(lines))
    compactor.start()
    wait_until(lambda: compactor.process is not None and is_halted(compactor.process.pid))
    compactor.stop()
    assert not compactor.thread.is_alive()
    assert compactor.process is not None
    assert compactor.process.returncode == -signal.SIGKILL
    assert (read_manifest(folders).version, lines) == (version, [])


def is_halted(process: int) -> bool:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_never_is_never(tmp_path: Path) -> None:
    monitor = make_monitor([])
    with compacting(Folders(tmp_path / "nowhere"), 0, monitor):
        time.sleep(0.1)
    assert not monitor.compactions
