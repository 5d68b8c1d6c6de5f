"""`make live-demo`: real brokers, customers of three touchpoints, `journeys run`, and the funnel as it moves.

Web and app send to Apache Kafka, the support desk to RabbitMQ; all three end in the same journeys.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import pika
from confluent_kafka import Producer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from errors import JourneyError
from maps.pictures import draw_funnel
from maps.status import read_status
from sinks.catalog import open_views
from sinks.storage import Folders
from tests.brokers.kafka import KafkaBroker
from tests.brokers.rabbit import RabbitBroker

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "live-demo"
TOPICS = {"web": "web-events", "mobile": "app-events"}
QUEUE = "support-tickets"
PAUSE_S = (0.3, 4.0)  # between two steps of a customer
CONFIG = """\
# What `journeys run` of this demo reads; with sessions of seconds, so that there is something to see soon.
[sessions]
gap = "20s"
allowed_lateness = "1s"

[job]
snapshot = "2s"
idle_after = "3s"

[[source]]
name = "shop"
servers = "{servers}"
topics = ["web-events", "app-events"]

[[source]]
name = "desk"
kind = "rabbitmq"
url = "{url}"
queues = ["support-tickets"]

[funnels.purchase]
steps = ["product", "add_to_cart", "checkout", "order"]
within = "10m"

