"""Compaction: many small files of a table's day become few large ones, beside a running job and readers.

New files are written under names that nobody looks for; then, under the publish lock, the newest manifest is read
again and the inputs in it are swapped for them. A job only appends to that list, so the inputs are still in it.
Old files stay as long as an older manifest that is kept names them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import polars as pl

from events.schema import LEDGER, TABLES
from sinks.catalog import write_catalog
from sinks.manifest import KEPT, MERGED, DataFile, Manifest, clean_up, publish, read_manifest
from sinks.rewriting import (
    ORDER,
    read_data,
    remove_data,
    remove_leftovers,
    replace_table,
    require_manifest,
    weigh_data,
    write_data,
)
from sinks.sent import find_unsent
from sinks.storage import Folders, hold_publish_lock, hold_rewrite_lock, pass_point

SMALL_BYTES = 64 << 20
TARGET_BYTES = 128 << 20
MAX_ROWS = 800_000  # these two bound the memory
MAX_UNPACKED = 256 << 20


@dataclass(frozen=True)
class Merge:
    """Files of one table and day, and the one that takes their place."""

    inputs: tuple[DataFile, ...]
    output: DataFile


@dataclass(frozen=True)
class TableCompaction:
    """What became of one table: number and bytes of the files that were merged, before and after."""

    table: str
    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int


@dataclass(frozen=True)
class CompactionReport:
    """`version`: the manifest that readers now see; `skipped`: merges whose inputs had gone meanwhile."""

    version: int
    tables: tuple[TableCompaction, ...] = ()
    skipped: int = 0
    removed: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        if not self.tables:
            return f"nothing to merge; {self.removed} old files removed"
        lines = [
            f"{table.table}: {table.files_before} files became {table.files_after}"
            f" ({table.bytes_before:,} bytes became {table.bytes_after:,})"
            for table in self.tables
        ]
        skipped = f"; {self.skipped} merges left out, as their files had gone" if self.skipped else ""
        return "\n".join([*lines, f"version {self.version}; {self.removed} old files removed{skipped}"])


@dataclass
class _Limits:
    small: int
    target: int


@dataclass
class _Bin:
    inputs: list[DataFile] = field(default_factory=list)
    bytes: int = 0
    rows: int = 0
    unpacked: int = 0


def compact(
    folders: Folders, *, small_bytes: int = SMALL_BYTES, target_bytes: int = TARGET_BYTES, keep: int = KEPT
) -> CompactionReport:
    """Merge the small files of every table and day; waits for another compaction to end, not for the job.

    A file is small below `small_bytes`; merging goes on up to `target_bytes`. Then all but the `keep` newest
    manifests, and the files that only they name, are removed.
    """
    require_manifest(folders)
    limits = _Limits(small_bytes, target_bytes)
    with hold_rewrite_lock(folders):
        remove_leftovers(folders)
        pass_point("compact_begin")
        done, skipped = [], 0
        for table in TABLES:
            merges = _merge_table(folders, table, limits)
            if not merges:
                continue
            pass_point("compact_written")
            swapped = _swap(folders, table, merges)
            pass_point("compact_swapped")
            skipped += len(merges) - len(swapped)
            done.append(_describe(table, swapped))
    removed = clean_up(folders, keep=keep)
    return CompactionReport(read_manifest(folders).version, tuple(done), skipped, removed)


def _merge_table(folders: Folders, table: str, limits: _Limits) -> list[Merge]:
    manifest = read_manifest(folders)
    merges = []
    for number, inputs in enumerate(plan_merges(folders, table, manifest, limits.small, limits.target)):
        parts = [read_data(folders, table, file.path) for file in inputs]
        stem = f"{MERGED}{manifest.version:07d}-{number:05d}"
        merges.append(Merge(inputs, write_data(folders, table, inputs[0].dt, stem, merge_rows(table, parts))))
    return merges


def plan_merges(
    folders: Folders, table: str, manifest: Manifest, small: int, target: int
) -> Iterator[tuple[DataFile, ...]]:
    """Yield groups of at least two small files of one day each; the tail of a finished replay is left alone.

    So is what a topic still waits for: a merged file does not tell which rows are of which commit.
    """
    days: dict[str, list[DataFile]] = {}
    unsent = find_unsent(folders, manifest.files.get(table, ()))
    for file in manifest.files.get(table, ()):
        # What already has half the rows of the largest merge is not small, whatever its bytes.
        if file.bytes < small and file.rows < MAX_ROWS // 2 and file not in unsent:
            days.setdefault(file.dt, []).append(file)
    for day in sorted(days):
        held = _Bin()
        for file in days[day]:
            held.inputs.append(file)
            held.bytes += file.bytes
            held.rows += file.rows
            held.unpacked += weigh_data(folders, file)
            if held.bytes >= target or held.rows >= MAX_ROWS or held.unpacked >= MAX_UNPACKED:
                if len(held.inputs) > 1:
                    yield tuple(held.inputs)
                held = _Bin()
        if len(held.inputs) > 1:
            yield tuple(held.inputs)


def merge_rows(table: str, parts: list[pl.DataFrame]) -> pl.DataFrame:
    """Put the rows of several files of one table and day together: additive tables are summed, all are sorted.

    Input and output: the table's columns without `dt`. n -> m for additive tables, else n -> n.
    """
    frame = pl.concat(parts)
    if table == "transitions":
        frame = _sum_transitions(frame)
    elif table == "paths":
        frame = frame.group_by("path_hash", "steps").agg(pl.col("sessions", "events").sum(), _sum_seconds())
    elif table == "ledger":
        # The sum belongs to all its epochs; it bears the newest.
        counts = [name for name, dtype in LEDGER.items() if dtype == pl.Int64 and name != "epoch"]
        frame = frame.group_by("source", "source_partition").agg(pl.col("epoch").max(), pl.col(counts).sum())
    return frame.select(*TABLES[table]).sort(*ORDER[table])


def _sum_seconds() -> pl.Expr:
    # In whole microseconds: the sum is the same in whatever order and in however many steps it was made.
    return (pl.col("total_seconds") * 1e6).round().cast(pl.Int64).sum() / 1e6


def _sum_transitions(frame: pl.DataFrame) -> pl.DataFrame:
    keys = list(ORDER["transitions"])
    sums = frame.group_by(keys).agg(pl.col("transitions").sum(), _sum_seconds())
    bars = (
        frame.select(*keys, "seconds_histogram")
        .filter(pl.col("seconds_histogram").list.len() > 0)
        .explode("seconds_histogram")
        .unnest("seconds_histogram")
        .group_by(*keys, "bucket")
        .agg(pl.col("n").sum())
        .sort("bucket")
        .group_by(keys)
        .agg(pl.struct("bucket", "n").sort_by("bucket").alias("seconds_histogram"))
    )
    none = pl.lit([], dtype=TABLES["transitions"]["seconds_histogram"])
    return sums.join(bars, on=keys, how="left").with_columns(pl.col("seconds_histogram").fill_null(none))


def _swap(folders: Folders, table: str, merges: list[Merge]) -> list[Merge]:
    """Swap inputs for outputs in the newest manifest; returns the merges whose inputs were all still there."""
    with hold_publish_lock(folders):
        newest = read_manifest(folders)
        rows = newest.files.get(table, ())
        standing = set(rows)
        good = [merge for merge in merges if standing.issuperset(merge.inputs)]
        if good:
            # The output stands where the first of its inputs stood.
            at = {merge.inputs[0]: merge.output for merge in good}
            gone = {file for merge in good for file in merge.inputs}
            merged = [at.get(file, file) for file in rows if file in at or file not in gone]
            manifest = publish(folders, replace(newest, files=replace_table(newest.files, table, merged)))
            write_catalog(folders, manifest)
    remove_data(folders, [merge.output for merge in merges if merge not in good])
    return good


def _describe(table: str, merges: list[Merge]) -> TableCompaction:
    inputs = [file for merge in merges for file in merge.inputs]
    return TableCompaction(
        table,
        files_before=len(inputs),
        files_after=len(merges),
        bytes_before=sum(file.bytes for file in inputs),
        bytes_after=sum(merge.output.bytes for merge in merges),
    )
