"""What a replay shows while it works: a live line on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

from collections import deque
from datetime import datetime, timezone
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn
from rich.progress import Progress as Bar

from clock import read_stopwatch
from flows.replay import Start
from sinks.manifest import Manifest
from sources.discover import STDIN
from sources.files import Position
from sources.lanes import Lane, describe_lanes
from sources.pacing import Progress

RATE_OVER_S = 5.0
LINE_EVERY_S = 10.0
UNITS = ("B", "kB", "MB", "GB", "TB")


class ReplayProgress:
    """Takes what a running replay has read and shows it on standard error; a context."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.total = 0
        self.seen: deque[tuple[float, int]] = deque()
        self.said = read_stopwatch()
        self.bar: Bar | None = None
        if console.is_terminal:
            columns = (SpinnerColumn(), BarColumn(20), TextColumn("{task.description}"))
            self.bar = Bar(*columns, console=console, transient=True)
            self.task = self.bar.add_task("reading …", total=None)

    def start(self, start: Start) -> None:
        """Say how the files are read, and note how many bytes there are."""
        self.total = count_bytes(start.lanes, start.positions)
        for line in describe_lanes(start.lanes):
            self.console.print(line, style="dim", highlight=False, markup=False, soft_wrap=True)

    def watch(self, progress: Progress, manifest: Manifest) -> None:
        """Show the newest figures."""
        now = read_stopwatch()
        self.seen.append((now, progress.records))
        while len(self.seen) > 2 and now - self.seen[0][0] > RATE_OVER_S:
            self.seen.popleft()
        if self.bar is not None:
            self.bar.update(
                self.task,
                total=self.total or None,
                completed=progress.bytes,
                description=describe_progress(progress, manifest, self.total, self._rate()),
            )
        elif now - self.said >= LINE_EVERY_S:
            self.said = now
            self.console.print(describe_progress(progress, manifest, self.total, self._rate()), soft_wrap=True)

    def _rate(self) -> float:
        (began, before), (now, records) = self.seen[0], self.seen[-1]
        return (records - before) / (now - began) if now > began else 0.0

    def __enter__(self) -> ReplayProgress:
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: object, trace: TracebackType | None) -> None:
        if self.bar is not None:
            self.bar.stop()


def describe_progress(progress: Progress, manifest: Manifest, total: int, rate: float) -> str:
    """Put the figures of a running replay on one line."""
    read = format_bytes(progress.bytes)
    return " · ".join(
        [
            f"{read} of {format_bytes(total)}" if total else read,
            f"{progress.records:,} events",
            f"{rate:,.0f}/s",
            f"at {format_time(progress.latest)}" if progress.latest else "at the beginning",
            f"{progress.dead:,} dead",
            f"{sum(file.rows for file in manifest.visible('late_events')):,} late",
            f"{sum(file.rows for file in manifest.visible('sessions')):,} sessions",
            f"commit {manifest.version}",
        ]
    )


def count_bytes(lanes: tuple[Lane, ...], positions: dict[str, Position]) -> int:
    """Sum the bytes still to be read; 0 where that can't be known: packed files, Parquet, standard input."""
    total = 0
    for lane in lanes:
        at = positions.get(lane.name, Position())
        for number, entry in enumerate(lane.files[at.file :], start=at.file):
            if entry.file.packing or entry.file.kind == "parquet" or entry.file.path == STDIN:
                return 0
            total += entry.file.size - (at.offset if number == at.file else 0)
    return total


def format_bytes(count: float) -> str:
    """Write a number of bytes for people, in powers of 1000."""
    for unit in UNITS:
        if count < 1000 or unit == UNITS[-1]:
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def format_time(us: int) -> str:
    """Write microseconds since 1970 as a UTC minute."""
    return datetime.fromtimestamp(us / 1e6, tz=timezone.utc).strftime("%Y-%m-%d %H:%M")
