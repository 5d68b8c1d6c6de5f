"""Damaged records as messages of real brokers: every one is counted once, and none stops the job.

    python -m bench.bad_messages --records 100000

Half of the records are damaged in some hundred ways (tests/support/damage.py), and some have no value at all. They go to a
topic of Kafka and to a quorum queue of RabbitMQ, `journeys run` reads both, and the dead letters and the ledger are compared
with what each record must become. Exit code 1 if they differ or the job did not end well.
"""

from __future__ import annotations

import argparse
import ast
import sys
import tempfile
from collections import Counter
from pathlib import Path

from rich.console import Console

from tests.brokers.kafka import KafkaBroker
from tests.brokers.rabbit import RabbitBroker
from tests.live.rabbit_support import publish
from tests.live.support import Process, ask, produce, wait_until
from tests.support.damage import BLANK_LINE
from tests.support.mixing import Mixture, mix

MISSING = "not_an_object"  # the reason of a message without content
LARGEST = 900_000  # bytes of a message that Kafka takes
EVERY = 997  # one message of so many has no value
TOML = """
[dead_letters]
count = 1_000_000_000
[input]
max_record_bytes = "64KiB"
[job]
snapshot = "1s"
[[source]]
name = "kafka"
servers = "{servers}"
topics = ["{topic}"]
[[source]]
name = "rabbit"
kind = "rabbitmq"
url = "{url}"
queues = ["{queue}"]
"""


def main() -> int:
    """Run it; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000, help="half of them to each broker")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    whole = mix(given.records // 2, given.seed, 150)
    pairs = [pair for pair in zip(*whole.parts(), strict=True) if len(pair[0]) < LARGEST]
    mixture = Mixture([line for line, _ in pairs], [damage for _, damage in pairs])
    messages = [None if number % EVERY == 0 else line for number, line in enumerate(mixture.lines)]
    dead = mixture.expect_dead()
    reasons = Counter(
        MISSING if message is None or (damage is not None and damage.fate == BLANK_LINE) else dead[number][0]
        for number, (message, damage) in enumerate(zip(messages, mixture.damages, strict=True))
        if message is None or number in dead or (damage is not None and damage.fate == BLANK_LINE)
    )
    console = Console()
    console.print(f"{2 * len(messages):,} messages, {2 * sum(reasons.values()):,} of which can be no event")
    with tempfile.TemporaryDirectory() as name:
        failures = run_job(Path(name), messages, reasons)
    for failure in failures:
        console.print(f"[red]{failure}")
    console.print(f"{len(failures)} failures")
    return 1 if failures else 0


def run_job(folder: Path, messages: list[bytes | None], reasons: Counter[str]) -> list[str]:
    """Send the messages to both brokers and let a job read them; return what is not as it has to be."""
    with KafkaBroker(folder / "kafka") as kafka, RabbitBroker(folder / "rabbit") as rabbit:
        topic, queue = kafka.make_topic(1), rabbit.make_queue("quorum")
        text = TOML.format(servers=kafka.bootstrap, topic=topic, url=rabbit.amqp_url, queue=queue)
        job = Process(folder, text, folder / "live")
        produce(kafka.bootstrap, topic, [messages])
        publish(rabbit, queue, messages)
        wait_until(lambda: count(folder / "live", "received") >= 2 * len(messages))
        code, told = job.stop()
    failures = [] if code == 0 else [f"the job ended with {code}: {told[-2000:]}"]
    for source in (f"kafka/{topic}", f"rabbit/{queue}"):
        received = count(folder / "live", "received", source)
        if received != len(messages):
            failures.append(f"{source}: {received:,} received of {len(messages):,}")
        rows = ask(folder / "live", f"SELECT reason, count(*) FROM dead_letters WHERE source = '{source}' GROUP BY ALL")
        found = Counter(dict(ast.literal_eval(row) for row in rows))
        if found != reasons:
            failures.append(f"{source}: dead letters differ: {found - reasons} too many, {reasons - found} missing")
    return failures


def count(warehouse: Path, what: str, source: str = "") -> int:
    """Return a sum of the ledger."""
    if not (warehouse / "journeys.duckdb").exists():
        return 0
    where = f" WHERE source = '{source}'" if source else ""
    (row,) = ask(warehouse, f"SELECT coalesce(sum({what}), 0)::BIGINT FROM ledger{where}")
    return int(row.strip("(,)"))


if __name__ == "__main__":
    sys.exit(main())
