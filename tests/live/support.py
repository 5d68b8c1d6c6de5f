"""Records for topics, live jobs as threads or processes, and warehouses compared by what they say."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
import polars as pl
from confluent_kafka import Producer

from config import SECOND, Config, FunnelRules, JobRules, SourceRules
from flows.live import LiveOptions, run_live
from flows.replay import ReplayOptions, run_replay
from sinks.manifest import read_manifest
from sinks.storage import FAIL_AT, Folders
from sources.pacing import Progress

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 120.0
LOOK_EVERY_S = 1.0
START_S = 1_767_600_000  # 2026-01-05 08:00 UTC
STEPS = ("view", "add", "buy")
SENTINEL = "sentinel"
FUNNELS = (FunnelRules("purchase", STEPS),)
# What a warehouse says of everything but the sentinels, whose sessions a live job leaves open; names of partitions
# differ between files and topics.
QUESTIONS = {
    "events": "SELECT event_id, event_time, person_id, channel, step, source_position, session_id, session_index, dt"
    f" FROM events WHERE person_id NOT LIKE '{SENTINEL}%'",
    "sessions": f"FROM sessions WHERE person_id NOT LIKE '{SENTINEL}%'",
    "funnel_steps": f"FROM funnel_steps WHERE person_id NOT LIKE '{SENTINEL}%'",
    "transitions": "SELECT hour, channel, from_step, to_step, transitions, round(total_seconds, 6) AS seconds,"
    f" seconds_histogram FROM transitions WHERE '{SENTINEL}' NOT IN (from_step, to_step)",
    "paths": f"SELECT dt, steps, path_hash, sessions, events FROM paths WHERE NOT list_contains(steps, '{SENTINEL}')",
    "late_events": "SELECT event_id, event_time, reason, source_position FROM late_events",
    "dead_letters": "SELECT reason, source_position FROM dead_letters",
}
Records = list[list[bytes]]


def make_records(partitions: int, count: int, seed: int = 1) -> Records:
    """Make Segment records, by partition: persons over partitions, disorder, duplicates, late ones and bad ones."""
    chance = random.Random(seed)
    records: Records = [[] for _ in range(partitions)]
    for number in range(count):
        at = START_S + number * 20 + chance.uniform(-15, 15) - (600 if chance.random() < 0.01 else 0)
        line = make_record(f"m{number}", f"person-{chance.randrange(40)}", at, chance.choice(STEPS))
        if chance.random() < 0.01:
            line = b'{"broken": '
        part = records[chance.randrange(partitions)]
        part.append(line)
        if chance.random() < 0.02:
            part.append(line)
    return records


def make_record(name: str, person: str, at_s: float, step: str) -> bytes:
    """Make one Segment record."""
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at_s)) + f".{int(at_s % 1 * 1000):03d}Z"
    body = {"messageId": name, "userId": person, "type": "track", "event": step, "timestamp": moment, "channel": "web"}
    return json.dumps(body).encode()


def end_records(records: Records) -> Records:
    """Put an event two days later at the end of each partition, so that the watermark passes all others."""
    last = START_S + 86_400 * 2
    return [
        [*part, make_record(f"end-{number}", f"{SENTINEL}-{number}", last, SENTINEL)]
        for number, part in enumerate(records)
    ]


def produce(bootstrap: str, topic: str, records: Sequence[Sequence[bytes | None]]) -> None:
    """Send every partition its records, in order, and wait until the broker has them."""
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    failed: list[object] = []
    for number, part in enumerate(records):
        for record in part:
            producer.produce(topic, record, partition=number, on_delivery=lambda error, _: failed.append(error))
            producer.poll(0)
    assert producer.flush(PATIENCE_S) == 0
    assert [error for error in failed if error is not None] == []


def make_config(bootstrap: str, *topics: str, snapshot: int = SECOND // 2, idle_after: int = 60 * SECOND) -> Config:
    """Make the config of a job that reads these topics."""
    sources = tuple(
        SourceRules(f"s{number}", servers=bootstrap, topics=(topic,)) for number, topic in enumerate(topics)
    )
    return Config(funnels=FUNNELS, sources=sources, job=JobRules(snapshot=snapshot, idle_after=idle_after))


@contextmanager
def running(warehouse: Path, config: Config, workers: int = 1) -> Iterator[list[Progress]]:
    """Run a live job beside the test; it is stopped at the end, and what went wrong in it is raised."""
    stop, seen, failure = threading.Event(), [Progress()], []

    def work() -> None:
        try:
            options = LiveOptions(warehouse, workers=workers, stop=stop, look_every_s=LOOK_EVERY_S)
            run_live(options, config, lambda progress, _: seen.append(progress))
        except Exception as problem:
            failure.append(problem)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join(PATIENCE_S)
    assert not thread.is_alive()
    if failure:
        raise failure[0]


def wait_until(reached: Callable[[], bool]) -> None:
    """Wait until something is so."""
    until = time.monotonic() + PATIENCE_S
    while not reached():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.05)


def count_rows(warehouse: Path, table: str) -> int:
    """Count a table's rows by the newest manifest."""
    return sum(file.rows for file in read_manifest(Folders(warehouse)).visible(table))


