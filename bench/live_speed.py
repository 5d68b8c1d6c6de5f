"""How fast a live job drains full topics, against a client that does nothing but count."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from bench.live_load import PARTITIONS, Load, write_config
from clock import read_stopwatch


def count_plainly(servers: str, total: int) -> float:
    """Count all records by one consumer with its default settings; returns records a second from the first on."""
    settings = {"bootstrap.servers": servers, "group.id": "count", "enable.auto.commit": False, "log_level": 0}
    consumer = Consumer(settings)
    places = [TopicPartition(t, n, OFFSET_BEGINNING) for t, count in PARTITIONS.items() for n in range(count)]
    consumer.assign(places)
    seen, size, began = 0, 0, 0.0
    while seen < total:
        messages = consumer.consume(10_000, 1.0)
        began = began or read_stopwatch()
        for message in messages:
            value = message.value()
            if value is not None:
                size += len(value)
                seen += 1
    ended = read_stopwatch()
    consumer.close()
    return total / (ended - began)


def measure_speed(servers: str, load: Load, folder: Path, workers: int, runs: int = 1) -> dict[str, Any]:
    """Drain the topics with new warehouses and count them plainly, by turns."""
    total = sum(part.records for part in load)
    config = write_config(folder, servers, "10s")
    found: dict[str, Any] = {"records": total, "workers": workers, "plain": [], "runs": []}
    for number in range(runs):
        found["plain"].append(round(count_plainly(servers, total)))
        command = [sys.executable, "-m", "bench.live_child", str(config), str(folder / f"speed-{number}")]
        ended = subprocess.run([*command, str(total), str(workers)], capture_output=True, text=True, check=False)
        if ended.returncode:
            raise RuntimeError(ended.stderr)
        found["runs"].append(json.loads(ended.stdout.splitlines()[-1]))
    best = max(run["events_per_s"] for run in found["runs"])
    found["ratio"] = round(best / max(found["plain"]), 3)
    return found


def measure_peer(servers: str, load: Load, folder: Path, python: str, records: int) -> dict[str, Any]:
    """Let Quix Streams compute sessions of the first records of each partition, keyed by person, in a topic of its own."""
    admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
    admin.create_topics([NewTopic("keyed", num_partitions=4, replication_factor=1)])["keyed"].result(60)
    producer = Producer({"bootstrap.servers": servers, "log_level": 0, "queue.buffering.max.messages": 2_000_000})
    lines = [line for part in load for line in part.read(0, records / sum(one.records for one in load))]
    for line in lines:
        record = json.loads(line)
        producer.produce("keyed", line, record["userId"] or record["anonymousId"])
    producer.flush(300)
    command = [python, "bench/peer_quix.py", servers, "keyed", str(len(lines)), str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(ended.stderr)
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found
