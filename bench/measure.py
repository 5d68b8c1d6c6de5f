"""What a run cost: wall time, CPU time and peak memory of this process or of a child."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clock import read_stopwatch

# Linux reports kilobytes, macOS bytes.
RSS_UNIT = 1 if sys.platform == "darwin" else 1024
MB = 1_000_000


@dataclass(frozen=True)
class Cost:
    """Seconds on the wall, seconds of CPU and the most memory held."""

    seconds: float
    cpu_seconds: float
    peak_mb: float

    def to_dict(self) -> dict[str, float]:
        """Return the cost rounded as it is printed."""
        return {
            "seconds": round(self.seconds, 3),
            "cpu_seconds": round(self.cpu_seconds, 3),
            "peak_mb": round(self.peak_mb, 1),
        }


class Meter:
    """Measures this process, and the children it has waited for, from its making on."""

    def __init__(self) -> None:
        self._began = read_stopwatch()
        self._cpu = _sum_cpu()

    def read(self) -> Cost:
        """Return what has been spent so far."""
        kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        peak = max(resource.getrusage(kind).ru_maxrss for kind in kinds) * RSS_UNIT / MB
        return Cost(read_stopwatch() - self._began, _sum_cpu() - self._cpu, peak)


def run_measured(command: Sequence[str], cwd: Path, log: Path) -> tuple[int, Cost]:
    """Run a command to its end, its output in `log`, and return its exit code and cost.

    The cost is the kernel's own account of the child (wait4), not a sample. The caller should be
    small itself: a child's peak can't be told apart from its parent's size at the fork.
    """
    began = read_stopwatch()
    with log.open("wb") as out:
        child = subprocess.Popen(list(command), cwd=cwd, stdout=out, stderr=subprocess.STDOUT)
        try:
            _, status, used = os.wait4(child.pid, 0)
        except BaseException:
            child.kill()
            child.wait()
            raise
    child.returncode = os.waitstatus_to_exitcode(status)
    cost = Cost(read_stopwatch() - began, used.ru_utime + used.ru_stime, used.ru_maxrss * RSS_UNIT / MB)
    return child.returncode, cost


def _sum_cpu() -> float:
    total = 0.0
    for kind in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        used = resource.getrusage(kind)
        total += used.ru_utime + used.ru_stime
    return total
