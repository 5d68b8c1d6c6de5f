"""Data files written anew: what compaction, forgetting and backfill share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from errors import FormatError, WarehouseError
from events.schema import TABLES
from sinks.manifest import MERGED, DataFile, Files, Manifest, list_data, name_files, read_manifest
from sinks.rows import COMPACT, write_rows
from sinks.storage import Folders, hold_publish_lock, pass_point

# Rows that a question asks for together stand together, so that a reader skips most row groups.
ORDER: dict[str, tuple[str, ...]] = {
    "events": ("person_id", "event_time", "source_partition", "source_position"),
    "sessions": ("person_id", "started_at"),
    "transitions": ("hour", "channel", "from_step", "to_step"),
    "paths": ("path_hash",),
    "funnel_steps": ("funnel", "person_id", "entered_at", "step_index"),
    "late_events": ("source_partition", "source_position"),
    "dead_letters": ("source_partition", "source_position"),
    "ledger": ("source_partition", "source"),
}


def require_manifest(folders: Folders) -> Manifest:
    """Read the newest manifest; raises WarehouseError where nothing was ever published."""
    manifest = read_manifest(folders) if folders.manifests.exists() else Manifest()
    if not manifest.version:
        raise WarehouseError(f"{folders.root}: holds no tables", remedy="name the --warehouse that a replay wrote")
    return manifest


def read_data(folders: Folders, table: str, path: str, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Read a data file in the table's own dtypes, without `dt`; raises FormatError where it is missing or damaged."""
    wanted = list(TABLES[table] if columns is None else columns)
    try:
        frame = pl.read_parquet(folders.root / path, columns=wanted, hive_partitioning=False)
    except (OSError, pl.exceptions.PolarsError) as problem:
        raise damaged(folders.root / path, problem) from problem
    return frame.select(pl.col(name).cast(TABLES[table][name]) for name in wanted)


def weigh_data(folders: Folders, file: DataFile) -> int:
    """Return how many bytes a data file holds unpacked; raises FormatError where it is missing or damaged."""
    path = folders.root / file.path
    try:
        metadata = pq.read_metadata(path)
    except (OSError, ValueError) as problem:
        raise damaged(path, problem) from problem
    return sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))


def damaged(path: Path, problem: Exception) -> FormatError:
    """Make the error for a data file that a manifest names and that can't be read."""
    remedy = "restore the file from a copy, or replay into a new warehouse"
    return FormatError(f"{path}: can't be read ({problem})", remedy=remedy)


def write_data(folders: Folders, table: str, day: str, stem: str, frame: pl.DataFrame) -> DataFile:
    """Write one data file of what stays, tightly packed."""
    pass_point("before_rewritten")
    written = write_rows(folders.root, f"{table}/dt={day}/{stem}.parquet", day, frame, COMPACT)
    pass_point("after_rewritten")
    return written


def remove_data(folders: Folders, files: Sequence[DataFile]) -> None:
    """Remove data files that no manifest names."""
    for file in files:
        (folders.root / file.path).unlink(missing_ok=True)


def remove_leftovers(folders: Folders) -> int:
    """Remove what a killed compaction left behind; the caller holds the rewrite lock. Returns the number of files."""
    with hold_publish_lock(folders):
        named = name_files(folders)
        left = [
            path
            for path in list_data(folders)
            if path.name.startswith(MERGED) and path.relative_to(folders.root).as_posix() not in named
        ]
        for path in left:
            path.unlink(missing_ok=True)
    return len(left)


def replace_table(files: Files, table: str, rows: Sequence[DataFile]) -> Files:
    """Return the file lists with another list for one table; a table without files is left out."""
    rest = {name: old for name, old in files.items() if name != table}
    return {**rest, table: tuple(rows)} if rows else rest
