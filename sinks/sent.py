"""What of the committed rows was sent on: commits in the order in which they are sent, and how far each topic has come.

The name of a data file tells its commit, so a manifest tells what is not sent yet. Files of such commits are not merged
with others, and a person is forgotten in them under a name that tells the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sinks.manifest import DataFile, Files, Manifest
from sinks.storage import Folders, hold_rewrite_lock, read_json, write_atomically

PLACE = re.compile(r"(w\d+)-\d{5}-(\d{7})-\d{5}")

Position = dict[str, int]  # writer -> number of its commits that were sent


@dataclass(frozen=True)
class Commit:
    """What one writer wrote at one commit; `number` counts its commits from 1."""

    part: str
    number: int
    files: Files = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The commit as it is told to others."""
        return f"{self.part}/{self.number}"


def find_place(path: str) -> tuple[str, int, str] | None:
    """Tell from a data file's path its writer, its commit and the part of its name that says so; None if merged."""
    match = PLACE.match(path.rpartition("/")[2])
    # The name was made when the commits before it had been counted.
    return None if match is None else (match[1], int(match[2]) + 1, match[0])


def list_commits(manifest: Manifest, tables: Iterable[str], sent: Mapping[str, int]) -> list[Commit]:
    """List the commits with rows of these tables that were not sent, oldest first; files in a fixed order."""
    found: dict[tuple[int, str], dict[str, list[DataFile]]] = {}
    for table in tables:
        for file in manifest.files.get(table, ()):
            place = find_place(file.path)
            if place is not None and place[1] > sent.get(place[0], 0):
                found.setdefault((place[1], place[0]), {}).setdefault(table, []).append(file)
    return [
        Commit(part, number, {table: tuple(sorted(files, key=_order)) for table, files in found[number, part].items()})
        for number, part in sorted(found)
    ]


def _order(file: DataFile) -> tuple[str, str]:
    return file.path.rpartition("/")[2], file.dt


def join_positions(one: Mapping[str, int], other: Mapping[str, int]) -> Position:
    """Return the farther of two positions, writer by writer."""
    return {part: max(one.get(part, 0), other.get(part, 0)) for part in sorted({*one, *other})}


def read_position(folders: Folders, name: str) -> Position:
    """Read how far a topic has come by what was noted here; raises FormatError."""
    return {part: int(str(number)) for part, number in read_json(_name_file(folders, name)).items()}


def write_position(folders: Folders, name: str, position: Mapping[str, int]) -> None:
    """Note how far a topic has come, durably."""
    write_atomically(_name_file(folders, name), json.dumps(position).encode())


def prepare_positions(folders: Folders, names: Iterable[str], manifest: Manifest) -> None:
    """Let new topics begin behind what is committed, and forget those that are no longer sent to."""
    wanted = set(names)
    known = {path.stem for path in _list_files(folders)}
    for name in known - wanted:
        _name_file(folders, name).unlink()
    if wanted - known:
        folders.sent.mkdir(parents=True, exist_ok=True)
        # A compaction that began before would not know of it.
        with hold_rewrite_lock(folders):
            for name in wanted - known:
                write_position(folders, name, manifest.parts)


def find_unsent(folders: Folders, files: Iterable[DataFile]) -> set[DataFile]:
    """Return the files that hold rows which some topic still waits for."""
    positions = [read_position(folders, path.stem) for path in _list_files(folders)]
    placed = [(file, find_place(file.path)) for file in files] if positions else []
    return {
        file
        for file, place in placed
        if place is not None and any(place[1] > position.get(place[0], 0) for position in positions)
    }


def _name_file(folders: Folders, name: str) -> Path:
    return folders.sent / f"{name}.json"


def _list_files(folders: Folders) -> list[Path]:
    return sorted(folders.sent.glob("[!.]*.json"))
