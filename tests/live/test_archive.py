"""The archive of a live job: a replay of it gives the job's tables, every column of every row, whatever happened to the job."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from flows.replay import ReplayOptions, run_replay
from flows.settings import load_config
from maps.parity import compare_warehouses
from sinks.storage import Folders
from tests.brokers.kafka import KafkaBroker
from tests.live.support import (
    SENTINEL,
    Process,
    ask,
    count_rows,
    end_records,
    make_record,
    make_records,
    produce,
    wait_until,
)

pytestmark = pytest.mark.slow
TOML = """
[job]
snapshot = "300ms"
archive = true
[funnels.purchase]
steps = ["view", "add", "buy"]
[[source]]
name = "s0"
servers = "{servers}"
topics = ["{topic}"]
"""
# All that a table says, but for what only a replay's end adds: the sentinels' sessions, which a live job leaves open.
EXACT = {
    "events": f"FROM events WHERE person_id NOT LIKE '{SENTINEL}%'",
    "sessions": f"FROM sessions WHERE person_id NOT LIKE '{SENTINEL}%'",
    "funnel_steps": f"FROM funnel_steps WHERE person_id NOT LIKE '{SENTINEL}%'",
    "late_events": "FROM late_events",
    "dead_letters": "FROM dead_letters",
    "ledger": "SELECT source, source_partition, received, late, dead FROM ledger",
}


@pytest.fixture
def killed_job(kafka: KafkaBroker, tmp_path: Path) -> Path:
    """The config of a job with an archive, killed on the way, that has read everything and was stopped."""
    chance, topic = random.Random(5), kafka.make_topic(2)
    records = end_records(make_records(2, 3_000, seed=6))
    future = make_record("ahead", "u", time.time() + 2 * 3600, "view")
    records[0].insert(500, future)
    records[1].insert(700, b" ")
    text = TOML.format(servers=kafka.bootstrap, topic=topic)
    points = ["after_file:3", "", "epoch_durable:2", ""]
    for number, point in enumerate(points):
        step = len(records[0]) // (len(points) + 1)
        produce(kafka.bootstrap, topic, [lines[number * step : (number + 1) * step] for lines in records])
        job = Process(tmp_path, text, tmp_path / "live", point)
        time.sleep(2 + chance.random())
        job.kill()
    job = Process(tmp_path, text, tmp_path / "live")
    # It has to read these: a job that is stopped while it starts just ends.
    produce(kafka.bootstrap, topic, [lines[len(points) * step :] for lines in records])
    wait_until(lambda: count_received(tmp_path / "live") == sum(map(len, records)))
    code, told = job.stop()
    assert code == 0, told
    return tmp_path / "journey.toml"


def count_received(warehouse: Path) -> int:
    if not (warehouse / "journeys.duckdb").exists():
        return 0
    (row,) = ask(warehouse, "SELECT coalesce(sum(received), 0)::BIGINT FROM ledger")
    return int(row.strip("(,)"))


def test_replay_of_the_archive_gives_the_same_rows(killed_job: Path, tmp_path: Path) -> None:
    archive, config = tmp_path / "live" / "_journeys" / "archive", load_config(killed_job)
    replayed = run_replay(ReplayOptions((str(archive),), tmp_path / "replayed"), config)
    assert replayed.outcome == "finished"
    assert count_rows(tmp_path / "live", "sessions") > 100
    for table, question in EXACT.items():
        found, wanted = (ask(tmp_path / name, question) for name in ("live", "replayed"))
        assert found == wanted, f"{table}: {len(found)} rows for {len(wanted)}"
    report = compare_warehouses(Folders(tmp_path / "live"), Folders(tmp_path / "replayed"), strict=True)
    assert report.same, [line for table in report.tables for line in table.describe()]
    reasons = ask(tmp_path / "replayed", "SELECT DISTINCT reason FROM dead_letters")
    assert "('future',)" in reasons  # judged by when the record came, not by when it is replayed
    again = run_replay(ReplayOptions((str(archive),), tmp_path / "replayed"), config)
    assert again.outcome == "nothing_to_do"
