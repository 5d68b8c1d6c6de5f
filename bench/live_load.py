"""Events of three touchpoints as topics with eight partitions, and the same records as files, one a partition."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from events.hashing import hash_strings
from sources.synthetic import Shape, Truth, format_segment, generate_frames
from tests.live.support import SENTINEL, make_record

PARTITIONS = {"web": 4, "mobile": 3, "support": 1}
BATCH = 2_000
DAY_S = 86_400
TOML = """
[sessions]
gap = "30m"
allowed_lateness = "{lateness}"
[job]
snapshot = "{snapshot}"
[funnels.purchase]
steps = ["Product Viewed", "Product Added", "Checkout Started", "Payment Info Entered", "Order Completed"]
within = "7d"
"""
SOURCE = """
[[source]]
name = "{name}"
servers = "{servers}"
topics = ["{name}"]
"""


@dataclass(frozen=True)
class Part:
    """A partition's records: topic, number, the file that holds them and how many there are."""

    topic: str
    number: int
    path: Path
    records: int

    def read(self, begin: float, end: float) -> list[bytes]:
        """Return the records from one share of the partition to another."""
        lines = self.path.read_bytes().splitlines()
        return lines[int(len(lines) * begin) : int(len(lines) * end)]


Load = tuple[Part, ...]


def write_config(folder: Path, servers: str, snapshot: str, lateness: str = "1m") -> Path:
    """Write the journey.toml that reads the three topics."""
    text = TOML.format(snapshot=snapshot, lateness=lateness)
    path = folder / "journey.toml"
    path.write_text(text + "".join(SOURCE.format(name=name, servers=servers) for name in PARTITIONS), encoding="utf-8")
    return path


def make_load(events: int, seed: int, folder: Path) -> Load:
    """Return the partitions' files, generated unless the folder holds them already.

    People are spread over a topic's partitions by hash. The last record of each partition lies two days after all
    others, so that the watermark passes them.
    """
    home = folder / f"live-{events}-{seed}"
    notes = home / "counts.json"
    if not notes.exists():
        home.mkdir(parents=True, exist_ok=True)
        notes.write_text(json.dumps(_write_parts(Shape(events=events, seed=seed), home)))
    counts: dict[str, int] = json.loads(notes.read_text())
    return tuple(
        Part(topic, number, home / f"{topic}-{number}.ndjson", counts[f"{topic}-{number}"])
        for topic, count in PARTITIONS.items()
        for number in range(count)
    )


def _write_parts(shape: Shape, home: Path) -> dict[str, int]:
    names = [(topic, number) for topic, count in PARTITIONS.items() for number in range(count)]
    counts, last = dict.fromkeys((f"{topic}-{number}" for topic, number in names), 0), 0
    files: dict[tuple[str, int], Any] = {name: (home / f"{name[0]}-{name[1]}.ndjson").open("wb") for name in names}
    for frame in generate_frames(shape, Truth()):
        last = max(last, int(frame["time"].max()))  # type: ignore[arg-type]
        topic = frame["channel"].replace_strict({"mobile": "mobile", "support": "support"}, default="web")
        hashes = pl.Series(np.asarray(hash_strings(frame["device"])))
        lines = format_segment(frame)
        for name, count in PARTITIONS.items():
            for number in range(count):
                mine = lines.filter((topic == name) & (hashes % count == number)).to_list()
                counts[f"{name}-{number}"] += len(mine)
                files[name, number].write(b"".join(line.encode() + b"\n" for line in mine))
    for place, (topic, number) in enumerate(names):
        end = make_record(f"end-{place}", f"{SENTINEL}-{place}", last / 1e6 + 2 * DAY_S, SENTINEL)
        files[topic, number].write(end + b"\n")
        counts[f"{topic}-{number}"] += 1
        files[topic, number].close()
    return counts


def make_topics(servers: str) -> None:
    """Make the topics."""
    admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
    topics = [NewTopic(name, num_partitions=count, replication_factor=1) for name, count in PARTITIONS.items()]
    for made in admin.create_topics(topics).values():
        made.result(60)


def send(servers: str, load: Load, begin: float = 0.0, end: float = 1.0) -> int:
    """Send a share of every partition's records, in order and once; returns how many."""
    producer = Producer(
        {"bootstrap.servers": servers, "enable.idempotence": True, "linger.ms": 20, "log_level": 0}
        | {"queue.buffering.max.messages": 200_000, "compression.type": "lz4"}
    )
    failed: list[object] = []
    sent = 0
    for part in load:
        for line in part.read(begin, end):
            while True:
                try:
                    producer.produce(
                        part.topic,
                        line,
                        partition=part.number,
                        on_delivery=lambda error, _: failed.append(error) if error is not None else None,
                    )
                    break
                except BufferError:
                    producer.poll(0.1)
            sent += 1
            if sent % BATCH == 0:
                producer.poll(0)
    if producer.flush(300) or failed:
        raise RuntimeError(f"records could not be sent: {failed[:3]}")
    return sent
