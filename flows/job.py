"""A job's memory in its warehouse: settings that must not change, and the lanes of its files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from config import Config
from errors import ConfigChangedError
from sinks.storage import Folders, read_json, write_atomically
from sources.discover import FoundFile
from sources.lanes import Lane, LaneFile

FORMAT = 1
PARTS_OF_CONFIG = {
    "sessions": "[sessions]",
    "input": "[input]",
    "steps": "[[steps]]",
    "funnels": "[funnels]",
}


def read_metadata(folders: Folders) -> dict[str, Any]:
    """Read the warehouse's metadata; empty if it was never used."""
    path = folders.inner / "warehouse.json"
    return read_json(path) if path.exists() else {}


def write_metadata(folders: Folders, config: Config, lanes: Sequence[Lane], run: int, store: int | None = None) -> None:
    """Write settings, stages, lanes, the number of the run and the recovery store's identity (None: as it was)."""
    body = {
        "format": FORMAT,
        "run": run,
        "store": read_metadata(folders).get("store", 0) if store is None else store,
        "key_groups": config.job.key_groups,
        "writers": config.job.writers,
        "fingerprint": config.fingerprint(),
        "stages": {name: list(steps) for name, steps in config.stages.items()},
        "funnels": {rules.name: list(rules.steps) for rules in config.funnels},
        "sessions": asdict(config.sessions),
        "funnel_rules": [asdict(rules) for rules in config.funnels],
        "lanes": [_save_lane(lane) for lane in lanes],
    }
    write_atomically(folders.inner / "warehouse.json", json.dumps(body, indent=1).encode())


def check_settings(folders: Folders, config: Config, metadata: Mapping[str, Any]) -> None:
    """Raise ConfigChangedError if the settings would give other results than the warehouse holds."""
    if not metadata:
        return
    for key in ("key_groups", "writers"):
        if metadata[key] != getattr(config.job, key):
            raise ConfigChangedError(
                f"{folders.root} was made with [job] {key} = {metadata[key]}, now it is {getattr(config.job, key)}",
                remedy=f"set {key} = {metadata[key]}, or replay into a new --warehouse",
            )
    # A source that the warehouse does not know yet is new, and changes nothing that is there.
    known = metadata["fingerprint"]
    changed = [name for name, digest in config.fingerprint().items() if known.get(name, digest) != digest]
    if not changed:
        return
    where = ", ".join(PARTS_OF_CONFIG.get(name, name) for name in changed)
    only_funnels = changed == ["funnels"]
    raise ConfigChangedError(
        f"{folders.root} was made with other settings in {where}; going on would mix two answers",
        remedy=(
            "run `journeys backfill` to recompute the funnels, or "
            if only_funnels
            else "take the old settings back, or "
        )
        + "replay into a new --warehouse",
    )


def load_lanes(metadata: Mapping[str, Any]) -> tuple[Lane, ...]:
    """Read the lanes of earlier runs."""
    return tuple(
        Lane(
            lane["name"],
            tuple(
                LaneFile(FoundFile(**entry["file"]), entry["digest"], entry["first"], entry["last"])
                for entry in lane["files"]
            ),
        )
        for lane in metadata.get("lanes", [])
    )


def _save_lane(lane: Lane) -> dict[str, Any]:
    return {"name": lane.name, "files": [asdict(entry) for entry in lane.files]}
