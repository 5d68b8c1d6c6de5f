"""`make bench`: the whole job against DuckDB SQL, Bytewax's windows and Spark, on the same generated events.

    python bench/run.py [--events N] [--runs N] [--skip spark,bytewax] [--json FILE]
    python bench/run.py --scale

Exit code 1 when results differ or a run failed. A ratio that falls short is printed, not an error.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any

from contenders import (
    BENCH,
    BYTEWAX,
    DUCKDB,
    NAMES,
    OURS,
    ROOT,
    FailedRunError,
    Inputs,
    Run,
    list_missing,
    run_contender,
    run_peer,
)
from report import describe_runs, find_differences, print_report
from rich.console import Console

TIMES_AT_SCALE = 10
SLOWDOWN_AT_MOST = 10.5
PEAK_AT_MOST_MB = 1_500
PIECE = 16 << 20
PACKAGES = ("bytewax", "duckdb", "polars", "pyspark")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options; a name to skip that is none of the contenders' is an error."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--runs", type=int, default=3, help="times each, alternating")
    parser.add_argument("--part", type=int, default=200_000, help="records for Bytewax's windows")
    parser.add_argument("--skip", default="", help=f"comma-separated, of: {', '.join(NAMES)}")
    parser.add_argument("--scale", action="store_true", help="ours only: the events against ten times as many")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "bench")
    parser.add_argument("--journeys", type=Path, default=ROOT / ".venv" / "bin" / "journeys")
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    given = parser.parse_args(arguments)
    given.skip = [name.strip() for name in given.skip.split(",") if name.strip()]
    if unknown := sorted(set(given.skip) - set(NAMES)):
        parser.error(f"--skip {unknown[0]}: not one of {', '.join(NAMES)}")
    if min(given.events, given.runs, given.part) < 1:
        parser.error("--events, --runs and --part must be at least 1")
    return given


def make_inputs(given: argparse.Namespace, events: int) -> Inputs:
    """Generate the file, and the part of it for the contender that would take too long on the whole."""
    # In a process of its own: a child's peak memory is never less than its parent's was at the fork.
    command = [sys.executable, str(BENCH / "make_data.py"), "--events", str(events), "--seed", str(given.seed)]
    done = subprocess.run([*command, "--folder", str(given.folder)], check=True, capture_output=True, text=True)
    made = json.loads(done.stdout)
    file = given.folder / made["file"]
    part = file.with_suffix(f".first-{given.part}.ndjson")
    with file.open("rb") as lines, part.open("wb") as out:
        out.writelines(islice(lines, given.part))
        while lines.read(PIECE):  # the first contender finds the file in memory, as the others do
            pass
    return Inputs(
        file=file,
        records=made["lines"],
        part=part,
        part_records=min(given.part, made["lines"]),
        out=given.folder / "out",
        journeys=given.journeys,
    )


def compare(console: Console, given: argparse.Namespace, names: list[str]) -> int:
    """Run the contenders in turn, print the report and return the exit code."""
    inputs = make_inputs(given, given.events)
    console.print(f"{inputs.file}: {inputs.records:,} records, {inputs.file.stat().st_size / 1e6:,.0f} MB")
    runs = []
    for turn in range(given.runs):
        for name in names:
            runs.append(run_contender(name, inputs))
            _print_run(console, runs[-1], f"{turn + 1}/{given.runs}")
    part_sessions = count_part_sessions(inputs) if BYTEWAX in names else None
    differences = find_differences(runs, part_sessions)
    print_report(console, runs, differences)
    _write_json(given.json, describe_runs(runs, differences, describe_machine(inputs)))
    return 1 if differences else 0


def count_part_sessions(inputs: Inputs) -> int:
    """Return how many sessions DuckDB finds in Bytewax's part of the file."""
    found = run_peer(DUCKDB, inputs.part_records, [str(inputs.part), str(inputs.out / "part")], inputs.out).found
    return int(found["sessions"])


def measure_scale(console: Console, given: argparse.Namespace) -> int:
    """Run ours on the events and on ten times as many; print the ratio of times and the peaks."""
    runs = []
    for events in (given.events, given.events * TIMES_AT_SCALE):
        runs.append(run_contender(OURS, make_inputs(given, events)))
        _print_run(console, runs[-1], f"{events:,} events")
    slowdown = runs[1].cost.seconds / runs[0].cost.seconds
    peak = max(run.cost.peak_mb for run in runs)
    console.print(f"{TIMES_AT_SCALE} times the events: {slowdown:.2f} times the time (wanted <= {SLOWDOWN_AT_MOST})")
    console.print(f"peak memory: {peak:,.0f} MB (wanted <= {PEAK_AT_MOST_MB:,})")
    _write_json(given.json, describe_runs(runs, [], {"slowdown": slowdown, "peak_mb": peak}))
    return 0


def describe_machine(inputs: Inputs) -> dict[str, Any]:
    """Return what the figures depend on."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "records": inputs.records,
        "bytes": inputs.file.stat().st_size,
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        **versions,
    }


def _print_run(console: Console, run: Run, label: str) -> None:
    cost = run.cost
    console.print(
        f"{label}  {run.name:14} {cost.seconds:8.2f} s  {cost.cpu_seconds:8.2f} CPU s  {cost.peak_mb:7,.0f} MB",
        highlight=False,
    )


def _write_json(file: Path | None, value: dict[str, Any]) -> None:
    if file is not None:
        file.write_text(json.dumps(value, indent=1) + "\n")


def main() -> int:
    """Compare or measure scale, as asked."""
    given = parse_arguments()
    console = Console(soft_wrap=True)
    # A log has no width of its own; the table needs this much.
    console.width = max(console.width, 110)
    names = [OURS] if given.scale else [name for name in NAMES if name not in given.skip]
    for name, package in list_missing(names).items():
        console.print(f"{name} is left out: {package} is not installed (pip install -r bench/requirements.txt)")
        names.remove(name)
    try:
        return measure_scale(console, given) if given.scale else compare(console, given, names)
    except FailedRunError as error:
        console.print(str(error), markup=False)
        return 1


if __name__ == "__main__":
    sys.exit(main())
