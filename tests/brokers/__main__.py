"""`make brokers`: start Kafka and RabbitMQ for a person, say where they are, and stop them on Ctrl-C."""

from __future__ import annotations

import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from tests.brokers.kafka import KafkaBroker
from tests.brokers.rabbit import RabbitBroker
from tests.brokers.server import HOST, BrokerError, Server

FOLDER = Path(__file__).resolve().parents[2] / "build" / "brokers" / "data"
KAFKA_PORT, AMQP_PORT, STREAM_PORT = 9092, 5672, 5552


def serve() -> None:
    """Run both brokers until this process is told to end, or one of them ends."""
    kafka = KafkaBroker(FOLDER / "kafka", KAFKA_PORT)
    rabbit = RabbitBroker(FOLDER / "rabbit", AMQP_PORT, STREAM_PORT)
    servers: list[Server] = [kafka, rabbit]
    with ExitStack() as running:
        for server in servers:
            print(f"Starting {server.name} …", flush=True)
            running.enter_context(server)
        print(f"Kafka            {kafka.bootstrap}")
        print(f"RabbitMQ         {rabbit.amqp_url}")
        print(f"RabbitMQ streams {HOST}:{rabbit.stream_port}")
        print(f"Data and logs    {FOLDER}\nCtrl-C stops both; what they hold stays.", flush=True)
        while all(server.is_running for server in servers):
            time.sleep(0.5)
        ended = next(server for server in servers if not server.is_running)
        raise BrokerError(f"{ended.name} ended by itself\n{ended.read_log()}")


def main() -> int:
    """Run the brokers; returns the exit code."""
    missing = [told for told in (KafkaBroker.find_missing(), RabbitBroker.find_missing()) if told]
    if missing:
        print("error: " + "; ".join(missing) + "\n  → run tools/get_brokers.sh", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        serve()
    except KeyboardInterrupt:
        print("Stopped.")
        return 0
    except BrokerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
