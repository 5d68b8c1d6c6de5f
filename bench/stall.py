"""How long an epoch's commit holds up reading while a million sessions are open.

`python -m bench.stall [--persons N]` replays two events of every person within one session gap, so that all sessions
stay open, with an epoch of one second, and prints the longest pause from a lane's snapshot to its next read.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from config import Config, JobRules, SessionRules
from flows.replay import ReplayOptions, run_replay
from sinks.manifest import Manifest
from sources.pacing import Progress

HOUR_US = 3_600_000_000


def write_events(path: Path, persons: int) -> None:
    """Write two rounds of one event a person, a millisecond apart, as Segment lines."""
    with path.open("w") as file:
        for number in range(2 * persons):
            second, milli = divmod(number, 1000)
            time = f"2026-01-05T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}.{milli:03d}Z"
            event = {"messageId": f"m{number}", "userId": f"person-{number % persons:08d}", "type": "track"}
            file.write(json.dumps(event | {"event": f"Step {number % 7}", "timestamp": time, "channel": "web"}) + "\n")


def measure_stall(persons: int, folder: Path) -> Progress:
    """Replay the events with short epochs; return what the source saw."""
    write_events(folder / "events.ndjson", persons)
    config = Config(sessions=SessionRules(gap=24 * HOUR_US, max_session=48 * HOUR_US), job=JobRules(snapshot=1_000_000))
    seen: list[Progress] = []

    def watch(progress: Progress, _: Manifest) -> None:
        seen.append(progress)

    run_replay(ReplayOptions((str(folder / "events.ndjson"),), folder / "warehouse"), config, watch)
    return seen[-1]


def main() -> None:
    """Print the longest pause as JSON; exit 1 where it is over a second."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--persons", type=int, default=1_000_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        progress = measure_stall(arguments.persons, Path(folder))
    print(json.dumps({"open_sessions": arguments.persons, "longest_stall_s": round(progress.longest_stall_s, 3)}))
    raise SystemExit(progress.longest_stall_s > 1.0)


if __name__ == "__main__":
    main()
