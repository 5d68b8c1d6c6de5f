"""Live jobs on a real Kafka: the tables of a replay through kills and restarts, speed, and latency.

    python -m bench.live_kafka --parity --events 5000000 --kills 20 --restarts 3
    python -m bench.live_kafka --throughput --events 5000000
    python -m bench.live_kafka --latency

Needs the broker that `make brokers` brings. Exit code 1 if a row differs.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.live_latency import measure_latency
from bench.live_load import make_load, make_topics, send
from bench.live_parity import prove
from bench.live_speed import measure_peer, measure_speed
from bench.make_data import DEFAULT_FOLDER
from tests.brokers.kafka import KafkaBroker

PEER_RECORDS = 200_000


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parity", action="store_true")
    parser.add_argument("--throughput", action="store_true")
    parser.add_argument("--latency", action="store_true")
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--restarts", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--runs", type=int, default=1, help="of --throughput")
    parser.add_argument(
        "--quix", default="", metavar="PYTHON", help="one that has quixstreams: the peer of --throughput"
    )
    parser.add_argument("--snapshot", type=float, default=1.0, help="seconds, of --latency")
    parser.add_argument("--seconds", type=float, default=60.0, help="of --latency")
    parser.add_argument("--lateness", default="0s", help="of --latency")
    parser.add_argument("--data", type=Path, default=DEFAULT_FOLDER, help="where generated events are kept")
    parser.add_argument("--folder", type=Path, help="where to work; else a folder that is removed")
    return parser.parse_args()


def measure(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Do what was asked for, each on a broker of its own."""
    found: dict[str, Any] = {}
    load = make_load(given.events, given.seed, given.data) if given.parity or given.throughput else ()
    for name in ("parity", "throughput", "latency"):
        if not getattr(given, name):
            continue
        home = folder / name
        home.mkdir(parents=True)
        with KafkaBroker(home / "kafka") as broker:
            make_topics(broker.bootstrap)
            if name == "parity":
                found[name] = prove(broker, load, home, (given.kills, given.restarts, given.seed))
            elif name == "throughput":
                send(broker.bootstrap, load)
                found[name] = measure_speed(broker.bootstrap, load, home, given.workers, given.runs)
                if given.quix:
                    records = min(PEER_RECORDS, given.events)
                    found[name]["quix"] = measure_peer(broker.bootstrap, load, home, given.quix, records)
            else:
                found[name] = measure_latency(broker.bootstrap, home, given.snapshot, given.seconds, given.lateness)
        print(json.dumps({name: found[name]}, indent=1), flush=True)
    return found


def main() -> int:
    """Measure and print."""
    given = parse()
    if given.folder is not None:
        given.folder.mkdir(parents=True, exist_ok=True)
        found = measure(given, given.folder)
    else:
        with tempfile.TemporaryDirectory(prefix="journeys-live-") as folder:
            found = measure(given, Path(folder))
    return 0 if found.get("parity", {"equal": True})["equal"] else 1


if __name__ == "__main__":
    sys.exit(main())