[funnels.help_after_checkout]
steps = ["checkout", "ticket"]
within = "10m"
"""
# From a step to the next ones, with the share that goes there; the rest leaves.
NEXT = {
    "home": (("search", 0.3), ("product", 0.5)),
    "search": (("product", 0.8),),
    "product": (("product", 0.3), ("add_to_cart", 0.4), ("home", 0.1)),
    "add_to_cart": (("checkout", 0.6), ("product", 0.2)),
    "checkout": (("order", 0.65), ("ticket", 0.2)),
    "ticket": (("order", 0.3),),
    "order": (("ticket", 0.05),),
}


@dataclass(order=True)
class Visit:
    """A customer who does the next step at a time."""

    at: float
    person: str
    channel: str
    step: str


class Shop:
    """Customers who come at a rate and walk from step to step, each step told to the broker of its touchpoint."""

    def __init__(self, kafka: KafkaBroker, rabbit: RabbitBroker, rate: float) -> None:
        self.chance, self.rate = random.Random(7), rate
        self.producer = Producer({"bootstrap.servers": kafka.bootstrap, "linger.ms": 20, "log_level": 0})
        self.connection = pika.BlockingConnection(pika.URLParameters(rabbit.amqp_url))
        self.channel = self.connection.channel()
        self.visits: list[Visit] = []
        self.sent = 0

    def open(self, stop: threading.Event) -> None:
        """Send what the customers do, in real time, until told to stop."""
        arrives = time.time()
        while not stop.is_set():
            now = time.time()
            while arrives <= now:
                person, channel = f"customer-{self.chance.randrange(5000)}", self.chance.choice(tuple(TOPICS))
                heapq.heappush(self.visits, Visit(arrives, person, channel, "home"))
                arrives += self.chance.expovariate(self.rate)
            while self.visits and self.visits[0].at <= now:
                self._do(heapq.heappop(self.visits))
            self.producer.poll(0)
            self.connection.process_data_events()
            time.sleep(0.02)
        self.producer.flush(10)
        self.connection.close()

    def _do(self, visit: Visit) -> None:
        self.sent += 1
        channel = "support" if visit.step == "ticket" else visit.channel
        moment = datetime.fromtimestamp(visit.at, timezone.utc).isoformat(timespec="milliseconds")
        body = json.dumps(
            {
                "messageId": f"event-{self.sent}",
                "type": "track",
                "event": visit.step,
                "userId": visit.person,
                "timestamp": moment,
                "channel": channel,
            }
        ).encode()
        if channel == "support":
            self.channel.basic_publish("", QUEUE, body, pika.BasicProperties(delivery_mode=2))
        else:
            self.producer.produce(TOPICS[channel], body, visit.person)
        draw = self.chance.random()
        for step, share in NEXT[visit.step]:
            draw -= share
            if draw < 0:
                heapq.heappush(
                    self.visits, Visit(visit.at + self.chance.uniform(*PAUSE_S), visit.person, visit.channel, step)
                )
                return


@contextmanager
def run_job(kafka: KafkaBroker, rabbit: RabbitBroker) -> Iterator[subprocess.Popen[bytes]]:
    """Start `journeys run` on the brokers; stop it at an epoch in the end."""
    config = FOLDER / "journey.toml"
    config.write_text(CONFIG.format(servers=kafka.bootstrap, url=rabbit.amqp_url), encoding="utf-8")
    command = [
        str(Path(sys.executable).with_name("journeys")),
        "run",
        "-c",
        str(config),
        "-w",
        str(FOLDER / "warehouse"),
    ]
    with open(FOLDER / "run.log", "wb") as log:
        job = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield job
        finally:
            job.send_signal(signal.SIGTERM)
            job.wait(60)


def draw(sent: int, seconds: float) -> RenderableType:
    """Draw the funnels as the tables have them now."""
    folders = Folders(FOLDER / "warehouse")
    head = f"{seconds:4.0f} s   {sent:,} events sent by web and app (Kafka) and support (RabbitMQ)"
    if not folders.catalog.exists():
        return Text(f"{head}; the first commit is on its way …")
    status = read_status(folders)
    text = f"{head}\n         {status.rows('events'):,} in the tables, {status.rows('sessions'):,} sessions over"
    views, _ = open_views(folders)
    with views:
        pictures = [draw_funnel(views, name) for name in ("purchase", "help_after_checkout")]
    return Group(Text(text), *pictures)


def play(seconds: float, rate: float, out: Console) -> None:
    """Run everything for some seconds, or until Ctrl-C; raises JourneyError where the job ends by itself."""
    with ExitStack() as running:
        out.print("Starting Kafka and RabbitMQ …")
        kafka = running.enter_context(KafkaBroker(FOLDER / "kafka"))
        rabbit = running.enter_context(RabbitBroker(FOLDER / "rabbit"))
        for topic in TOPICS.values():
            kafka.make_topic(2, name=topic)
        rabbit.make_queue("quorum", name=QUEUE)
        stop, shop = threading.Event(), Shop(kafka, rabbit, rate)
        selling = threading.Thread(target=shop.open, args=(stop,))
        selling.start()
        running.callback(selling.join)
        running.callback(stop.set)
        job = running.enter_context(run_job(kafka, rabbit))
        began = time.monotonic()
        with Live(console=out, refresh_per_second=4) as shown:
            while time.monotonic() - began < seconds:
                if job.poll() is not None:
                    raise JourneyError(f"`journeys run` ended by itself: see {FOLDER}/run.log")
                shown.update(draw(shop.sent, time.monotonic() - began))
                time.sleep(1)


def main() -> int:
    """Play the demo; returns the exit code."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=60.0, help="how long customers come")
    options.add_argument("--rate", type=float, default=20.0, help="customers who come in a second")
    given = options.parse_args()
    missing = [told for told in (KafkaBroker.find_missing(), RabbitBroker.find_missing()) if told]
    if missing:
        print("error: " + "; ".join(missing) + "\n  → run tools/get_brokers.sh", file=sys.stderr)
        return 1
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    out = Console()
    try:
        play(given.seconds, given.rate, out)
    except KeyboardInterrupt:
        pass
    except JourneyError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    home = FOLDER.relative_to(ROOT)
    out.print(
        f"\nStopped at an epoch. The tables stay: journeys show -w {home}/warehouse, or any DuckDB shell on"
        f" {home}/warehouse/journeys.duckdb.\nWhat the job was told is {home}/journey.toml: put your own brokers there,"
        " and give it to `journeys run`.",
        markup=False,
        soft_wrap=True,
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
