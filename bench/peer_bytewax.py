"""The same sessions with Bytewax's own row-at-a-time windows, on the first events of the file.

    python bench/peer_bytewax.py FILE [--events N]

Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import bytewax.operators as op
import bytewax.operators.windowing as win
import orjson
from bytewax.dataflow import Dataflow
from bytewax.operators.windowing import EventClock, SessionWindower
from bytewax.testing import TestingSink, TestingSource, run_main
from measure import Meter

GAP = timedelta(minutes=30)
LATENESS = timedelta(minutes=1)
BATCH = 1_000

Event = dict[str, Any]


def read_lines(file: Path, events: int) -> Iterator[bytes]:
    """Yield the file's first lines."""
    with file.open("rb") as lines:
        yield from islice(lines, events)


def parse_event(line: bytes) -> tuple[str, Event]:
    """Return the line's event under its person, its time as a datetime."""
    event: Event = orjson.loads(line)
    event["timestamp"] = datetime.fromisoformat(event["timestamp"].replace("Z", "+00:00"))
    return event["userId"] or event["anonymousId"], event


def get_time(event: Event) -> datetime:
    """Return the event's time."""
    when: datetime = event["timestamp"]
    return when


def summarise(session: tuple[str, tuple[int, list[Event]]]) -> tuple[str, int]:
    """Return the person and number of events of a closed session."""
    person, (_, events) = session
    return person, len(events)


def build_flow(file: Path, events: int, closed: list[tuple[str, int]]) -> Dataflow:
    """Build a flow that appends every closed session to `closed`."""
    flow = Dataflow("sessions")
    lines = op.input("lines", flow, TestingSource(read_lines(file, events), batch_size=BATCH))
    keyed = op.map("parse", lines, parse_event)
    # Left alone, the clock wakes every open session at its event time; of a replay that is long past, so all of them
    # wake at every batch and the time grows with the square of the persons. None is the documented way out.
    clock = EventClock(ts_getter=get_time, wait_for_system_duration=LATENESS, to_system_utc=lambda _: None)
    windows = win.collect_window("sessions", keyed, clock, SessionWindower(gap=GAP))
    op.output("closed", op.map("summarise", windows.down, summarise), TestingSink(closed))
    return flow


def main() -> None:
    """Run the flow on one worker and print its cost and figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("file", type=Path)
    parser.add_argument("--events", type=int, default=200_000)
    given = parser.parse_args()
    closed: list[tuple[str, int]] = []
    meter = Meter()
    run_flow: Any = run_main  # untyped in Bytewax
    run_flow(build_flow(given.file, given.events, closed))
    cost = meter.read()
    # No dedupe here: events counts records, duplicates among them.
    read = sum(events for _, events in closed)
    print(json.dumps({**cost.to_dict(), "events": read, "sessions": len(closed)}))


if __name__ == "__main__":
    main()
