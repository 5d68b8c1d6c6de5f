"""Gauges of a running job: what each partition handed on and how far it came, and what the key groups hold."""

from __future__ import annotations

import json
from pathlib import Path

from config import Config, InputRules, JobRules
from flows.replay import ReplayOptions, run_replay
from sources.pacing import NEVER, PartitionGauge, Progress

START_US = 1_767_600_000_000_000  # 2026-01-05 08:00 UTC
ROWS = 400


def write_lane(path: Path, persons: str) -> None:
    """Write a record every 10 seconds, each of another person, and one that can't be read."""
    times = [f"2026-01-05T{8 + number * 10 // 3600:02}:{number // 6 % 60:02}:{number % 6}0Z" for number in range(ROWS)]
    lines = [
        json.dumps({"type": "track", "event": "view", "userId": f"{persons}{number}", "timestamp": time})
        for number, time in enumerate(times)
    ]
    path.write_text("\n".join([*lines, "{"]) + "\n")


def test_gauges_are_those_of_the_tables_and_of_the_state(tmp_path: Path) -> None:
    """Each person has one event and one session; what the end of the replay adds is no part of the state."""
    for name in ("a", "b"):
        write_lane(tmp_path / f"{name}.ndjson", name)
    config = Config(input=InputRules(lanes="each"), job=JobRules(key_groups=3))
    seen = [Progress()]
    options = ReplayOptions((str(tmp_path / "*.ndjson"),), tmp_path / "w")
    files = run_replay(options, config, lambda progress, _: seen.append(progress)).manifest.files
    progress = seen[-1]
    sessions, events = (sum(file.rows for file in files.get(table, ())) for table in ("sessions", "events"))
    assert 0 < sessions < events < 2 * ROWS
    assert len(progress.groups) == 3
    assert sum(group.waiting for group in progress.groups) == 2 * ROWS - events
    assert sum(group.open_sessions for group in progress.groups) == events - sessions
    gauges = sorted(progress.partitions.values(), key=lambda gauge: gauge.source)
    end = START_US + (ROWS - 1) * 10_000_000
    sizes = [(tmp_path / f"{name}.ndjson").stat().st_size for name in ("a", "b")]
    assert gauges == [
        PartitionGauge(f"{name}.ndjson", ROWS + 1, size, end, idle=True)
        for name, size in zip(("a", "b"), sizes, strict=True)
    ]


def test_partition_that_said_nothing_yet_has_reached_nothing() -> None:
    progress = Progress()
    progress.note_reached("p", NEVER, True)
    assert progress.of("p") == PartitionGauge()
    progress.note_reached("p", 5, False)
    assert (progress.of("p").reached, progress.of("p").idle) == (5, True)
    progress.note_reached("p", 6, True)
    assert (progress.of("p").reached, progress.of("p").idle) == (6, False)
