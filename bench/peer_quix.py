"""A peer: sessions of the same gap by Quix Streams' session windows, one message at a time, from the same broker.

    PYTHON bench/peer_quix.py SERVERS TOPIC RECORDS FOLDER

Needs quixstreams (3.28) in a Python of its own, as it wants an older client than we do. Messages are keyed by person
already. It computes sessions only: no transitions, paths, funnels or events table, and results go to a topic.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from quixstreams import Application
from quixstreams.dataframe.windows import Count


def read_time(value: Any, _headers: Any, _timestamp: float, _kind: Any) -> int:
    """Take the event's time from the record, milliseconds."""
    return int(datetime.fromisoformat(value["timestamp"].replace("Z", "+00:00")).timestamp() * 1000)


def main() -> None:
    """Run until all records were seen; print one line of JSON."""
    servers, name, records, folder = sys.argv[1:5]
    app = Application(
        broker_address=servers,
        consumer_group=f"quix-{time.time_ns()}",
        auto_offset_reset="earliest",
        state_dir=Path(folder) / "quix-state",
        loglevel="ERROR",
    )
    topic = app.topic(name, value_deserializer="json", timestamp_extractor=read_time)
    out = app.topic(f"{name}-sessions", value_serializer="json")
    seen = {"records": 0, "began": 0.0}

    def note(value: Any) -> Any:
        seen["began"] = seen["began"] or time.monotonic()
        seen["records"] += 1
        if seen["records"] >= int(records):
            app.stop()
        return value

    frame = app.dataframe(topic).apply(note)
    sessions = frame.session_window(inactivity_gap_ms=1_800_000, grace_ms=60_000).agg(events=Count()).final()
    sessions.to_topic(out)
    app.run()
    seconds = time.monotonic() - seen["began"]
    cpu = time.process_time()
    print(
        json.dumps(
            {"records": seen["records"], "events_per_s": round(seen["records"] / seconds), "cpu_s": round(cpu, 2)}
        )
    )


if __name__ == "__main__":
    main()
