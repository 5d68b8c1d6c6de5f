"""A queue of RabbitMQ through a job that is killed again and again, and its tables against a replay, row for row.

    python -m bench.live_rabbit --messages 1000000 --kills 10

Messages go through a quorum queue of a RabbitMQ of its own while `journeys run` is killed by SIGKILL: at points between
the inbox and the acknowledgement, at points of the commit and at random. The same records are replayed from a file.
Exit code 1 if a row of a table differs or a record was counted twice or not at all.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow as pa

from clock import read_stopwatch
from tests.brokers.rabbit import RabbitBroker
from tests.live.rabbit_support import make_rules, publish, write_toml
from tests.live.support import QUESTIONS, SENTINEL, START_S, Process, make_record, make_records, replay

POINTS = ("", "inbox_received:20", "inbox_written:20", "acknowledging:20", "acknowledged:20", "", "epoch_durable:3")
CHUNK = 5_000
SPACING_S = 20
PATIENCE_S = 1_800
KILLED = -9


@dataclass
class Report:
    """What happened."""

    messages: int
    seconds: float = 0.0
    kills: list[str] = field(default_factory=list)
    received: int = 0
    differing: dict[str, int] = field(default_factory=dict)
    compared: dict[str, int] = field(default_factory=dict)


class Publisher:
    """Sends the records beside the kills."""

    def __init__(self, broker: RabbitBroker, queue: str, records: list[bytes]) -> None:
        self.broker, self.queue, self.records = broker, queue, records
        self.sent = 0
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def _work(self) -> None:
        for begin in range(0, len(self.records), CHUNK):
            publish(self.broker, self.queue, self.records[begin : begin + CHUNK], begin)
            self.sent = min(begin + CHUNK, len(self.records))


def make_messages(count: int) -> list[bytes]:
    """Make the records, the last of which passes the watermark over all others."""
    (records,) = make_records(1, count)
    return [*records, make_record("end", SENTINEL, START_S + count * SPACING_S + 3 * 86_400, SENTINEL)]


def kill_jobs(folder: Path, text: str, publisher: Publisher, kills: int, report: Report) -> None:
    """Start the job and kill it, so many times while the messages are sent."""
    chance = random.Random(7)
    for number in range(kills):
        point = POINTS[number % len(POINTS)]
        job = Process(folder, text, folder / "live", point)
        time.sleep(3 + 3 * chance.random())
        share = len(publisher.records) * (number + chance.random()) / kills
        until = read_stopwatch() + PATIENCE_S
        while publisher.sent < share and job.process.poll() is None and read_stopwatch() < until:
            time.sleep(0.05)
        job.kill()
        if job.process.returncode == KILLED:
            report.kills.append(point.split(":")[0] or "at random")
        print(f"  killed {report.kills[-1]}; {publisher.sent:,} messages sent", flush=True)


def finish_job(folder: Path, text: str, wanted: int) -> None:
    """Let the job run until it has as many sessions as the replay, or nothing comes any more; stop it in good order."""
    job = Process(folder, text, folder / "live")
    found, changed = -1, read_stopwatch()
    while found != wanted and read_stopwatch() - changed < 120:
        time.sleep(1)
        now = count(folder / "live", "sessions") if (folder / "live" / "journeys.duckdb").exists() else 0
        if now != found:
            found, changed = now, read_stopwatch()
    code, told = job.stop()
    if code:
        raise SystemExit(told)


def count(warehouse: Path, table: str) -> int:
    """Count a table's rows but for the sentinel's."""
    return ask(warehouse, f"SELECT count(*) AS n FROM ({QUESTIONS[table]})")["n"][0].as_py()


def ask(warehouse: Path, question: str) -> pa.Table:
    """Ask a warehouse."""
    with duckdb.connect(str(warehouse / "journeys.duckdb"), read_only=True) as connection:
        return connection.sql(question).to_arrow_table()


def compare(folder: Path, report: Report) -> None:
    """Compare the tables row by row."""
    for table, question in QUESTIONS.items():
        with duckdb.connect() as connection:
            for name in ("live", "replayed"):
                connection.register(name, ask(folder / name, question))
            for one, other in (("live", "replayed"), ("replayed", "live")):
                row = connection.execute(f"SELECT count(*) FROM (FROM {one} EXCEPT ALL FROM {other})").fetchone()
                report.differing[table] = report.differing.get(table, 0) + (row[0] if row else 0)
            row = connection.execute("SELECT count(*) FROM replayed").fetchone()
            report.compared[table] = row[0] if row else 0


def prove(broker: RabbitBroker, folder: Path, messages: int, kills: int) -> Report:
    """Send, kill, finish, replay and compare."""
    records = make_messages(messages)
    report = Report(len(records))
    replay(folder / "files", [records], folder / "replayed")
    queue = broker.make_queue()
    text = write_toml(make_rules(broker, queue))
    began = read_stopwatch()
    publisher = Publisher(broker, queue, records)
    kill_jobs(folder, text, publisher, kills, report)
    publisher.thread.join()
    finish_job(folder, text, count(folder / "replayed", "sessions"))
    report.seconds = round(read_stopwatch() - began, 1)
    report.received = ask(folder / "live", "SELECT sum(received)::BIGINT AS n FROM ledger")["n"][0].as_py()
    compare(folder, report)
    return report


def main() -> int:
    """Run it and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--folder", type=Path, help="where to work, and what stays there")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="journeys-rabbit-"))
    with RabbitBroker(folder / "broker") as broker:
        report = prove(broker, folder, given.messages, given.kills)
    print(json.dumps(vars(report)))
    good = not any(report.differing.values()) and report.received == report.messages
    if good and given.folder is None:
        shutil.rmtree(folder)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