def replay(folder: Path, records: Records, warehouse: Path) -> None:
    """Replay the records from files, one a partition."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, part in enumerate(records):
        (folder / f"part-{number}.ndjson").write_bytes(b"".join(line + b"\n" for line in part))
    config = Config(funnels=FUNNELS)
    assert run_replay(ReplayOptions((f"{folder}/*.ndjson",), warehouse), config).outcome == "finished"


def assert_same(live: Path, replayed: Path) -> None:
    """Compare two warehouses table by table, row by row."""
    for table, question in QUESTIONS.items():
        found, wanted = (ask(warehouse, question) for warehouse in (live, replayed))
        assert len(wanted) > 0 or table in ("late_events", "dead_letters"), f"{table} says nothing"
        extra, missing = [row for row in found if row not in wanted], [row for row in wanted if row not in found]
        assert found == wanted, f"{table}: {len(found)} rows for {len(wanted)}; {extra[:3]} instead of {missing[:3]}"


def ask(warehouse: Path, question: str) -> list[str]:
    """Return the answer's rows, sorted, as text."""
    with duckdb.connect(str(warehouse / "journeys.duckdb"), read_only=True) as connection:
        return sorted(map(repr, pl.DataFrame(connection.sql(question).to_arrow_table()).rows()))


def expect_sessions(warehouse: Path, replayed: Path) -> None:
    """Wait until the live warehouse holds as many sessions as the replay, but for the sentinels'."""
    question = f"SELECT count(*) FROM sessions WHERE person_id NOT LIKE '{SENTINEL}%'"
    wanted = ask(replayed, question)
    wait_until(lambda: (warehouse / "journeys.duckdb").exists() and ask(warehouse, question) == wanted)


class Process:
    """`journeys run` as a process of its own; `fail_at`: the point of the commit at which it is killed."""

    def __init__(self, folder: Path, config: str, warehouse: Path, fail_at: str = "") -> None:
        file = folder / "journey.toml"
        file.write_text(config, encoding="utf-8")
        environment = {**os.environ, "PYTHONPATH": str(ROOT), FAIL_AT: fail_at}
        command = [sys.executable, "-m", "flows", "run", "--config", str(file), "--warehouse", str(warehouse)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def has_ended(self) -> bool:
        """Tell whether it has ended by itself."""
        return self.process.poll() is not None

    def kill(self) -> None:
        """Kill it, if it has not been already."""
        self.process.kill()
        self.process.communicate(timeout=PATIENCE_S)

    def stop(self) -> tuple[int, str]:
        """Stop it gracefully; return its exit code and what it printed."""
        self.process.send_signal(signal.SIGTERM)
        out, err = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, out + err
