"""How a live job stands, in its own words: a small file beside the tables, written with every commit."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from clock import from_us
from errors import FormatError
from sinks.storage import Folders, read_json

FORMAT = 1
LIVE = "journeys run"  # what the writer lock calls a live job


@dataclass(frozen=True)
class PartitionStanding:
    """One source partition in this run: records and bytes handed on, and how far it came.

    `watermark`: microseconds since 1970, None where it has said nothing yet; `idle`: the others don't wait for it;
    `lag`: records that wait at the source, None where the source does not tell.
    """

    source: str
    partition: str
    records: int = 0
    bytes: int = 0
    watermark: int | None = None
    idle: bool = False
    lag: int | None = None


@dataclass(frozen=True)
class Standing:
    """A live job at the moment `at`; times are microseconds since 1970.

    `state`: starting, running, stopping, stopped or failed, with the `problem`; `durable_at`: when an epoch was last
    durable; `committed_at`: when rows last became visible, as `version`, in `commit_s`; `longest_stall_s`: for how long
    an epoch's end held up reading at most; `waiting`: events in the reorder buffer.
    """

    state: str
    at: int
    started_at: int
    snapshot_s: float
    problem: str = ""
    version: int = 0
    commits: int = 0
    durable_at: int | None = None
    committed_at: int | None = None
    commit_s: float = 0.0
    longest_stall_s: float = 0.0
    open_sessions: int = 0
    waiting: int = 0
    partitions: tuple[PartitionStanding, ...] = ()

    @property
    def watermark(self) -> int | None:
        """Return the watermark of all partitions: that of the slowest one that is not idle, or of the furthest if all are."""
        if any(part.watermark is None and not part.idle for part in self.partitions):
            return None
        active = [part.watermark for part in self.partitions if not part.idle and part.watermark is not None]
        every = [part.watermark for part in self.partitions if part.watermark is not None]
        return min(active) if active else max(every, default=None)

    @property
    def lag(self) -> int | None:
        """Sum what waits at the sources; None where none of them tells."""
        known = [part.lag for part in self.partitions if part.lag is not None]
        return sum(known) if known else None


def find_state(standing: Standing, job: str) -> str:
    """Return the state as others see it: `lost` where a job that never said that it ended is not running any more."""
    is_running = standing.state not in ("stopped", "failed")
    return "lost" if is_running and LIVE not in job else standing.state


def describe_standing(standing: Standing, job: str, now: int) -> dict[str, Any]:
    """Return a standing as values for JSON: times as ISO 8601, ages in seconds at `now`, microseconds."""
    body = asdict(standing)
    body["state"] = find_state(standing, job)
    body["age_s"] = find_age(standing.at, now)
    body["commit_age_s"] = None if standing.committed_at is None else find_age(standing.committed_at, now)
    body["watermark"], body["lag"] = standing.watermark, standing.lag
    for key in ("at", "started_at", "durable_at", "committed_at", "watermark"):
        body[key] = show_us(body[key])
    for part in body["partitions"]:
        part["watermark"] = show_us(part["watermark"])
    return body


def find_age(at: int, now: int) -> float:
    """Return how many seconds ago something was; a clock that was set back makes nobody younger than 0."""
    return round(max(0, now - at) / 1e6, 1)


def show_us(at: int | None) -> str | None:
    """Write microseconds since 1970 as ISO 8601."""
    return None if at is None else from_us(at).isoformat().replace("+00:00", "Z")


def name_file(folders: Folders) -> Path:
    """Return where a live job writes how it stands."""
    return folders.inner / "live.json"


def save_standing(standing: Standing) -> bytes:
    """Write a standing as JSON bytes with a version."""
    return json.dumps({"format": FORMAT, **asdict(standing)}, indent=1).encode()


def read_standing(folders: Folders) -> Standing | None:
    """Read how the live job last stood; None where none ever ran, or what it wrote can't be read here."""
    if not name_file(folders).exists():
        return None
    try:
        body: dict[str, Any] = read_json(name_file(folders))
        if body.pop("format", None) != FORMAT:
            return None
        partitions = tuple(PartitionStanding(**part) for part in body.pop("partitions"))
        return replace(Standing(**body), partitions=partitions)
    except (FormatError, KeyError, TypeError):  # it is for display only: nothing may fail over it
        return None
