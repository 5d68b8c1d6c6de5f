"""Which kills there are: named points of the commit and random moments, and how one of them is carried out."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.recovery.jobs import KILLED, Job, compare_warehouses, finish_job, read_run

# In an order in which each can be met when the kill before it left what it needs: an orphan, a descriptor too many.
POINTS = (
    "before_store",
    "before_metadata",
    "before_rename",
    "after_metadata",
    "before_file:3",
    "before_remove_orphan",
    "after_file:4",
    "before_descriptor",
    "after_descriptor:2",
    "before_discard_descriptor",
    "before_manifest",
    "after_manifest:2",
    "before_forget_descriptor:2",
    "epoch_durable:2",
    "before_fence",
    "after_fence",
    "after_settle_publish",
    "before_catalog:2",
    "before_catalog_rename:2",
    "after_catalog:2",
    "before_clean_manifest",
)
AT_RANDOM, AT_START = "at a random moment", "while starting"
SNAPSHOTS_MS = (20, 50, 150, 500)


@dataclass
class Series:
    """Kills of one job in one warehouse, until it finishes; `seen` counts the kills by where they struck."""

    warehouse: Path
    patterns: list[str]
    chance: random.Random
    seen: Counter[str] = field(default_factory=Counter)
    finished: bool = False
    longest_wait_s: float = 1.5
    snapshots_ms: tuple[int, ...] = SNAPSHOTS_MS

    def told(self) -> dict[str, Any]:
        """Make up how the next run runs."""
        workers = self.chance.choice([1, 1, 1, 2, 2, 3])
        snapshot = self.chance.choice(self.snapshots_ms)
        return {
            "patterns": self.patterns,
            "warehouse": str(self.warehouse),
            "workers": workers,
            "snapshot_ms": snapshot,
        }

    def kill(self, where: str) -> bool:
        """Start the job and kill it; False if it came to its end before that."""
        told = self.told()
        named = where not in (AT_RANDOM, AT_START)
        job = Job(told, where if named else "")
        if where == AT_START:
            time.sleep(self.chance.uniform(0.2, 1.6))
        elif where == AT_RANDOM:
            job.wait_for_run(read_run(job.folders) + 1)
            time.sleep(self.chance.uniform(0, self.longest_wait_s))
        if not named:
            job.send(signal.SIGKILL)
        ending = job.wait()
        killed = ending.code == KILLED
        assert killed or ending.code == 0, f"{where}, {told}: {ending.err}"
        self.finished = not killed
        if killed:
            self.seen[where.partition(":")[0]] += 1
            self.seen[f"{told['workers']} workers"] += 1
        return killed

    def finish(self) -> None:
        """Let the job run to its end, and once more, when nothing may be left to do."""
        finish_job(self.told())
        again = finish_job(self.told())
        assert again.outcome == "nothing_to_do", again
        self.finished = True

    def kills(self) -> int:
        """Count the kills."""
        return sum(count for where, count in self.seen.items() if not where.endswith("workers"))

    def compare(self, wanted: Path) -> dict[str, int]:
        """Return the tables with rows that the uninterrupted run does not have, or lacks, and how many."""
        return {table: count for table, count in compare_warehouses(self.warehouse, wanted).items() if count}
