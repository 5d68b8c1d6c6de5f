"""Small warehouses that the analysts' tests read: a finished replay of a month of a shop, and one that was stopped."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import duckdb
import polars as pl
import pytest

from config import Config, FunnelRules, JobRules
from flows.replay import ReplayOptions, run_replay
from flows.settings import load_config
from sinks.manifest import Manifest
from sources.synthetic import Shape, Truth, format_segment, generate_frames

SHOP = Path(__file__).parents[1] / "data" / "examples" / "shop.toml"
# Many small commits, so that the additive tables have something to add up.
JOB = JobRules(snapshot=20_000, block_bytes=1 << 16, release_rows=500)


def make_config() -> Config:
    """Return the demo shop's settings, with a funnel nobody gets on in and one nobody begins."""
    config = load_config(SHOP)
    unreached = FunnelRules("unreached", ("product", "Gift Sent", "Gift Opened"))
    unbegun = FunnelRules("unbegun", ("Gift Sent", "product"))
    return replace(config, funnels=(*config.funnels, unreached, unbegun), job=JOB)


def write_events(path: Path, events: int = 9_000) -> Truth:
    """Write generated events as Segment NDJSON; 80 visits a day of 500 people."""
    truth = Truth()
    shape = Shape(events=events, visits_per_day=80, people=500, duplicates=0.02)
    with path.open("w", encoding="utf-8") as file:
        for frame in generate_frames(shape, truth):
            file.writelines(f"{line}\n" for line in format_segment(frame).to_list())
    return truth


def write_odd_events(path: Path) -> None:
    """Write what the generator never makes: users without a device, full records, late and unreadable ones."""
    full = {
        "type": "page",
        "name": "Gift Card Checked",
        "userId": "ann",
        "receivedAt": "2026-02-20T10:00:01Z",
        "context": {
            "page": {"path": "/gift", "referrer": "https://mail.example/"},
            "campaign": {"name": "spring"},
        },
    }
    lines = [
        {**full, "messageId": "o1", "timestamp": "2026-02-20T10:00:00Z", "channel": "web"},
        {"event": "Product Viewed", "anonymousId": "bob", "messageId": "o2", "timestamp": "2026-02-20T10:01:00Z"},
        {"event": "Product Viewed", "userId": "ann", "messageId": "o3", "timestamp": "2026-02-20T10:02:00Z"},
        {"event": "Late Arrival", "userId": "ann", "messageId": "o4", "timestamp": "2026-02-20T09:00:00Z"},
        {"event": "Product Viewed", "userId": "ann", "messageId": "o5", "timestamp": "2026-02-20T12:00:00Z"},
        {"event": "No Time", "userId": "ann"},
    ]
    path.write_text("\n".join([*(json.dumps(line) for line in lines), "not json", ""]), encoding="utf-8")


def make_finished(folder: Path) -> Path:
    """Replay the month and the odd records; return the warehouse."""
    folder.mkdir(parents=True, exist_ok=True)
    write_events(folder / "shop.ndjson")
    write_odd_events(folder / "odd.ndjson")
    options = ReplayOptions((str(folder / "shop.ndjson"), str(folder / "odd.ndjson")), folder / "warehouse")
    assert run_replay(options, make_config()).outcome == "finished"
    return options.warehouse


def make_stopped(folder: Path) -> Path:
    """Replay the month, stopped once two commits of sessions are published; return the warehouse."""
    folder.mkdir(parents=True, exist_ok=True)
    write_events(folder / "shop.ndjson", events=12_000)
    stop, seen = threading.Event(), set[int]()

    def stop_once(_: object, manifest: Manifest) -> None:
        closed = sum(file.rows for file in manifest.files.get("sessions", ()))
        if closed:
            seen.add(closed)
        if len(seen) == 2:
            stop.set()

    # In blocks this small, the replay has a long way to go when it is stopped.
    config = replace(make_config(), job=replace(JOB, block_bytes=1 << 10))
    options = ReplayOptions((str(folder / "shop.ndjson"),), folder / "warehouse", stop=stop)
    assert run_replay(options, config, stop_once).outcome == "stopped"
    return options.warehouse


def get_finished(factory: pytest.TempPathFactory) -> Path:
    """Return the finished warehouse of this test process, made when it is first asked for."""
    return _make_once(factory.getbasetemp() / "finished-warehouse", make_finished)


def get_stopped(factory: pytest.TempPathFactory) -> Path:
    """Return the stopped warehouse of this test process, made when it is first asked for."""
    return _make_once(factory.getbasetemp() / "stopped-warehouse", make_stopped)


def _make_once(folder: Path, make: Callable[[Path], Path]) -> Path:
    done = folder / "done"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        make(folder)
        done.touch()
    return folder / "warehouse"


def connect(warehouse: Path) -> duckdb.DuckDBPyConnection:
    """Open the catalog as an analyst does: read-only, with times shown in UTC."""
    connection = duckdb.connect(str(warehouse / "journeys.duckdb"), read_only=True)
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def read(connection: duckdb.DuckDBPyConnection, query: str) -> pl.DataFrame:
    """Return the result of a query as a frame."""
    frame = pl.from_arrow(connection.sql(query).to_arrow_table())
    assert isinstance(frame, pl.DataFrame)
    return frame
