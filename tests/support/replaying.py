"""Whole replays in a test: records to NDJSON files, runs that are stopped and go on, tables read back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import polars as pl

from config import Config
from flows.replay import ReplayOptions, ReplayResult, run_replay
from tests.oracle.strategies import to_segment_lines

MOST_RUNS = 40


def write_lane(path: Path, records: pl.DataFrame, padding: int = 0) -> None:
    """Write one partition's records as an NDJSON file; lines are padded with blanks to about `padding` bytes."""
    lines = [line for lane in to_segment_lines(records).values() for line in lane]
    path.write_bytes(b"".join(line.ljust(padding) + b"\n" for line in lines))


def replay(folder: Path, warehouse: Path, config: Config, workers: int = 1, stop_at: int = 0) -> ReplayResult:
    """Run a replay; `stop_at`: stop it when that many epochs were seen to be durable, 0 for never."""
    stop = threading.Event()
    seen = 0

    def watch(*_: object) -> None:
        nonlocal seen
        seen += 1
        if seen == stop_at:
            stop.set()

    options = ReplayOptions((str(folder),), warehouse, workers=workers, stop=stop)
    return run_replay(options, config, watch)


def replay_to_end(run: Callable[[int], ReplayResult]) -> int:
    """Call `run` with the number of the run until one is finished; return how many were stopped before."""
    for number in range(MOST_RUNS):
        outcome = run(number).outcome
        if outcome == "finished":
            return number
        assert outcome == "stopped", outcome
    raise AssertionError(f"not finished after {MOST_RUNS} runs")
