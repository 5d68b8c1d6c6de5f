"""The long proof of exactly-once: kill -9 without end, compaction beside it, two readers all the while.

    python -m bench.kills --kills 100 --reads 1000

Every series is one warehouse: the job is killed and started again with another number of workers and another snapshot
interval each time, then left to finish; its tables are compared row for row with an uninterrupted run's. Exit code 1
if a single row differs, or a single read was not of one epoch.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clock import read_stopwatch
from tests.recovery.data import Shape, write_inputs
from tests.recovery.jobs import KILLED, finish_job, start_python
from tests.recovery.matrix import AT_RANDOM, AT_START, POINTS, Series

COMPACTION_POINTS = (
    "compact_begin",
    "before_rewritten:2",
    "after_rewritten:2",
    "compact_written",
    "before_manifest",
    "after_manifest",
    "compact_swapped",
    "before_clean_file",
    "before_clean_manifest",
)


@dataclass
class Report:
    """What happened over all series."""

    series: int = 0
    kills: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    differing: list[dict[str, int]] = field(default_factory=list)
    reads: int = 0
    versions: int = 0
    bad_reads: list[str] = field(default_factory=list)
    control_torn: int = 0
    control_reads: int = 0
    compaction_kills: int = 0
    merged: int = 0

    def is_good(self) -> bool:
        """Tell whether nothing differed, no read was torn, and the control was caught."""
        return not self.differing and not self.bad_reads and self.control_torn > 0

    def lines(self) -> list[str]:
        """Describe it."""
        return [
            f"{self.kills} kills of the job in {self.series} warehouses, {self.compaction_kills} of compaction;"
            f" tables that differ: {self.differing or 'none, 0 rows'}",
            "  " + ", ".join(f"{where} {count}" for where, count in sorted(self.seen.items())),
            f"{self.reads} reads of all tables by 2 readers, {self.versions} versions seen;"
            f" torn or failed: {self.bad_reads or 'none'}",
            f"the control, which globs files: {self.control_torn} of {self.control_reads} reads torn or failed",
            f"compaction merged {self.merged} files",
        ]


class Readers:
    """Two readers of views and the control, for one warehouse."""

    def __init__(self, warehouse: Path) -> None:
        script = "tests/recovery/reader.py"
        kinds = ("views", "views", "globs")
        self.processes = [start_python(script, str(warehouse), kind, "1000000") for kind in kinds]

    def stop(self, report: Report) -> None:
        """Stop them and take their counts."""
        views, control = [], {}
        for number, process in enumerate(self.processes):
            out, err = process.communicate("", timeout=300)
            if process.returncode:
                report.bad_reads.append(err[-500:])
                continue
            told = json.loads(out)
            if number < 2:
                views.append(told)
            else:
                control = told
        report.reads += sum(told["reads"] for told in views)
        report.versions += sum(told["versions"] for told in views)
        report.bad_reads += [text for told in views if told["torn"] + told["errors"] for text in told["examples"]]
        report.control_reads += control.get("reads", 0)
        report.control_torn += control.get("torn", 0) + control.get("errors", 0)


class Compactor:
    """Compaction beside the job, killed now and then, one at a time."""

    def __init__(self, warehouse: Path, chance: random.Random) -> None:
        self.warehouse, self.chance = warehouse, chance
        self.process: subprocess.Popen[str] | None = None

    def step(self, report: Report) -> None:
        """See whether the last one has ended, and start another if there is something to compact."""
        if self.process is not None and self.process.poll() is None:
            return
        self.end(report)
        if any((self.warehouse / "_journeys" / "manifests").glob("[0-9]*.json")):
            fail_at = self.chance.choice(["", *COMPACTION_POINTS])
            self.process = start_python("tests/recovery/compactor.py", str(self.warehouse), "2", fail_at=fail_at)

    def end(self, report: Report) -> None:
        """Wait for the last one."""
        if self.process is None:
            return
        out, err = self.process.communicate(timeout=300)
        if self.process.returncode == KILLED:
            report.compaction_kills += 1
        elif self.process.returncode:
            report.bad_reads.append(f"compaction: {err[-500:]}")
        else:
            report.merged += json.loads(out)["merged"]
        self.process = None


def run_series(series: Series, wanted: Path, most: int, report: Report) -> None:
    """Kill one job up to `most` times, let it finish, and compare."""
    readers, compactor = Readers(series.warehouse), Compactor(series.warehouse, series.chance)
    while series.kills() < most and not series.finished:
        where = series.chance.choice([*[AT_RANDOM] * 12, *[AT_START] * 4, *POINTS])
        series.kill(where)
        compactor.step(report)
    series.finish()
    compactor.end(report)
    readers.stop(report)
    report.series += 1
    report.kills += series.kills()
    report.seen += series.seen
    differing = series.compare(wanted)
    if differing:
        report.differing.append(differing)
    else:
        shutil.rmtree(series.warehouse)


def prove(kills: int, reads: int, seed: int, folder: Path) -> Report:
    """Run series until there were so many kills and reads."""
    chance, report, began = random.Random(seed), Report(), read_stopwatch()
    inputs, wanted = folder / "inputs", folder / "uninterrupted"
    write_inputs(inputs, Shape())
    told: dict[str, Any] = {"patterns": [str(inputs)], "warehouse": str(wanted), "snapshot_ms": 1_000}
    finish_job({**told, "release_rows": 2_000})
    while report.kills < kills or report.reads < reads:
        series = Series(folder / f"killed-{report.series}", [str(inputs)], random.Random(chance.random()))
        run_series(series, wanted, 25, report)
        minutes = (read_stopwatch() - began) / 60
        print(f"{minutes:5.1f} min: {report.kills} kills, {report.reads} reads", flush=True)
    return report


def main() -> int:
    """Run the proof and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--reads", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where to work; what differs stays there")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="journeys-kills-"))
    report = prove(given.kills, given.reads, given.seed, folder)
    print("\n".join(report.lines()))
    if report.is_good() and given.folder is None:
        shutil.rmtree(folder)
    return 0 if report.is_good() else 1


if __name__ == "__main__":
    sys.exit(main())
