"""Partitions that a topic gains: taken up while the job runs, from their first message on, with the tables of a replay."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka.admin import NewPartitions  # type: ignore[attr-defined]

from config import SECOND, SourceRules
from flows.job import read_metadata
from sinks.storage import Folders
from tests.brokers.kafka import KafkaBroker
from tests.live.support import (
    START_S,
    ask,
    assert_same,
    count_rows,
    end_records,
    expect_sessions,
    make_config,
    make_record,
    make_records,
    produce,
    replay,
    running,
    wait_until,
)

pytestmark = pytest.mark.slow


def grow(kafka: KafkaBroker, topic: str, partitions: int) -> None:
    """Give a topic more partitions, and wait until it has them."""
    admin = kafka.connect_admin()
    admin.create_partitions([NewPartitions(topic, partitions)])[topic].result(30)
    until = time.monotonic() + 30
    while len(kafka.connect_admin().list_topics(topic, timeout=10).topics[topic].partitions) < partitions:
        assert time.monotonic() < until
        time.sleep(0.05)


def wait_for_run(warehouse: Path, run: int) -> None:
    """Wait until the dataflow was built so many times."""
    wait_until(lambda: read_metadata(Folders(warehouse)).get("run") == run)


@pytest.mark.parametrize("workers", [1, 2])
def test_partitions_gained_while_running_give_the_tables_of_a_replay(
    kafka: KafkaBroker, tmp_path: Path, workers: int
) -> None:
    """Twice on the way, with sessions open; the others have not passed the new one's time before it is taken up."""
    records = make_records(4, 3_000, seed=11)
    for number, share in ((2, 0.45), (3, 0.75)):
        records[number] = records[number][int(len(records[number]) * share) :]
    records = end_records(records)
    topic, live = kafka.make_topic(2), tmp_path / "live"
    replay(tmp_path / "files", records, tmp_path / "replayed")
    with running(live, make_config(kafka.bootstrap, topic), workers) as seen:
        produce(kafka.bootstrap, topic, [lines[:300] for lines in records[:2]])
        wait_until(lambda: seen[-1].records >= 600)
        grow(kafka, topic, 3)
        produce(kafka.bootstrap, topic, [[], [], records[2][:150]])
        wait_for_run(live, 2)
        produce(kafka.bootstrap, topic, [*(lines[300:500] for lines in records[:2]), []])
        wait_until(lambda: seen[-1].records >= 1_150)
        grow(kafka, topic, 4)
        produce(kafka.bootstrap, topic, [[], [], [], records[3][:50]])
        wait_for_run(live, 3)
        produce(kafka.bootstrap, topic, [*(lines[500:] for lines in records[:2]), records[2][150:], records[3][50:]])
        expect_sessions(live, tmp_path / "replayed")
        assert seen[-1].records == sum(map(len, records))
    assert_same(live, tmp_path / "replayed")


@pytest.mark.parametrize("stopped", [False, True])
def test_gained_partition_begins_at_its_first_message_whatever_start_says(
    kafka: KafkaBroker, tmp_path: Path, stopped: bool
) -> None:
    """Gained while the job runs, or while it is stopped; messages are in it before the job knows of it."""
    topic, live = kafka.make_topic(1), tmp_path / "live"
    rules = SourceRules("s0", servers=kafka.bootstrap, topics=(topic,), start="latest")
    config = replace(make_config(kafka.bootstrap, topic, idle_after=SECOND), sources=(rules,))
    new = [make_record(f"new{n}", "u", START_S + 3600 + n, "view") for n in range(5)]
    end = [make_record("end", "v", START_S + 90_000, "view")]
    with running(live, config) as seen:
        wait_until((live / "_journeys" / "warehouse.json").exists)
        time.sleep(1.5)  # `latest` is found out before the first record is sent
        produce(kafka.bootstrap, topic, [[make_record("old", "u", START_S, "view")]])
        wait_until(lambda: seen[-1].records >= 1)
        if not stopped:
            grow(kafka, topic, 2)
            produce(kafka.bootstrap, topic, [[], [*new, *end]])
            wait_until(lambda: count_rows(live, "events") == 6)
    if stopped:
        grow(kafka, topic, 2)
        produce(kafka.bootstrap, topic, [[], [*new, *end]])
        with running(live, config):
            wait_until(lambda: count_rows(live, "events") == 6)
    assert ask(live, "SELECT event_id FROM events") == [*(f"('new{n}',)" for n in range(5)), "('old',)"]
