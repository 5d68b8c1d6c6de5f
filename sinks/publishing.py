"""From descriptors to the manifest: publish what the recovery store says is durable, and nothing else.

Bytewax asks a sink for its state before it records the epoch as done, so a commit that was written may come back
after a crash. The recovery store's resume epoch is therefore the commit point: this module is given, for each
writer, how many of its commits lie before it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from sinks.catalog import write_catalog
from sinks.manifest import (
    Files,
    Manifest,
    add_files,
    load_files,
    publish,
    read_manifest,
)
from sinks.storage import Folders, hold_publish_lock, pass_point, read_json


@dataclass(frozen=True)
class Descriptor:
    """What one writer wrote in one epoch."""

    path: Path
    part: str
    commit: int
    run: int
    files: Files
    tail: Files

    def names(self) -> list[str]:
        """List the data files."""
        return [file.path for files in (self.files, self.tail) for rows in files.values() for file in rows]


def list_descriptors(folders: Folders) -> list[Descriptor]:
    """Read the descriptors that wait, by writer and commit."""
    return [_load(path) for path in sorted(folders.pending.glob("[!.]*.json"))]


def list_waiting(folders: Folders) -> dict[str, int]:
    """Return, by writer, the number of the newest commit whose descriptor waits."""
    waiting: dict[str, int] = {}
    for path in folders.pending.glob("[!.]*.json"):
        part, _, commit = path.stem.rpartition("-")
        waiting[part] = max(waiting.get(part, 0), int(commit))
    return waiting


def _load(path: Path) -> Descriptor:
    value = read_json(path)
    return Descriptor(
        path,
        str(value["part"]),
        int(str(value["commit"])),
        int(str(value["run"])),
        load_files(value["files"]),
        load_files(value["tail"]),
    )


def publish_durable(
    folders: Folders, durable: dict[str, int], epoch: int, complete: str = "", *, refresh: bool = False
) -> Manifest:
    """Publish every commit up to `durable` (writer -> commits) in one manifest; idempotent.

    A commit of a later run takes back the tail of an earlier one. With nothing new the newest manifest is returned.
    `refresh` writes the catalog in any case: a kill may have come between the two, or the folder was moved.
    """
    with hold_publish_lock(folders):
        manifest = read_manifest(folders)
        ready = [
            found
            for found in list_descriptors(folders)
            if manifest.parts.get(found.part, 0) < found.commit <= durable.get(found.part, 0)
        ]
        if ready or (complete and complete != manifest.complete):
            manifest = publish(folders, _extend(manifest, ready, epoch, complete))
        if ready or complete or refresh or not folders.catalog.exists():
            write_catalog(folders, manifest)
        forget_published(folders, manifest)
    return manifest


def find_lost(folders: Folders, manifest: Manifest, durable: dict[str, int]) -> list[str]:
    """Name the durable commits that neither the manifest nor a waiting descriptor holds."""
    waiting = {(found.part, found.commit) for found in list_descriptors(folders)}
    return [
        f"{part}-{commit}"
        for part, commits in sorted(durable.items())
        for commit in range(manifest.parts.get(part, 0) + 1, commits + 1)
        if (part, commit) not in waiting
    ]


def _extend(manifest: Manifest, ready: list[Descriptor], epoch: int, complete: str) -> Manifest:
    run = max([manifest.run, *(found.run for found in ready)])
    files, tail = manifest.files, manifest.tail if run == manifest.run else {}
    parts = dict(manifest.parts)
    for found in sorted(ready, key=lambda found: (found.part, found.commit)):
        files = add_files(files, found.files)
        if found.run == run:
            tail = add_files(tail, found.tail)
        parts[found.part] = max(parts.get(found.part, 0), found.commit)
    return replace(
        manifest, epoch=max(epoch, manifest.epoch), run=run, parts=parts, files=files, tail=tail, complete=complete
    )


def forget_published(folders: Folders, manifest: Manifest) -> None:
    """Remove descriptors that the manifest already holds."""
    for found in list_descriptors(folders):
        if found.commit <= manifest.parts.get(found.part, 0):
            pass_point("before_forget_descriptor")
            found.path.unlink(missing_ok=True)


def discard_undurable(folders: Folders, durable: dict[str, int]) -> list[str]:
    """Remove descriptors past the commit point: their epochs will be read again. Returns data files still needed."""
    kept: list[str] = []
    for found in list_descriptors(folders):
        if found.commit > durable.get(found.part, 0):
            pass_point("before_discard_descriptor")
            found.path.unlink(missing_ok=True)
        else:
            kept += found.names()
    return kept
