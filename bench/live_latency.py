"""From producing an event to seeing it in DuckDB, at a steady rate."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from confluent_kafka import Producer

from bench.live_load import PARTITIONS, write_config
from bench.live_parity import start_job
from sinks.manifest import read_manifest
from sinks.storage import Folders

RATE = 2_000
STEP_S = 0.01
POLL_S = 0.1


class Sender(threading.Thread):
    """Produces so many events a second, each with the moment of its making as event time, until told to stop."""

    def __init__(self, servers: str, rate: int) -> None:
        super().__init__(daemon=True)
        self.rate, self.stopping, self.made = rate, threading.Event(), list[float]()
        self.producer = Producer({"bootstrap.servers": servers, "linger.ms": 5, "log_level": 0})

    def run(self) -> None:
        places = [(topic, number) for topic, count in PARTITIONS.items() for number in range(count)]
        began = time.time()
        while not self.stopping.is_set():
            for number in range(len(self.made), int((time.time() - began) * self.rate)):
                at = time.time()
                topic, partition = places[number % len(places)]
                body = f'{{"messageId":"{number}","type":"track","event":"Product Viewed","userId":"u-{number % 5000}",'
                self.producer.produce(topic, body + f'"timestamp":{at:.6f},"channel":"web"}}', partition=partition)
                self.made.append(at)
            self.producer.poll(0)
            time.sleep(STEP_S)
        self.producer.flush(60)


def measure_latency(servers: str, folder: Path, snapshot_s: float, seconds: float, lateness: str) -> dict[str, Any]:
    """Produce and look at once; the first seconds, while the job starts, don't count."""
    warehouse = folder / f"latency-{snapshot_s:g}"
    job = start_job(write_config(folder, servers, f"{snapshot_s:g}s", lateness), warehouse, folder / "latency.log")
    sender, looks, began = Sender(servers, RATE), list[float](), time.time()
    try:
        wait_for_start(warehouse, job)
        sender.start()
        seen = look(warehouse, sender, seconds, looks)
        cost = read_cpu(job.pid)
    finally:
        sender.stopping.set()
        job.send_signal(signal.SIGTERM)
        job.wait(120)
    warm = 3 * snapshot_s + 2
    made = np.array(sender.made)
    counted = [number for number in seen if warm < made[number] - made[0] < seconds - 3 * snapshot_s - 2]
    waits = np.array([seen[number] - made[number] for number in counted])
    wanted = int(((made - made[0] > warm) & (made - made[0] < seconds - 3 * snapshot_s - 2)).sum())
    return {
        "rate": RATE,
        "snapshot_s": snapshot_s,
        "allowed_lateness": lateness,
        "events": len(counted),
        "not_seen": wanted - len(counted),
        "longest_look_s": round(float(np.diff(looks).max()), 3),
        "commits": read_manifest(Folders(warehouse)).version,
        "cpu_share": round(cost / (time.time() - began), 3),
        "p50_s": round(float(np.percentile(waits, 50)), 3),
        "p99_s": round(float(np.percentile(waits, 99)), 3),
        "max_s": round(float(waits.max()), 3),
        "wanted_p99_s": 2 * snapshot_s + 1,
    }


def read_cpu(process: int) -> float:
    """Return the processor seconds that a process has taken so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_for_start(warehouse: Path, job: Any) -> None:
    """Wait until the job reads."""
    while not (warehouse / "_journeys" / "warehouse.json").exists():
        if job.poll() is not None:
            raise RuntimeError("the job did not start")
        time.sleep(0.1)
    time.sleep(2.0)


def look(warehouse: Path, sender: Sender, seconds: float, looks: list[float]) -> dict[int, float]:
    """Open the catalog again and again; returns when each event was seen: when the look began that found it."""
    seen: dict[int, float] = {}
    until = time.time() + seconds
    while (now := time.time()) < until:
        looks.append(now)
        if (warehouse / "journeys.duckdb").exists():
            edge = sender.made[min(seen_up_to(seen), len(sender.made) - 1)] - 5 if sender.made else 0.0
            with duckdb.connect(str(warehouse / "journeys.duckdb"), read_only=True) as connection:
                rows = connection.execute(
                    "SELECT event_id::BIGINT FROM events WHERE event_time >= make_timestamptz(?)", [int(edge * 1e6)]
                ).fetchnumpy()
            for number in next(iter(rows.values())).tolist():
                seen.setdefault(number, now)
        time.sleep(POLL_S)
    return seen


def seen_up_to(seen: dict[int, float]) -> int:
    """Return a number before which nearly all were seen."""
    return max(0, len(seen) - 1)
