"""A live job killed again and again while its broker goes and comes back, against a replay of the same records."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import duckdb

from bench.live_load import Load, send, write_config
from tests.brokers.kafka import KafkaBroker
from tests.live.support import QUESTIONS, SENTINEL

PATIENCE_S = 900.0
SESSIONS = f"SELECT count(*) FROM sessions WHERE person_id NOT LIKE '{SENTINEL}%'"


def start_job(config: Path, warehouse: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start `journeys run` as a process of its own."""
    command = [sys.executable, "-m", "flows", "run", "--config", str(config), "--warehouse", str(warehouse)]
    with log.open("ab") as words:
        return subprocess.Popen(command, stdout=words, stderr=words)


def prove(broker: KafkaBroker, load: Load, folder: Path, given: tuple[int, int, int]) -> dict[str, Any]:
    """Send all records in pieces with a kill after each; compare all tables. `given`: kills, restarts, seed."""
    kills, restarts, seed = given
    chance = random.Random(seed)
    config, live, log = write_config(folder, broker.bootstrap, "1s"), folder / "live", folder / "run.log"
    replayed = replay(load, config, folder / "replayed")
    breaks = set(chance.sample(range(1, kills), min(restarts, kills - 1)))
    for number in range(kills):
        job = start_job(config, live, log)
        send(broker.bootstrap, load, number / (kills + 1), (number + 1) / (kills + 1))
        time.sleep(chance.uniform(0.5, 5.0))
        if number in breaks:
            broker.restart()
            time.sleep(chance.uniform(0.5, 3.0))
        if job.poll() is not None:
            raise RuntimeError(f"the job ended by itself: {log.read_text()[-2000:]}")
        job.kill()
        job.wait()
    send(broker.bootstrap, load, kills / (kills + 1), 1.0)
    job = start_job(config, live, log)
    caught_up = wait_for(live, ask_number(replayed, SESSIONS), job)
    job.send_signal(signal.SIGTERM)
    code = job.wait(120)
    differences = compare(live, replayed, folder)
    return {
        "records": sum(part.records for part in load),
        "kills": kills,
        "broker_restarts": len(breaks),
        "caught_up": caught_up,
        "exit_code": code,
        "rows": differences,
        "equal": all(missing == extra == 0 for _, missing, extra in differences.values()),
    }


def replay(load: Load, config: Path, warehouse: Path) -> Path:
    """Replay the partitions' files, each a lane."""
    command = [sys.executable, "-m", "flows", "replay", *(str(part.path) for part in load), "--config", str(config)]
    subprocess.run([*command, "--warehouse", str(warehouse), "--lanes", "each"], check=True, capture_output=True)
    return warehouse


def ask_number(warehouse: Path, question: str) -> int:
    """Return the one number that answers a question."""
    with duckdb.connect(str(warehouse / "journeys.duckdb"), read_only=True) as connection:
        row = connection.execute(question).fetchone()
    return int(row[0]) if row else 0


def wait_for(live: Path, sessions: int, job: subprocess.Popen[bytes]) -> bool:
    """Wait until the job has closed so many sessions; tells whether it did."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until and job.poll() is None:
        if (live / "journeys.duckdb").exists() and ask_number(live, SESSIONS) >= sessions:
            time.sleep(5.0)  # were there more than there should be, they would show
            return True
        time.sleep(1.0)
    return False


def compare(live: Path, replayed: Path, folder: Path) -> dict[str, tuple[int, int, int]]:
    """Return, by table, the rows of the replay, how many of them the live job lacks, and how many it has too many."""
    found = {}
    for table, question in QUESTIONS.items():
        for name, warehouse in (("live", live), ("replayed", replayed)):
            with duckdb.connect(str(warehouse / "journeys.duckdb"), read_only=True) as connection:
                connection.execute(f"COPY ({question}) TO '{folder / name}-{table}.parquet'")
        with duckdb.connect() as connection:
            one, other = (f"FROM '{folder / name}-{table}.parquet'" for name in ("live", "replayed"))
            counts = connection.execute(
                f"SELECT (SELECT count(*) {other}), (SELECT count(*) FROM ({other} EXCEPT ALL {one})),"
                f" (SELECT count(*) FROM ({one} EXCEPT ALL {other}))"
            ).fetchone()
        found[table] = counts or (0, 0, 0)
    return found
