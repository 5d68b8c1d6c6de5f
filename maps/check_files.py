"""Do the data files of a manifest stand there as it says?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from events.schema import TABLES
from maps.check_report import Finding
from sinks.manifest import DataFile, Manifest
from sinks.storage import Folders

EXAMPLES = 10


@dataclass(frozen=True)
class FilesCheck:
    """The finding, and whether a file is missing or damaged, so that the tables can't be read at all."""

    finding: Finding
    is_unreadable: bool


def check_files(folders: Folders, manifest: Manifest) -> FilesCheck:
    """Compare every file's existence, size and number of rows with the manifest."""
    wrong, is_unreadable = [], False
    for table in TABLES:
        for file in manifest.visible(table):
            problem, is_gone = _look_at(folders.root / file.path, file)
            is_unreadable |= is_gone
            if problem:
                wrong.append({"file": file.path, "problem": problem})
    note = "the other checks were not run: the tables can't be read" if is_unreadable else ""
    return FilesCheck(Finding("files", not wrong, len(wrong), tuple(wrong[:EXAMPLES]), note), is_unreadable)


def _look_at(path: Path, file: DataFile) -> tuple[str, bool]:
    try:
        rows = pq.read_metadata(path).num_rows
        size = path.stat().st_size
    except FileNotFoundError:
        return "is missing", True
    except (OSError, pa.ArrowException) as problem:
        return f"is damaged ({problem})", True
    if rows != file.rows:
        return f"has {rows} rows, the manifest says {file.rows}", False
    if size != file.bytes:
        return f"has {size} bytes, the manifest says {file.bytes}", False
    return "", False
