"""The sink: collects an epoch's rows, writes them as Parquet beside the dataflow, and notes them in a descriptor.

Nothing written here can be seen: a manifest must name it first (see `publishing`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import polars as pl
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from events.schema import TABLES
from events.times import to_date
from sinks.manifest import DataFile, Files, save_files
from sinks.rows import FRESH, write_rows
from sinks.storage import Folders, pass_point, write_atomically

FLUSH_ROWS = 150_000
WRITES_AHEAD = 2

Merge = Callable[[list[pl.DataFrame]], pl.DataFrame]


class Rows(Protocol):
    """What the sink takes: frames by table, and whether they are the end's."""

    @property
    def tables(self) -> dict[str, list[pl.DataFrame]]: ...

    @property
    def tail(self) -> bool: ...


@dataclass(frozen=True)
class SinkRules:
    """Where and how the sink writes; `merges`: how the parts of an additive table become its rows."""

    folders: Folders
    run: int
    parts: int
    merges: dict[str, Merge]


class WarehousePartition(StatefulSinkPartition[Rows, bytes]):
    """One writer; its state is the number of commits it has made."""

    def __init__(self, rules: SinkRules, name: str, commits: int) -> None:
        self.rules, self.name, self.commits = rules, name, commits
        self.held: dict[tuple[str, bool], list[pl.DataFrame]] = {}
        self.writing: list[tuple[str, bool, Future[list[DataFile]]]] = []
        self.pool = ThreadPoolExecutor(2, thread_name_prefix="write")
        self.files = 0

    def write_batch(self, items: list[Rows]) -> None:
        for rows in items:
            for table, frames in rows.tables.items():
                self.held.setdefault((table, rows.tail), []).extend(frames)
        # Large tables are written on the way, so that an epoch's length does not decide how much memory it takes.
        for key in [key for key, frames in self.held.items() if sum(frame.height for frame in frames) >= FLUSH_ROWS]:
            self._flush(*key)

    def _flush(self, table: str, tail: bool) -> None:
        frames = self.held.pop((table, tail), [])
        if frames:
            self.files += 1
            stem = f"{self.name}-{self.rules.run:05d}-{self.commits:07d}-{self.files:05d}"
            merge = self.rules.merges.get(table)
            commits = self.commits + 1  # the one that these files will be part of
            future = self.pool.submit(
                lambda: write_table(self.rules.folders.root, table, stem, _join(frames, table, merge, commits))
            )
            self.writing.append((table, tail, future))
            # What waits to be written bounds the memory: a writer that is behind holds up the dataflow.
            if len(self.writing) > WRITES_AHEAD:
                self.writing[-1 - WRITES_AHEAD][2].result()

    def snapshot(self) -> bytes:
        self.commit()
        return str(self.commits).encode()

    def commit(self) -> None:
        """Write what is held and a descriptor of everything since the last commit, if there is anything."""
        for key in list(self.held):
            self._flush(*key)
        if not self.writing:
            return
        base: Files = {}
        tail: Files = {}
        for table, is_tail, future in self.writing:
            into = tail if is_tail else base
            into[table] = (*into.get(table, ()), *future.result())
        self.writing = []
        self.files = 0
        self.commits += 1
        body = {
            "part": self.name,
            "commit": self.commits,
            "run": self.rules.run,
            "files": save_files(base),
            "tail": save_files(tail),
        }
        pass_point("before_descriptor")
        write_atomically(
            self.rules.folders.pending / f"{self.name}-{self.commits:010d}.json", json.dumps(body).encode()
        )
        pass_point("after_descriptor")

    def close(self) -> None:
        # Called on aborts too, so nothing is committed here; the writers just finish.
        self.pool.shutdown(wait=True)


class WarehouseSink(FixedPartitionedSink[Rows, bytes]):
    """Routes outputs to a fixed number of writers; `opened` lets a run without recovery commit at its end."""

    def __init__(self, rules: SinkRules) -> None:
        self.rules = rules
        self.opened: list[WarehousePartition] = []

    def list_parts(self) -> list[str]:
        return [f"w{number:02d}" for number in range(self.rules.parts)]

    def part_fn(self, item_key: str) -> int:
        return int(item_key)

    def build_part(self, step_id: str, for_part: str, resume_state: bytes | None) -> WarehousePartition:
        part = WarehousePartition(self.rules, for_part, int(resume_state or b"0"))
        self.opened.append(part)
        return part


def _join(frames: list[pl.DataFrame], table: str, merge: Merge | None, commits: int) -> pl.DataFrame:
    frame = merge(frames) if merge is not None else pl.concat(frames, how="diagonal")
    if table == "events":
        frame = frame.with_columns(to_date(frame["event_time"].cast(pl.Int64)).alias("dt"))
    if table == "ledger":
        frame = frame.with_columns(pl.lit(commits, dtype=pl.Int64).alias("epoch"))
    return pl.DataFrame([*(_fit(frame, name, dtype) for name, dtype in TABLES[table].items()), frame["dt"]])


def _fit(frame: pl.DataFrame, name: str, dtype: pl.DataType | type[pl.DataType]) -> pl.Series:
    """Give a column the table's type; categories stay: in Parquet they are text, and cheaper to write."""
    if name not in frame.columns:
        return pl.Series(name, [None], dtype=dtype).new_from_index(0, frame.height)
    column = frame[name]
    return column if column.dtype == dtype or isinstance(column.dtype, pl.Categorical) else column.cast(dtype)


def write_table(root: Path, table: str, stem: str, frame: pl.DataFrame) -> list[DataFile]:
    """Write a frame as one Parquet file for each `dt`; returns the files, oldest date first."""
    files = []
    for day, part in split_days(frame):
        pass_point("before_file")
        files.append(write_rows(root, f"{table}/dt={day}/{stem}.parquet", str(day), part.drop("dt"), FRESH))
        pass_point("after_file")
    return files


def split_days(frame: pl.DataFrame) -> Sequence[tuple[object, pl.DataFrame]]:
    """Divide a frame by its `dt`, ascending; rows keep their order."""
    if frame["dt"].min() == frame["dt"].max():
        return [(frame["dt"][0], frame)]
    parts = frame.partition_by("dt", maintain_order=True, as_dict=True)
    return [(key[0], parts[key]) for key in sorted(parts)]


def close_all(parts: Iterable[WarehousePartition]) -> None:
    """Commit every writer of a run that has no recovery store."""
    for part in parts:
        part.commit()
