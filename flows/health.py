"""Whether a live job is well: the dataflow makes progress while its epochs become durable."""

from __future__ import annotations

from dataclasses import dataclass

PATIENCE = 6  # snapshot intervals that may pass without a durable epoch
LEAST_PATIENCE_S = 30.0


@dataclass(frozen=True)
class Health:
    """`healthy`: leave it alone; `ready`: an epoch of this run is durable, and it is not stopping; `reason` if not well."""

    state: str
    healthy: bool
    ready: bool
    reason: str
    silent_s: float | None


def judge_health(state: str, silent_s: float | None, snapshot_s: float, proven: bool, problem: str) -> Health:
    """Judge by how long ago an epoch was durable, or the job began to read; None: it has not begun yet.

    `proven`: an epoch of this run has become durable.
    """
    patience = max(LEAST_PATIENCE_S, PATIENCE * snapshot_s)
    reason = ""
    if state == "failed":
        reason = problem
    elif silent_s is not None and silent_s > patience and state in ("running", "stopping"):
        reason = f"no epoch was durable for {silent_s:.0f} s; one is due every {snapshot_s:g} s"
    return Health(state, not reason, not reason and proven and state == "running", reason, silent_s)
