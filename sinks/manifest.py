"""The manifest: which data files make up the tables. Publishing one is the only way anything becomes visible."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from errors import FormatError
from events.schema import TABLES
from sinks.storage import Folders, hold_publish_lock, hold_rewrite_lock, pass_point, read_json, write_atomically

FORMAT = 1
MERGED = "merged-"  # how the names of compacted files begin
KEPT = 20  # older manifests, and files only they name, are let go of


@dataclass(frozen=True)
class DataFile:
    """One Parquet file; `path` relative to the warehouse, `dt` as YYYY-MM-DD."""

    path: str
    rows: int
    bytes: int
    dt: str


Files = dict[str, tuple[DataFile, ...]]


@dataclass(frozen=True)
class Manifest:
    """Everything readers may see.

    `epoch`: all epochs before it are in; `parts`: writer -> number of its commits that are in; `files`: tables;
    `tail`: what the end of a finished replay added, taken back when the replay goes on; `complete`: the
    inputs' digest if everything was read to the end; `forgotten`: how many rows forgetting took away, which
    `journeys check` has to know (see `sinks.forgetting`).
    """

    version: int = 0
    epoch: int = 0
    run: int = 0
    parts: dict[str, int] = field(default_factory=dict)
    files: Files = field(default_factory=dict)
    tail: Files = field(default_factory=dict)
    complete: str = ""
    forgotten: tuple[dict[str, Any], ...] = ()

    def visible(self, table: str) -> tuple[DataFile, ...]:
        """Return the files of a table, tail included."""
        return (*self.files.get(table, ()), *self.tail.get(table, ()))


def read_manifest(folders: Folders) -> Manifest:
    """Read the newest manifest; an empty one where nothing was ever published; raises FormatError."""
    names = list_manifests(folders)
    return load_manifest(names[-1]) if names else Manifest()


def list_manifests(folders: Folders) -> list[Path]:
    """List the manifests, oldest first."""
    return sorted(folders.manifests.glob("[0-9]*.json"))


def load_manifest(path: Path) -> Manifest:
    """Read one manifest file."""
    value = read_json(path)
    if value.get("format") != FORMAT:
        raise FormatError(
            f"{path}: format {value.get('format')!r}, this version reads {FORMAT}",
            remedy="use the version that wrote it",
        )
    return Manifest(
        version=int(str(value["version"])),
        epoch=int(str(value["epoch"])),
        run=int(str(value["run"])),
        parts=dict(value["parts"]),  # type: ignore[call-overload]
        files=load_files(value["files"]),
        tail=load_files(value["tail"]),
        complete=str(value["complete"]),
        forgotten=tuple(value.get("forgotten", ())),  # type: ignore[arg-type]
    )


def load_files(value: object) -> Files:
    """Read the file lists of a manifest or descriptor."""
    if not isinstance(value, dict):
        raise FormatError("a list of data files is damaged", remedy="replay into a new warehouse")
    return {table: tuple(DataFile(*row) for row in rows) for table, rows in value.items()}


def save_files(files: Files) -> dict[str, list[list[object]]]:
    """Write file lists as JSON values."""
    return {table: [list(asdict(file).values()) for file in rows] for table, rows in files.items()}


def publish(folders: Folders, manifest: Manifest) -> Manifest:
    """Make a manifest the newest one; the caller holds the publish lock."""
    manifest = replace(manifest, version=manifest.version + 1)
    body = {
        "format": FORMAT,
        **{key: getattr(manifest, key) for key in ("version", "epoch", "run", "parts", "complete", "forgotten")},
        "files": save_files(manifest.files),
        "tail": save_files(manifest.tail),
    }
    pass_point("before_manifest")
    write_atomically(folders.manifests / f"{manifest.version:010d}.json", json.dumps(body).encode())
    pass_point("after_manifest")
    return manifest


def add_files(one: Files, other: Files) -> Files:
    """Append the files of `other`."""
    return {table: (*one.get(table, ()), *other.get(table, ())) for table in TABLES if table in one or table in other}


def clean_up(folders: Folders, *, keep: int = KEPT) -> int:
    """Remove old manifests and the data files that only they name; returns the number of files removed."""
    with hold_publish_lock(folders):
        paths = list_manifests(folders)
        old, kept = paths[:-keep], paths[-keep:]
        if not old:
            return 0
        needed = {file.path for path in kept for file in _all_files(load_manifest(path))}
        gone = {file.path for path in old for file in _all_files(load_manifest(path))} - needed
        for name in gone:
            pass_point("before_clean_file")
            (folders.root / name).unlink(missing_ok=True)
        for path in old:
            pass_point("before_clean_manifest")
            path.unlink(missing_ok=True)
        return len(gone)


def remove_orphans(folders: Folders, keep: Iterable[str]) -> int:
    """Remove data files that no manifest and nothing in `keep` names: leftovers of a killed run.

    Only the holder of the writer lock may call this. What a running compaction wrote stays.
    """
    with hold_rewrite_lock(folders, wait=False) as alone, hold_publish_lock(folders):
        named = name_files(folders) | set(keep)
        removed = 0
        for path in list_data(folders):
            merging = not alone and path.name.startswith(MERGED)
            if not merging and path.relative_to(folders.root).as_posix() not in named:
                pass_point("before_remove_orphan")
                path.unlink(missing_ok=True)
                removed += 1
        for pattern in (".*.tmp", "catalog-*.duckdb*"):
            for path in folders.inner.rglob(pattern):
                path.unlink(missing_ok=True)
    return removed


def list_data(folders: Folders) -> list[Path]:
    """List every data file that stands in the folder, named by a manifest or not."""
    return [path for table in TABLES for path in (folders.root / table).rglob("*.parquet")]


def name_files(folders: Folders) -> set[str]:
    """Return the paths of the data files that any manifest names."""
    return {file.path for path in list_manifests(folders) for file in _all_files(load_manifest(path))}


def _all_files(manifest: Manifest) -> list[DataFile]:
    return [file for table in TABLES for file in manifest.visible(table)]


def file_size(path: Path) -> int:
    """Return a file's size in bytes."""
    return os.path.getsize(path)
