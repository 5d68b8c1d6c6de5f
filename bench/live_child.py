"""A live job that drains its topics, stops and says how fast it was and which thread took how much processor time.

Started by bench.live_kafka as a process of its own: `python -m bench.live_child CONFIG WAREHOUSE RECORDS WORKERS`.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
import threading
from collections import Counter
from pathlib import Path

from clock import read_stopwatch
from flows.live import LiveOptions, run_live
from flows.settings import load_config
from sinks.manifest import Manifest
from sources.pacing import Progress

TASKS = Path("/proc/self/task")
TICK = os.sysconf("SC_CLK_TCK")


def read_threads() -> dict[str, float]:
    """Return the processor seconds of this process's threads, added up by what they are for."""
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    spent: Counter[str] = Counter()
    for task in TASKS.iterdir():
        try:
            text = (task / "stat").read_text()
        except OSError:
            continue
        comm, rest = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :].split()
        name = names.get(int(task.name), comm)
        spent[re.sub(r"[-_:/ ]*\d.*$", "", name)] += (int(rest[11]) + int(rest[12])) / TICK
    return dict(spent)


def main() -> None:
    """Run until all records were read; print one line of JSON."""
    config, warehouse, records, workers = sys.argv[1:5]
    stop, marks = threading.Event(), list[tuple[float, int]]()
    spent: dict[str, float] = {}

    def watch(progress: Progress, _: Manifest) -> None:
        marks.append((read_stopwatch(), progress.records))
        for name, seconds in read_threads().items():
            spent[name] = max(spent.get(name, 0.0), seconds)
        if progress.records >= int(records):
            stop.set()

    began = read_stopwatch()
    run_live(LiveOptions(Path(warehouse), workers=int(workers), stop=stop), load_config(Path(config)), watch)
    ended = read_stopwatch()
    first = next(at for at, count in marks if count)
    before = max((at for at, count in marks if not count), default=began)
    done = next(at for at, count in marks if count >= int(records))
    steady = [(at, count) for at, count in marks if 0.1 * int(records) <= count <= 0.9 * int(records)]
    rate = (steady[-1][1] - steady[0][1]) / (steady[-1][0] - steady[0][0]) if len(steady) > 2 else 0.0
    told = {
        "start_s": round(first - began, 2),
        "drain_s": round(done - before, 2),
        "stop_s": round(ended - done, 2),
        "events_per_s": round(int(records) / (done - before)),
        "steady_events_per_s": round(rate),
        "cpu_s": round(sum(spent.values()), 2),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000),
        "threads": {
            name: round(cost, 2) for name, cost in sorted(spent.items(), key=lambda one: -one[1]) if cost > 0.1
        },
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
