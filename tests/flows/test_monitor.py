"""What is known of a live job: its health, its metrics, what it logs, and what it leaves for `journeys status`."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from threading import Event
from typing import Any

import polars as pl
import pytest
from prometheus_client.parser import text_string_to_metric_families

from clock import to_us
from config import SECOND, Config, JobRules, ServeRules, SessionRules
from events.schema import LEDGER
from flows.journal import Journal
from flows.monitor import Monitor
from maps.standing import name_file, read_standing
from sinks.manifest import Files, Manifest, publish, read_manifest
from sinks.rewriting import write_data
from sinks.storage import Folders, hold_publish_lock
from sources.pacing import Progress

NOON = datetime(2026, 1, 5, 12, tzinfo=timezone.utc)
CONFIG = Config(
    sessions=SessionRules(allowed_lateness=60 * SECOND),
    job=JobRules(snapshot=10 * SECOND),
    serve=ServeRules("127.0.0.1:0"),
)


@dataclass
class Time:
    """A clock and a stopwatch that go on when they are told to."""

    passed: float = 0.0

    def read_clock(self) -> datetime:
        return NOON + timedelta(seconds=self.passed)

    def read_stopwatch(self) -> float:
        return 1_000 + self.passed


@dataclass
class Group:
    waiting: int
    open_sessions: int


@dataclass
class Watched:
    """A monitor of a job that is played by the test."""

    monitor: Monitor
    time: Time
    folders: Folders
    lines: list[str]
    progress: Progress = field(default_factory=Progress)
    stop: Event = field(default_factory=Event)

    def begin(self) -> None:
        self.monitor.begin(self.folders, ["s/t/1", "s/t/0"], self.progress, self.stop)

    def make_durable(self) -> None:
        self.monitor.note_durable(lambda: None)

    def commit(self, *counts: int, partition: str = "s/t/0") -> Manifest:
        """Publish one more file of the ledger, and let the monitor see it."""
        with hold_publish_lock(self.folders):
            newest = read_manifest(self.folders)
            frame = pl.DataFrame([("s/t", partition, 1, *counts)], schema=LEDGER, orient="row")
            file = write_data(self.folders, "ledger", "1970-01-01", f"l{newest.version}", frame)
            files: Files = {**newest.files, "ledger": (*newest.files.get("ledger", ()), file)}
            manifest = publish(self.folders, replace(newest, files=files, parts={"w00": newest.version + 1}))
        self.monitor.watch(self.progress, manifest)
        return manifest

    def list_events(self) -> list[str]:
        return [json.loads(line)["event"] for line in self.lines]

    def ask(self, path: str) -> tuple[int, str]:
        assert self.monitor.server is not None
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with direct.open(self.monitor.server.url + path, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as problem:
            return problem.code, problem.read().decode()

    def judge(self) -> tuple[int, int, dict[str, Any]]:
        health, body = self.ask("/health")
        return health, self.ask("/ready")[0], json.loads(body)

    def measure(self) -> dict[tuple[str, str], float]:
        """Return every sample by its name and its last label."""
        families = text_string_to_metric_families(self.ask("/metrics")[1])
        return {
            (sample.name, next(iter(sorted(sample.labels.items())), ("", ""))[1]): sample.value
            for family in families
            for sample in family.samples
        }


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    with watch(tmp_path) as one:
        yield one


@contextmanager
def watch(root: Path) -> Iterator[Watched]:
    time, lines, folders = Time(), list[str](), Folders(root)
    folders.make()
    journal = Journal(lines.append, "json", time.read_clock)
    with Monitor(CONFIG, journal, time.read_clock, stopwatch=time.read_stopwatch) as monitor:
        yield Watched(monitor, time, folders, lines)


def test_job_is_well_from_the_first_and_ready_when_an_epoch_of_it_is_durable(watched: Watched) -> None:
    assert watched.judge() == (200, 503, {"state": "starting", "reason": None, "durable_epoch_age_s": None})
    watched.time.passed = 500  # a long start is no failure
    assert watched.judge()[:2] == (200, 503)
    watched.begin()
    watched.time.passed += 3
    assert watched.judge() == (200, 503, {"state": "running", "reason": None, "durable_epoch_age_s": 3.0})
    watched.make_durable()
    assert watched.judge() == (200, 200, {"state": "running", "reason": None, "durable_epoch_age_s": 0.0})
    watched.stop.set()
    assert watched.judge()[:2] == (200, 503)


def test_job_is_unwell_when_no_epoch_was_durable_for_six_intervals_and_well_again(watched: Watched) -> None:
    watched.begin()
    watched.make_durable()
    watched.time.passed = 60
    assert watched.judge()[:2] == (200, 200)
    watched.time.passed = 61
    reason = "no epoch was durable for 61 s; one is due every 10 s"
    assert watched.judge() == (503, 503, {"state": "running", "reason": reason, "durable_epoch_age_s": 61.0})
    watched.make_durable()
    assert watched.judge()[:2] == (200, 200)


def test_job_that_never_gets_its_first_epoch_through_is_unwell(watched: Watched) -> None:
    watched.begin()
    watched.time.passed = 61
    assert watched.judge()[0] == 503


def test_ledger_in_the_metrics_is_the_committed_one(watched: Watched) -> None:
    watched.begin()
    watched.commit(10, 5, 1, 2, 1)
    watched.commit(5, 5, 0, 0, 0)
    watched.commit(3, 0, 0, 3, 0, partition="s/t/1")
    found = watched.measure()
    outcomes = ("received", "accepted", "duplicate", "late", "dead")
    assert [found[f"journeys_{name}_total", "s/t/0"] for name in outcomes] == [15, 10, 1, 2, 1]
    assert [found[f"journeys_{name}_total", "s/t/1"] for name in outcomes] == [3, 0, 0, 3, 0]
    assert found["journeys_version", ""] == found["journeys_commits_total", ""] == 3
    assert found["journeys_table_files", "ledger"] == 3


def test_ledger_is_summed_anew_when_its_files_were_merged(watched: Watched) -> None:
    watched.begin()
    watched.commit(10, 10, 0, 0, 0)
    merged = watched.commit(5, 5, 0, 0, 0)
    with hold_publish_lock(watched.folders):
        frame = pl.DataFrame([("s/t", "s/t/0", 2, 15, 15, 0, 0, 0)], schema=LEDGER, orient="row")
        file = write_data(watched.folders, "ledger", "1970-01-01", "merged-1", frame)
        publish(watched.folders, replace(merged, files={"ledger": (file,)}))
    watched.commit(1, 1, 0, 0, 0)
    assert watched.measure()["journeys_received_total", "s/t/0"] == 16


def test_metrics_tell_partitions_groups_and_ages(watched: Watched) -> None:
    watched.begin()
    watched.commit(1, 1, 0, 0, 0)
    gauge = watched.progress.of("s/t/0")
    gauge.records, gauge.bytes, gauge.lag, gauge.source = 7, 700, 12, "s/t"
    watched.progress.note_reached("s/t/0", to_us(NOON), active=False)
    watched.progress.add_group(Group(waiting=3, open_sessions=5))
    watched.progress.add_group(Group(waiting=1, open_sessions=1))
    watched.progress.note_stall(0.25)
    watched.make_durable()
    watched.time.passed = 4
    found = watched.measure()
    wanted = {
        ("journeys_read_records_total", "s/t/0"): 7,
        ("journeys_read_bytes_total", "s/t/0"): 700,
        ("journeys_lag_records", "s/t/0"): 12,
        ("journeys_idle", "s/t/0"): 1,
        ("journeys_idle", "s/t/1"): 0,
        ("journeys_watermark_seconds", "s/t/0"): NOON.timestamp() - 60,
        ("journeys_waiting_events", ""): 4,
        ("journeys_open_sessions", ""): 6,
        ("journeys_longest_stall_seconds", ""): 0.25,
        ("journeys_commit_age_seconds", ""): 4,
        ("journeys_durable_epoch_age_seconds", ""): 4,
        ("journeys_start_time_seconds", ""): NOON.timestamp(),
    }
    assert {name: found[name] for name in wanted} == wanted
    # What is not known is not told as 0.
    assert not {("journeys_lag_records", "s/t/1"), ("journeys_watermark_seconds", "s/t/1")} & found.keys()
    assert any(name == "journeys_build_info" for name, _ in found)


def test_what_it_leaves_for_others_follows_every_commit_and_every_durable_epoch(watched: Watched) -> None:
    watched.begin()
    assert read_standing(watched.folders) == watched.monitor.measure()
    watched.time.passed = 5
    watched.commit(1, 1, 0, 0, 0)
    after_commit = read_standing(watched.folders)
    assert after_commit is not None
    assert (after_commit.version, after_commit.committed_at) == (1, to_us(NOON) + 5 * SECOND)
    watched.time.passed = 15
    watched.make_durable()
    watched.monitor.watch(watched.progress, watched.monitor.manifest)
    after_epoch = read_standing(watched.folders)
    assert after_epoch == replace(after_commit, at=to_us(NOON) + 15 * SECOND, durable_at=to_us(NOON) + 15 * SECOND)


def test_moment_of_the_last_commit_outlives_the_run(tmp_path: Path) -> None:
    with watch(tmp_path) as first:
        first.begin()
        first.monitor.end(first.commit(1, 1, 0, 0, 0))
    left = read_standing(Folders(tmp_path))
    assert left is not None
    assert left.state == "stopped"
    with watch(tmp_path) as second:
        second.time.passed = 100
        second.begin()
        assert second.measure()["journeys_commit_age_seconds", ""] == 100


def test_failure_is_left_for_others_with_its_problem(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="disk"), watch(tmp_path) as one:
        one.begin()
        raise OSError("the disk is gone\nand more")
    left = read_standing(Folders(tmp_path))
    assert left is not None
    assert (left.state, left.problem) == ("failed", "the disk is gone")


def test_log_tells_start_idle_active_progress_and_stop(watched: Watched) -> None:
    watched.begin()
    watched.progress.note_reached("s/t/0", 5, active=True)
    manifest = watched.commit(1, 0, 0, 0, 1)
    watched.progress.note_reached("s/t/0", 5, active=False)
    watched.monitor.watch(watched.progress, manifest)
    watched.monitor.watch(watched.progress, manifest)
    watched.progress.note_reached("s/t/0", 6, active=True)
    watched.time.passed = 10
    watched.progress.records = 50
    watched.monitor.watch(watched.progress, manifest)
    watched.monitor.end(manifest)
    assert watched.list_events() == ["listening", "start", "idle", "active", "progress", "stop"]
    start, told = json.loads(watched.lines[1]), json.loads(watched.lines[4])
    assert start["partitions"] == ["s/t/0", "s/t/1"]
    assert (told["records"], told["records_per_s"], told["dead"], told["version"]) == (50, 5.0, 1, 1)


def test_what_only_looks_on_fails_nothing_and_says_so_once(watched: Watched) -> None:
    watched.begin()
    file = watched.commit(1, 1, 0, 0, 0).files["ledger"][0]
    gone = replace(file, path="ledger/gone.parquet")
    for version in (7, 8):
        watched.monitor.watch(watched.progress, Manifest(version=version, files={"ledger": (gone,)}))
    assert watched.list_events().count("monitor_failed") == 1
    assert watched.judge()[0] == 200


def test_file_that_others_damaged_is_no_standing(watched: Watched) -> None:
    watched.begin()
    for text in ("{", "[]", '{"format": 2}', '{"format": 1}', '{"format": 1, "partitions": [{}]}'):
        name_file(watched.folders).write_text(text)
        assert read_standing(watched.folders) is None
