"""Damaged records mixed into good ones, and the check that the good ones do not notice."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import polars as pl

from config import Config, DeadLetterLimit, FunnelRules, JobRules
from events.raw import RAW_KEPT
from events.schema import TABLES
from flows.replay import ReplayOptions, run_replay
from sinks.catalog import open_views
from sinks.storage import Folders
from tests.support.damage import BLANK_LINE, DEAD, KEPT, LIMIT, ODD, Damage, Event, dump

Tables = dict[str, pl.DataFrame]
STEPS = ("Product Viewed", "Product Added", "Checkout Started", "Order Completed", "Support Called")
BEGIN = datetime(2026, 1, 5, tzinfo=timezone.utc)
NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Mixture:
    """Lines of a file and what became of each: `None` for a good one."""

    lines: list[bytes]
    damages: list[Damage | None]

    def without_dead(self) -> list[bytes]:
        """Return the lines with an empty one where a record must become a dead letter: no other changes its place."""
        return [b"" if d and d.fate not in (KEPT, BLANK_LINE) else line for line, d in zip(*self.parts(), strict=True)]

    def parts(self) -> tuple[list[bytes], list[Damage | None]]:
        """Return lines and damages side by side."""
        return self.lines, self.damages

    def expect_dead(self) -> dict[int, tuple[str, bytes]]:
        """Return reason and raw bytes of every dead letter to come, by line number."""
        return {
            number: (damage.fate, line.removesuffix(b"\r")[:RAW_KEPT])
            for number, (line, damage) in enumerate(zip(*self.parts(), strict=True))
            if damage and damage.fate not in (KEPT, BLANK_LINE)
        }

    def count_records(self) -> int:
        """Return the number of lines that are records."""
        return sum(damage is None or damage.fate != BLANK_LINE for damage in self.damages)


def make_event(number: int, random_: random.Random) -> Event:
    """Make the good event of a place in the stream: in order of time, by one of some hundred persons."""
    time = BEGIN + timedelta(seconds=number, milliseconds=random_.randrange(1000))
    return {
        "messageId": f"m-{number}",
        "type": "track",
        "event": random_.choice(STEPS),
        "userId": f"user-{random_.randrange(300)}" if random_.random() < 0.7 else None,
        "anonymousId": f"device-{random_.randrange(400)}",
        "timestamp": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "receivedAt": (time + timedelta(seconds=2)).isoformat(),
        "channel": random_.choice(("web", "mobile", "support")),
        "properties": {"price": random_.randrange(100), "names": ["Ä", "b"]},
    }


def mix(records: int, seed: int, heavy: int = 50) -> Mixture:
    """Make a file in which every second record is damaged, each kind in turn; kinds of many bytes `heavy` times each."""
    random_ = random.Random(seed)
    lines: list[bytes] = []
    damages: list[Damage | None] = []
    kinds, seen = [*DEAD, *ODD], Counter[str]()
    while len(lines) < records:
        event = make_event(len(lines), random_)
        damage = random_.choice(kinds) if random_.random() < 0.5 else None
        line = damage.make(event, random_) if damage else dump(event)
        if damage and len(line) > 10_000:
            seen[damage.name] += 1
            if seen[damage.name] > heavy:
                continue
        lines.append(line)
        damages.append(damage)
    return Mixture(lines, damages)


def make_config(block_bytes: int) -> Config:
    """Settings under which any number of dead letters is put up with."""
    config = Config(
        funnels=(FunnelRules("buy", STEPS[:4]),),
        dead_letters=DeadLetterLimit(count=10**9),
        job=JobRules(block_bytes=block_bytes, key_groups=4),
    )
    return replace(config, input=replace(config.input, max_record_bytes=LIMIT))


def replay_lines(lines: Sequence[bytes], folder: Path, block_bytes: int) -> Tables:
    """Replay lines as one file into a warehouse of its own; return every table, as its view shows it."""
    folder.mkdir(parents=True)
    (folder / "events.ndjson").write_bytes(b"\n".join(lines) + b"\n")
    options = ReplayOptions((str(folder / "events.ndjson"),), folder / "warehouse", clock=lambda: NOW)
    run_replay(options, make_config(block_bytes))
    connection, _ = open_views(Folders(folder / "warehouse"))
    with connection:
        connection.execute("SET TimeZone = 'UTC'")
        return {name: pl.DataFrame(connection.sql(f'SELECT * FROM "{name}"').to_arrow_table()) for name in TABLES}


def list_dead(tables: Tables) -> dict[int, tuple[str, bytes]]:
    """Return reason and raw bytes of every dead letter, by line number."""
    dead = tables["dead_letters"]
    assert dead["source_position"].is_unique().all()
    return {row["source_position"]: (row["reason"], row["raw"]) for row in dead.iter_rows(named=True)}


def count_ledger(tables: Tables) -> dict[str, int]:
    """Return the ledger's sums."""
    names = ("received", "accepted", "duplicate", "late", "dead")
    return {name: int(tables["ledger"][name].sum()) for name in names}


def find_differences(tables: Tables, others: Tables) -> list[str]:
    """Name the tables, beside ledger and dead letters, whose rows are not the same."""
    names = [name for name in TABLES if name not in ("dead_letters", "ledger")]
    return [name for name in names if _count_rows(tables[name]) != _count_rows(others[name])]


def _count_rows(frame: pl.DataFrame) -> Counter[str]:
    # Sums of seconds may be added in another order.
    rounded = frame.with_columns(pl.col(pl.Float64).round(6))
    return Counter(map(repr, rounded.rows()))
