"""A replay as a process of its own, told everything in one JSON argument; prints how it ended as JSON.

    python tests/recovery/driver.py '{"patterns": ["folder"], "warehouse": "wh", "workers": 2, "snapshot_ms": 50}'

`rlimit`: largest file it may write, bytes.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from config import SECOND, Config, FunnelRules, JobRules, SessionRules, StepRule
from errors import JourneyError
from flows.replay import ReplayOptions, ReplayResult, run_replay
from tests.recovery.data import FUNNEL

MILLISECOND = SECOND // 1_000


def make_config(told: dict[str, Any]) -> Config:
    """Build the config that a JSON argument describes; small blocks and releases, so that there are many epochs."""
    job = JobRules(
        key_groups=told.get("key_groups", 3),
        writers=told.get("writers", 2),
        snapshot=int(told.get("snapshot_ms", 50) * MILLISECOND),
        block_bytes=told.get("block_bytes", 256 << 10),
        release_rows=told.get("release_rows", 150),
    )
    funnels = (
        FunnelRules("buy", FUNNEL),
        FunnelRules("visit", FUNNEL[:2], scope="session"),
    )
    config = Config(sessions=SessionRules(), funnels=funnels, job=job, stages={"Buying": FUNNEL})
    if told.get("gap_s"):
        config = replace(config, sessions=SessionRules(gap=told["gap_s"] * SECOND))
    if told.get("within_s"):
        config = replace(config, funnels=(FunnelRules("buy", FUNNEL, within=told["within_s"] * SECOND),))
    if told.get("step"):
        config = replace(config, steps=(StepRule(told["step"], "event_name = 'help'"),))
    if told.get("time_unit"):
        config = replace(config, input=replace(config.input, time_unit=told["time_unit"]))
    return config


def make_options(told: dict[str, Any]) -> ReplayOptions:
    """Build the options that a JSON argument describes."""
    return ReplayOptions(
        tuple(told["patterns"]),
        Path(told["warehouse"]),
        workers=told.get("workers", 1),
        recovery=Path(told["recovery"]) if told.get("recovery") else None,
        use_recovery=told.get("use_recovery", True),
    )


def run(told: dict[str, Any]) -> ReplayResult:
    """Run the replay, with or without the fence."""
    return run_replay(make_options(told), make_config(told), lambda progress, manifest: None)


def main() -> int:
    """Run what the first argument says; exit code 0, or 1 and the error on stderr."""
    told = json.loads(sys.argv[1])
    if told.get("rlimit"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (told["rlimit"], told["rlimit"]))
    print(f"pid {os.getpid()}", flush=True)
    try:
        result = run(told)
    except JourneyError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    body = {"outcome": result.outcome, "version": result.manifest.version, "notes": result.notes}
    print(json.dumps({**body, "lanes": [lane.name for lane in result.lanes]}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
