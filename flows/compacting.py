"""Compaction on a schedule, beside a live job: a process of its own, one at a time, whose failure is told and no more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from clock import read_stopwatch
from flows.cluster import LAUNCH
from flows.monitor import Monitor
from sinks.storage import Folders

NICENESS = 10
LAST_WORDS = 500  # characters
KILL_AFTER_S = 2.0


class Compactor:
    """Runs `journeys compact` every so often until it is told to stop."""

    def __init__(self, folders: Folders, every_s: float, monitor: Monitor) -> None:
        self.folders, self.every_s, self.monitor = folders, every_s, monitor
        self.stopping = threading.Event()
        self.process: subprocess.Popen[str] | None = None
        self.thread = threading.Thread(target=self._loop, name="compact", daemon=True)

    def start(self) -> None:
        """Begin to wait for the first time."""
        self.thread.start()

    def stop(self) -> None:
        """Break off; what a compaction had written and not yet swapped is removed by the next one."""
        self.stopping.set()
        for end in (subprocess.Popen.terminate, subprocess.Popen.kill):
            if self.process is not None:
                end(self.process)
            self.thread.join(KILL_AFTER_S)

    def _loop(self) -> None:
        while not self.stopping.wait(self.every_s):
            began = read_stopwatch()
            try:
                report = self._compact()
            except (OSError, ValueError, RuntimeError) as problem:
                if not self.stopping.is_set():
                    self.monitor.note_compaction("failed")
                    self.monitor.journal.say("compaction_failed", "warning", problem=str(problem))
                continue
            tables = report["tables"]
            self.monitor.note_compaction("done")
            if not tables and not report["removed"]:
                continue
            self.monitor.journal.say(
                "compaction",
                seconds=round(read_stopwatch() - began, 1),
                version=report["version"],
                files_before=sum(table["files_before"] for table in tables),
                files_after=sum(table["files_after"] for table in tables),
                removed=report["removed"],
            )

    def _compact(self) -> dict[str, Any]:
        """Run it once, below the job in priority; raises RuntimeError with its last words if it fails."""
        command = [sys.executable, "-c", LAUNCH, "compact", "--warehouse", str(self.folders.root), "--json"]
        process = subprocess.Popen(  # noqa: S603 - this program again
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.process = process
        if self.stopping.is_set():
            process.terminate()
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, process.pid, NICENESS)
        out, err = process.communicate()
        if process.returncode:
            words = err.strip()[-LAST_WORDS:] or f"ended with {process.returncode}"
            raise RuntimeError(words)
        report: dict[str, Any] = json.loads(out)
        return report


@contextmanager
def compacting(folders: Folders, every_us: int, monitor: Monitor) -> Iterator[None]:
    """Compact on schedule while the job runs; 0: never."""
    if not every_us:
        yield
        return
    compactor = Compactor(folders, every_us / 1e6, monitor)
    compactor.start()
    try:
        yield
    finally:
        compactor.stop()
