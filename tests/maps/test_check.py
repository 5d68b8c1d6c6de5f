"""`journeys check` agrees with a right warehouse, finished or stopped, and finds whatever is wrong in another."""

from __future__ import annotations

import json
import shutil
from datetime import datetime, timedelta, timezone
from pathlib import Path

import polars as pl
import pytest

from config import SECOND, Config, FunnelRules, JobRules, SessionRules
from errors import WarehouseError
from flows.replay import ReplayOptions, run_replay
from maps.check import CheckReport, check_warehouse
from sinks.manifest import read_manifest
from sinks.storage import Folders
from tests.sample_warehouse import get_finished, get_stopped
from tests.support.tampering import Change, add_to_first, drop_last, repeat_first, set_first, tamper


@pytest.fixture
def finished(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(shutil.copytree(get_finished(tmp_path_factory), tmp_path / "warehouse"))


@pytest.fixture
def stopped(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(shutil.copytree(get_stopped(tmp_path_factory), tmp_path / "warehouse"))


def list_failed(report: CheckReport) -> list[str]:
    return [finding.name for finding in report.findings if not finding.ok]


def test_finished_replay_is_right(finished: Folders) -> None:
    report = check_warehouse(finished)
    assert list_failed(report) == []
    assert report.ok
    assert report.complete
    json.dumps(report.to_json())


def test_stopped_replay_is_right_with_its_open_sessions_left_out(stopped: Folders) -> None:
    report = check_warehouse(stopped)
    assert not report.complete
    assert list_failed(report) == []
    live = pl.concat([pl.read_parquet(stopped.root / f.path) for f in read_manifest(stopped).files["events"]])
    closed = pl.concat([pl.read_parquet(stopped.root / f.path) for f in read_manifest(stopped).files["sessions"]])
    assert live["session_id"].n_unique() > closed.height


CASES: dict[str, tuple[str, Change, str]] = {
    "session missing": ("sessions", drop_last, "sessions"),
    "session twice": ("sessions", repeat_first, "sessions"),
    "session ends elsewhere": ("sessions", set_first("exit_step", "elsewhere"), "sessions"),
    "session lasted longer": ("sessions", add_to_first("duration_s", 0.001), "sessions"),
    "session of another person": ("sessions", set_first("person_id", "somebody"), "sessions"),
    "transition counted once more": ("transitions", add_to_first("transitions", 1), "transitions"),
    "transition's time": ("transitions", add_to_first("total_seconds", 0.01), "transitions"),
    "transition missing": ("transitions", drop_last, "transitions"),
    "transition's histogram": (
        "transitions",
        lambda frame: frame.with_columns(seconds_histogram=pl.col("seconds_histogram").list.head(0)),
        "transitions",
    ),
    "path counted once more": ("paths", add_to_first("sessions", 1), "paths"),
    "path missing": ("paths", drop_last, "paths"),
    "two paths of one hash": (
        "paths",
        lambda frame: frame.with_columns(path_hash=pl.lit("0" * 32)),
        "paths: path_hash",
    ),
    "funnel step missing": ("funnel_steps", drop_last, "funnel_steps"),
    "funnel step twice": ("funnel_steps", repeat_first, "funnel_steps"),
    "funnel step later": ("funnel_steps", add_to_first("seconds_from_previous", 1.0), "funnel_steps"),
    "attempt's id": (
        "funnel_steps",
        lambda frame: frame.with_columns(attempt_id=pl.lit("0" * 32)),
        "funnel_steps: attempt_id",
    ),
    "event missing": ("events", drop_last, "ledger: accepted = rows of events"),
    "event twice": ("events", repeat_first, "events: no duplicates"),
    "event's step": ("events", set_first("step", "elsewhere"), "transitions"),
    "event's number": ("events", add_to_first("session_index", 7), "events: session_index"),
    "event's session": ("events", set_first("session_id", "0" * 32), "events: session_id"),
    "event under another day": (
        "events",
        lambda frame: frame.with_columns(event_time=pl.col("event_time").dt.offset_by("7d")),
        "events: dt",
    ),
    "ledger's receipt": ("ledger", add_to_first("received", 1), "ledger: every record has one fate"),
    "ledger's row": ("ledger", drop_last, "ledger: accepted = rows of events"),
    "late event missing": ("late_events", drop_last, "ledger: late = rows of late_events"),
    "dead letter missing": ("dead_letters", drop_last, "ledger: dead = rows of dead_letters"),
}


def make_rounds() -> list[list[str]]:
    """Tamper with one table after the other, and with several at once where one does not hide another."""
    left = {name: table for name, (table, _, _) in CASES.items()}
    rounds = []
    while left:
        first = next(iter(left))
        others = {table: name for name, table in left.items() if table != "events"}
        together = [first] if left[first] == "events" else list(others.values())
        rounds.append(together)
        left = {name: table for name, table in left.items() if name not in together}
    return rounds


@pytest.mark.parametrize("names", make_rounds(), ids=" and ".join)
def test_tampered_table_is_found_with_the_row(finished: Folders, names: list[str]) -> None:
    for name in names:
        tamper(finished, *CASES[name][:2])
    report = check_warehouse(finished)
    failed = {finding.name: finding for finding in report.findings if not finding.ok}
    assert not report.ok
    assert "files" in failed
    for name in names:
        finding = failed[CASES[name][2]]
        assert finding.differing > 0
        assert 0 < len(finding.examples) <= 10
    json.dumps(report.to_json())


@pytest.mark.parametrize("name", ["session missing", "session twice", "path missing"])
def test_tampered_table_of_a_stopped_job_is_found(stopped: Folders, name: str) -> None:
    table, change, expected = CASES[name]
    tamper(stopped, table, change)
    failed = list_failed(check_warehouse(stopped))
    # A job's last session of a person may be open: that it is missing shows where it was counted.
    assert expected in failed or "sessions = starts = ends = paths" in failed


def test_ledger_that_received_less_than_it_settled_is_found_in_a_stopped_job(stopped: Folders) -> None:
    tamper(stopped, "ledger", lambda frame: frame.with_columns(received=pl.lit(0, dtype=pl.Int64)))
    tamper(stopped, "ledger", add_to_first("duplicate", 1_000_000))
    assert "ledger: every record has one fate" in list_failed(check_warehouse(stopped))


def test_missing_file_is_named_and_ends_the_check(finished: Folders) -> None:
    file = read_manifest(finished).files["sessions"][0]
    (finished.root / file.path).unlink()
    report = check_warehouse(finished)
    assert list_failed(report) == ["files"]
    assert report.findings[0].examples == ({"file": file.path, "problem": "is missing"},)


def test_damaged_file_is_named(finished: Folders) -> None:
    file = read_manifest(finished).files["sessions"][0]
    path = finished.root / file.path
    path.write_bytes(path.read_bytes()[: file.bytes // 2])
    report = check_warehouse(finished)
    assert list_failed(report) == ["files"]
    assert "damaged" in report.findings[0].examples[0]["problem"]


def test_folder_without_tables_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WarehouseError, match="holds no tables"):
        check_warehouse(Folders(tmp_path / "nothing"))


def replay_steady(tmp_path: Path) -> Folders:
    """Replay events a few seconds apart for minutes, with sessions of at most 25 s and pauses of at most 10 s."""
    start = datetime(2026, 3, 1, 23, 59, tzinfo=timezone.utc)
    lines = [
        {
            "event": step,
            "userId": person,
            "messageId": f"{person}{second}{step}",
            "channel": channel,
            "timestamp": (start + timedelta(seconds=second)).isoformat(),
        }
        for second in range(0, 240)
        for person, every, channel in (("ann", 5, "web"), ("bob", 1, "shop"), ("cid", 11, "web"), ("dan", 10, "web"))
        if second % every == 0
        for step in (("a", "b") if second % 20 == 0 else ("abc"[second % 3],))
    ]
    (tmp_path / "in.ndjson").write_text("\n".join(map(json.dumps, lines)) + "\n")
    funnels = (
        FunnelRules("wide", ("a", "b", "c"), within=60 * SECOND),
        FunnelRules("again", ("a", "b", "a"), within=20 * SECOND),
        FunnelRules("visit", ("b", "c"), within=60 * SECOND, scope="session"),
    )
    config = Config(
        sessions=SessionRules(10 * SECOND, 25 * SECOND, SECOND, max_path_steps=4),
        funnels=funnels,
        job=JobRules(release_rows=50, block_bytes=1 << 12),
    )
    options = ReplayOptions((str(tmp_path / "in.ndjson"),), tmp_path / "warehouse")
    assert run_replay(options, config).outcome == "finished"
    return Folders(options.warehouse)


def test_longest_session_ties_and_repeated_funnel_steps_are_recomputed(tmp_path: Path) -> None:
    folders = replay_steady(tmp_path)
    report = check_warehouse(folders)
    assert list_failed(report) == []


@pytest.mark.parametrize("rule", ["gap", "max_session", "max_path_steps"])
def test_check_depends_on_every_session_rule(tmp_path: Path, rule: str) -> None:
    folders = replay_steady(tmp_path)
    path = folders.inner / "warehouse.json"
    body = json.loads(path.read_bytes())
    body["sessions"][rule] -= 1
    path.write_text(json.dumps(body))
    assert "sessions" in list_failed(check_warehouse(folders))


@pytest.mark.parametrize(("key", "value"), [("within", 10 * SECOND), ("scope", "session"), ("steps", ["a", "b", "b"])])
def test_check_depends_on_every_funnel_rule(tmp_path: Path, key: str, value: object) -> None:
    folders = replay_steady(tmp_path)
    path = folders.inner / "warehouse.json"
    body = json.loads(path.read_bytes())
    body["funnel_rules"][0][key] = value
    path.write_text(json.dumps(body))
    assert list_failed(check_warehouse(folders)) == ["funnel_steps"]
