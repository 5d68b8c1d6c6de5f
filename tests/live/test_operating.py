"""A live job as those see it who run it: log, metrics, health, status and compaction, on a real Kafka."""

from __future__ import annotations

import json
import signal
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from maps.status import read_status
from sinks.storage import Folders
from tests.brokers.kafka import KafkaBroker
from tests.live.support import (
    PATIENCE_S,
    Records,
    ask,
    assert_same,
    end_records,
    make_records,
    produce,
    replay,
    wait_until,
)
from tests.support.commanding import start_command

pytestmark = pytest.mark.slow
TOML = """
[job]
snapshot = "300ms"
compact_every = "2s"
[log]
format = "json"
[funnels.purchase]
steps = ["view", "add", "buy"]
[[source]]
name = "s0"
servers = "{servers}"
topics = ["{topic}"]
"""
SLICES = 8
OUTCOMES = ("received", "accepted", "duplicate", "late", "dead")


class Running:
    """`journeys run` as a process of its own, and what it has logged so far."""

    def __init__(self, folder: Path, toml: str) -> None:
        (folder / "journey.toml").write_text(toml, encoding="utf-8")
        self.log = folder / "log"
        with open(self.log, "wb") as log:
            self.process = start_command("run", "--listen", "127.0.0.1:0", cwd=folder, log=log)

    def list_events(self, event: str) -> list[dict[str, Any]]:
        """Return the events of one kind; every line has to be JSON."""
        lines = self.log.read_text(encoding="utf-8").splitlines(keepends=True)
        told = [json.loads(line) for line in lines if line.endswith("\n")]
        return [line for line in told if line["event"] == event]

    def ask(self, path: str) -> str:
        """Ask its HTTP server."""
        wait_until(lambda: bool(self.list_events("listening")))
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(self.list_events("listening")[0]["url"] + path, timeout=10) as answer:
            return str(answer.read().decode())

    def measure(self) -> dict[tuple[str, str], float]:
        """Return every sample by name and partition."""
        families = text_string_to_metric_families(self.ask("/metrics"))
        samples = [sample for family in families for sample in family.samples]
        return {(sample.name, sample.labels.get("partition", "")): sample.value for sample in samples}

    def count(self, outcome: str) -> float:
        """Return how many records have an outcome, by the committed ledger."""
        return sum(value for (name, _), value in self.measure().items() if name == f"journeys_{outcome}_total")

    def end(self) -> tuple[int, str]:
        """Wait until it ends; return its exit code and standard output."""
        try:
            out, _ = self.process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        return self.process.returncode, out.decode()


def cut(records: Records, number: int) -> Records:
    """Return a slice of each partition."""
    return [part[len(part) * number // SLICES : len(part) * (number + 1) // SLICES] for part in records]


def test_log_metrics_health_status_and_compaction_of_a_running_job_and_of_a_stopped_one(
    kafka: KafkaBroker, tmp_path: Path
) -> None:
    records = end_records(make_records(2, 2_000, seed=9))
    topic, warehouse = kafka.make_topic(2), tmp_path / "warehouse"
    names = [f"s0/{topic}/{number}" for number in range(2)]
    job = Running(tmp_path, TOML.format(servers=kafka.bootstrap, topic=topic))
    for number in range(SLICES):
        produce(kafka.bootstrap, topic, cut(records, number))
        wanted = sum(len(part) for done in range(number + 1) for part in cut(records, done))
        wait_until(lambda wanted=wanted: job.count("received") >= wanted)  # type: ignore[misc]

    assert json.loads(job.ask("/health"))["state"] == json.loads(job.ask("/ready"))["state"] == "running"
    wait_until(lambda: any(line["files_after"] < line["files_before"] for line in job.list_events("compaction")))
    # All but the sentinels, which wait for the watermark, is settled, committed and over.
    wait_until(lambda: job.count("received") - sum(job.count(name) for name in OUTCOMES[1:]) == 2)
    columns = ", ".join(OUTCOMES)
    found = job.measure()
    assert [repr(tuple(int(found[f"journeys_{name}_total", part]) for name in OUTCOMES)) for part in names] == ask(
        warehouse, f"SELECT {columns} FROM ledger ORDER BY source_partition"
    )
    running = read_status(Folders(warehouse))
    assert running.live is not None
    assert running.to_dict()["live"]["state"] == "running"
    assert [part.partition for part in running.live.partitions] == names
    assert running.live.open_sessions == found["journeys_open_sessions", ""] == 0
    assert running.live.waiting == found["journeys_waiting_events", ""] == running.total.waiting == 2
    assert all(part.watermark is not None for part in running.live.partitions)

    job.process.send_signal(signal.SIGTERM)
    assert job.end() == (0, "")
    assert [len(job.list_events(event)) for event in ("start", "stop")] == [1, 1]
    stopped = read_status(Folders(warehouse)).to_dict()
    assert (stopped["job"], stopped["live"]["state"], stopped["live"]["waiting"]) == (None, "stopped", 2)
    replay(tmp_path / "files", records, tmp_path / "replayed")
    assert_same(warehouse, tmp_path / "replayed")


def test_error_ends_a_run_as_an_event_with_its_exit_code(kafka: KafkaBroker, tmp_path: Path) -> None:
    job = Running(tmp_path, TOML.format(servers=kafka.bootstrap, topic="nothing"))
    assert job.end() == (2, "")
    (error,) = job.list_events("error")
    assert error["kind"] == "InputError"
    assert "topic 'nothing'" in error["problem"]
    assert "make the topic" in error["remedy"]
