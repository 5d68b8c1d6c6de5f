"""What is compared: how each contender is started, and what is read of a run that ended."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from figures import read_warehouse
from measure import Cost, run_measured

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
CONFIG = BENCH / "journey.toml"
OURS, BARE, DUCKDB, BYTEWAX, SPARK = "journeystream", "no-recovery", "duckdb", "bytewax", "spark"
NAMES = (OURS, DUCKDB, BARE, BYTEWAX, SPARK)
NEEDS = {BYTEWAX: "orjson", SPARK: "pyspark"}


@dataclass(frozen=True)
class Run:
    """One run: its cost, how many records it read and what it found."""

    name: str
    cost: Cost
    records: int
    found: dict[str, Any] = field(default_factory=dict)
    stages: dict[str, float] = field(default_factory=dict)

    @property
    def us_per_record(self) -> float:
        """Microseconds of wall time per record, which contenders on different parts are compared by."""
        return self.cost.seconds / self.records * 1e6


@dataclass(frozen=True)
class Inputs:
    """The files to run on, their records, and where outputs go."""

    file: Path
    records: int
    part: Path
    part_records: int
    out: Path
    journeys: Path


class FailedRunError(Exception):
    """A contender ended with an error."""


def list_missing(names: list[str]) -> dict[str, str]:
    """Return the contenders that can't run here, with what they lack."""
    return {name: NEEDS[name] for name in names if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None}


def run_contender(name: str, inputs: Inputs) -> Run:
    """Run one contender from an empty output folder."""
    folder = inputs.out / name
    shutil.rmtree(folder, ignore_errors=True)
    inputs.out.mkdir(parents=True, exist_ok=True)
    # What the last run left to write is not this one's to wait for.
    os.sync()
    return RUNNERS[name](name, inputs, folder)


def run_peer(name: str, records: int, arguments: list[str], out: Path) -> Run:
    """Run a peer's script: DuckDB's is timed as a whole process, as ours is; the others leave out their start."""
    log = out / f"{name}.log"
    command = [sys.executable, str(BENCH / f"peer_{name}.py"), *arguments]
    whole = _finish(name, *run_measured(command, ROOT, log), log)
    found = _read_last_line(log)
    own = Cost(found.pop("seconds"), found.pop("cpu_seconds"), found.pop("peak_mb"))
    cost = whole if name == DUCKDB else own
    return Run(name, cost, records, found, found.pop("stages", {}))


def _run_ours(name: str, inputs: Inputs, folder: Path) -> Run:
    if not inputs.journeys.exists():
        raise FailedRunError(f"{inputs.journeys} does not exist: run `make setup`, or name the command with --journeys")
    log = inputs.out / f"{name}.log"
    command = [str(inputs.journeys), "replay", str(inputs.file), "--config", str(CONFIG), "--warehouse", str(folder)]
    if name == BARE:
        command.append("--no-recovery")
    cost = _finish(name, *run_measured(command, ROOT, log), log)
    return Run(name, cost, inputs.records, read_warehouse(folder), _read_last_line(log).get("stages", {}))


def _run_duckdb(name: str, inputs: Inputs, folder: Path) -> Run:
    return run_peer(name, inputs.records, [str(inputs.file), str(folder), "--stages"], inputs.out)


def _run_bytewax(name: str, inputs: Inputs, _: Path) -> Run:
    return run_peer(name, inputs.part_records, [str(inputs.part), "--events", str(inputs.part_records)], inputs.out)


def _run_spark(name: str, inputs: Inputs, folder: Path) -> Run:
    return run_peer(name, inputs.records, [str(inputs.file), str(folder)], inputs.out)


RUNNERS: dict[str, Callable[[str, Inputs, Path], Run]] = {
    OURS: _run_ours,
    BARE: _run_ours,
    DUCKDB: _run_duckdb,
    BYTEWAX: _run_bytewax,
    SPARK: _run_spark,
}


def _finish(name: str, code: int, cost: Cost, log: Path) -> Cost:
    if code != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise FailedRunError(f"{name} ended with exit code {code}; the end of {log}:\n{tail}")
    return cost


def _read_last_line(log: Path) -> dict[str, Any]:
    """Return the JSON object that the last line of a log is, or nothing."""
    lines = log.read_text(errors="replace").strip().splitlines()
    if not lines or not lines[-1].startswith("{"):
        return {}
    try:
        found: dict[str, Any] = json.loads(lines[-1])
    except json.JSONDecodeError:
        return {}
    return found
