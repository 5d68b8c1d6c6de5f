"""What a comparison of two warehouses found, as values and as text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from events.times import LATEST_US

Row = dict[str, Any]
TIMES = ("times_left", "times_right")
NOTHING: Row = {}


def tell_time(us: int) -> str:
    """Write microseconds since 1970 as ISO 8601, UTC."""
    since = min(max(us, 0), LATEST_US)
    return (
        (datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=since)).isoformat().replace("+00:00", "Z")
    )


@dataclass(frozen=True)
class SideState:
    """How far one side, left or right, has come.

    `newest_event`, and `settled`, before which nothing can change (None: at all), in microseconds; `waiting`: records
    in the reorder buffer.
    """

    warehouse: str
    name: str
    version: int
    complete: bool
    newest_event: int | None
    events: int
    open_sessions: int
    waiting: int
    settled: int | None

    def tell(self, until: int | None) -> str:
        """Say of a side that was not read to its end what has not settled, and whether that was compared."""
        newest = "no event yet" if self.newest_event is None else f"newest event {tell_time(self.newest_event)}"
        told = (
            f"{self.name}, {self.warehouse}, was not read to its end: {newest}, {self.open_sessions:,} open sessions,"
            f" {self.waiting:,} records wait for the watermark"
        )
        if self.settled is None or (until is not None and until <= self.settled):
            return told
        return f"{told}; it had settled until {tell_time(self.settled)} only, and more was compared"


@dataclass(frozen=True)
class TableParity:
    """One table: rows that one side has more often than the other, and the first of them by `key`."""

    table: str
    rows_left: int
    rows_right: int
    only_left: int
    only_right: int
    key: tuple[str, ...] = ()
    left: tuple[Row, ...] = ()
    right: tuple[Row, ...] = ()

    @property
    def differs(self) -> bool:
        return bool(self.only_left or self.only_right)

    def describe(self) -> Iterator[str]:
        """Write the rows; two of one key as what differs between them."""
        others = list(self.right)
        for row in self.left:
            twin = next((other for other in others if self._name(other) == self._name(row)), None)
            if twin is None or 0 not in (row["times_right"], twin["times_left"]):
                yield _write_row("left", row)
                continue
            others.remove(twin)
            changes = (
                f"{name}: {_show(row[name])} | {_show(twin[name])}"
                for name in row
                if name not in TIMES and row[name] != twin[name]
            )
            where = ", ".join(f"{name} = {_show(row[name])}" for name in self.key)
            yield f"left | right  {where}: {', '.join(changes)}" if where else f"left | right  {', '.join(changes)}"
        yield from (_write_row("right", row) for row in others)

    def _name(self, row: Row) -> list[Any]:
        return [row[name] for name in self.key]


@dataclass(frozen=True)
class ParityReport:
    """All tables; `until` in microseconds, None where everything was compared; `notes` say why they may differ."""

    left: SideState
    right: SideState
    until: int | None
    strict: bool
    tables: tuple[TableParity, ...]
    notes: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Tell whether no row differs."""
        return not any(table.differs for table in self.tables)

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        body = asdict(self)
        body["until"] = None if self.until is None else tell_time(self.until)
        for side in ("left", "right"):
            for name in ("newest_event", "settled"):
                body[side][name] = None if body[side][name] is None else tell_time(body[side][name])
        return {"same": self.same, **body}


def _write_row(side: str, row: Row) -> str:
    more, fewer = TIMES if side == "left" else TIMES[::-1]
    often = f" ({row[more]} times, {row[fewer]} in the other)" if row[more] > 1 or row[fewer] else ""
    return f"only {side}{often}  " + ", ".join(
        f"{name} = {_show(value)}" for name, value in row.items() if name not in TIMES
    )


def _show(value: Any) -> str:
    text = "null" if value is None else repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 120 else text[:117] + "..."
