"""What a warehouse holds and how far its job has come, read without disturbing the job."""

from __future__ import annotations

import fcntl
import os
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb

from clock import Clock, from_us, read_system_clock, to_us
from errors import InputError
from events.schema import TABLES
from maps.standing import Standing, describe_standing, read_standing
from sinks.catalog import open_views
from sinks.manifest import Manifest
from sinks.storage import Folders, read_json


@dataclass(frozen=True)
class TableSize:
    """What one table takes; additive tables (transitions, paths, ledger) are counted before they are summed."""

    table: str
    rows: int
    files: int
    bytes: int


@dataclass(frozen=True)
class LedgerRow:
    """One source partition: `waiting` records are in the reorder buffer, neither accepted nor refused yet."""

    source_partition: str
    received: int
    accepted: int
    duplicate: int
    late: int
    dead: int

    @property
    def waiting(self) -> int:
        return self.received - self.accepted - self.duplicate - self.late - self.dead


@dataclass(frozen=True)
class LaneStatus:
    """The files of one lane, in the order in which they are read."""

    name: str
    files: tuple[str, ...]
    bytes: int


@dataclass(frozen=True)
class WarehouseStatus:
    """A warehouse at one version, `asked_at`, microseconds since 1970.

    `ordered_until`: the newest event in the tables, which the watermark has passed; `live`: what a live job last said.
    """

    warehouse: str
    version: int
    epoch: int
    run: int
    complete: bool
    job: str
    tables: tuple[TableSize, ...]
    ledger: tuple[LedgerRow, ...]
    lanes: tuple[LaneStatus, ...]
    ordered_until: datetime | None
    allowed_lateness_s: float | None
    bytes_on_disk: int
    asked_at: int
    live: Standing | None = None

    @property
    def total(self) -> LedgerRow:
        """Return the ledger summed over all partitions."""
        counts = [field.name for field in fields(LedgerRow) if field.name != "source_partition"]
        return LedgerRow("total", **{name: sum(getattr(row, name) for row in self.ledger) for name in counts})

    def rows(self, table: str) -> int:
        """Return a table's rows."""
        return next((size.rows for size in self.tables if size.table == table), 0)

    def to_dict(self) -> dict[str, Any]:
        """Return the status as values for JSON."""
        body = asdict(self)
        for key, rows in (("ledger", self.ledger), ("total", [self.total])):
            body[key] = [{**asdict(row), "waiting": row.waiting} for row in rows]
        body["total"] = {key: value for key, value in body["total"][0].items() if key != "source_partition"}
        body["job"] = self.job or None
        body["ordered_until"] = self.ordered_until.isoformat().replace("+00:00", "Z") if self.ordered_until else None
        body["live"] = describe_standing(self.live, self.job, self.asked_at) if self.live else None
        del body["asked_at"]
        return body


def check_warehouse_exists(folders: Folders) -> None:
    """Raise InputError where there is no warehouse."""
    if not folders.inner.is_dir():
        raise InputError(
            f"{folders.root}: there is no warehouse",
            remedy="make one with `journeys replay`, or name it with --warehouse",
        )


def read_status(folders: Folders, clock: Clock = read_system_clock) -> WarehouseStatus:
    """Read a warehouse's status; raises InputError where there is none."""
    check_warehouse_exists(folders)
    metadata: dict[str, Any] = {}
    if (folders.inner / "warehouse.json").exists():
        metadata = read_json(folders.inner / "warehouse.json")
    connection, manifest = open_views(folders)
    with connection:
        ledger, newest = _read_ledger(connection), _read_newest(connection)
    lateness = metadata.get("sessions", {}).get("allowed_lateness")
    return WarehouseStatus(
        warehouse=str(folders.root),
        version=manifest.version,
        epoch=manifest.epoch,
        run=manifest.run,
        complete=bool(manifest.complete),
        job=find_job(folders),
        tables=tuple(_size_table(manifest, table) for table in TABLES),
        ledger=ledger,
        lanes=tuple(_read_lane(lane) for lane in metadata.get("lanes", [])),
        ordered_until=newest,
        allowed_lateness_s=None if lateness is None else lateness / 1e6,
        bytes_on_disk=measure_folder(folders.root),
        asked_at=to_us(clock()),
        live=read_standing(folders),
    )


def _read_ledger(connection: duckdb.DuckDBPyConnection) -> tuple[LedgerRow, ...]:
    counts = ("received", "accepted", "duplicate", "late", "dead")
    sums = ", ".join(f"CAST(sum({name}) AS BIGINT)" for name in counts)
    query = f"SELECT source_partition, {sums} FROM ledger GROUP BY source_partition ORDER BY source_partition"
    return tuple(LedgerRow(*row) for row in connection.execute(query).fetchall())


def _read_newest(connection: duckdb.DuckDBPyConnection) -> datetime | None:
    row = connection.execute("SELECT epoch_us(max(event_time)) FROM events").fetchone()
    if row is None or row[0] is None:
        return None
    return from_us(row[0])


def _size_table(manifest: Manifest, table: str) -> TableSize:
    files = manifest.visible(table)
    return TableSize(table, sum(file.rows for file in files), len(files), sum(file.bytes for file in files))


def _read_lane(lane: dict[str, Any]) -> LaneStatus:
    files = [entry["file"] for entry in lane["files"]]
    return LaneStatus(lane["name"], tuple(file["path"] for file in files), sum(file["size"] for file in files))


def find_job(folders: Folders) -> str:
    """Say which process writes the warehouse; empty if none does."""
    try:
        handle = os.open(folders.inner / "writer.lock", os.O_RDONLY)
    except FileNotFoundError:
        return ""
    try:
        holder = os.pread(handle, 200, 0).decode(errors="replace").strip()
        if not holder:
            return ""
        # A killed job leaves its name behind, but the kernel let go of its lock.
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return holder
    else:
        return ""
    finally:
        os.close(handle)


def measure_folder(root: Path) -> int:
    """Sum the sizes of all files below a folder."""
    total = 0
    for folder, _, names in os.walk(root):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except FileNotFoundError:  # the job has let go of it since it was listed
                continue
    return total
