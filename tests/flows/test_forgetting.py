"""A forgotten person is gone from tables, files and state, everybody else is as before, and the check still agrees."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from config import MINUTE, Config, FunnelRules, JobRules, SessionRules
from errors import RecoveryError, UsageError, WarehouseError, WarehouseLockedError
from flows.forgetting import forget_person, is_receipt_of
from flows.replay import ReplayOptions, run_replay
from flows.standstill import read_states
from sinks.compaction import compact
from sinks.manifest import list_data, list_manifests, name_files, read_manifest
from sinks.storage import Folders, hold_writer_lock
from sources.inbox import Inbox, Received
from tests.scanning import scan_bytes
from tests.upkeep import kill_command, list_failed, read_tables

START = datetime(2026, 3, 1, tzinfo=timezone.utc)
STEPS = ("home", "product", "cart", "buy")
CONFIG = Config(
    sessions=SessionRules(allowed_lateness=10 * MINUTE),  # so that some events of everybody wait at any moment
    funnels=(
        FunnelRules("buy", ("product", "cart", "buy")),
        FunnelRules("visit", ("product", "cart"), scope="session"),
    ),
    job=JobRules(key_groups=2, release_rows=40, block_bytes=1 << 11, snapshot=20_000),
)
# Long ids, as short texts stand within an Arrow column and long ones in a buffer that its copies share.
ANN, BOB, CID, DAN, EVE = (f"{name}-whose-id-is-a-long-one" for name in ("ann", "bob", "cid", "dan", "eve"))
ANNS_PHONE = "the-phone-of-somebody-unnamed"
PEOPLE = (ANN, BOB, CID, DAN, EVE, None)
FORGET = "import sys, pathlib; from flows.forgetting import forget_person; from sinks.storage import Folders;"
FORGET += "forget_person(Folders(pathlib.Path(sys.argv[1])), sys.argv[2])"


def write_day(path: Path, day: int) -> Path:
    """Write a day of events of six persons, the last one only a device; Ann is also in what is late or dead."""
    lines: list[str] = []
    for number in range(180):
        person = PEOPLE[number % len(PEOPLE)]
        moment = START + timedelta(days=day, seconds=number * 40)
        event: dict[str, Any] = {
            "messageId": f"{day}-{number}",
            "event": STEPS[number // 6 % 4],
            "userId": person,
            "anonymousId": ANNS_PHONE if person == ANN else f"d-{person}",
            "timestamp": moment.isoformat(),
            "channel": "web",
            "properties": {"friend": ANN} if person == BOB and number % 60 == 1 else {"n": number},
        }
        lines.append(json.dumps(event))
        if number % 90 == 30:
            late = {**event, "messageId": f"late{day}-{number}", "timestamp": "2026-02-01T00:00:00Z"}
            lines.append(json.dumps(late))
            lines.append(json.dumps({"userId": ANN, "event": "no time"}))
            lines.append(json.dumps({"userId": BOB, "event": "no time"}))
            lines.append(lines[-4])  # a duplicate
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def replay(tmp_path: Path, *, stops: bool = False) -> Folders:
    """Replay what is in `in`; `stops`: stop at the next epoch once sessions were published."""
    options = ReplayOptions((str(tmp_path / "in"),), tmp_path / "warehouse")
    if stops:
        stop = threading.Event()
        options = replace(options, stop=stop)
        outcome = run_replay(options, CONFIG, lambda _, now: stop.set() if "sessions" in now.files else None).outcome
        assert outcome == "stopped"
    else:
        assert run_replay(options, CONFIG).outcome == "finished"
    return Folders(options.warehouse)


@pytest.fixture
def finished(tmp_path: Path) -> Folders:
    for day in range(2):
        write_day(tmp_path / "in" / f"{day}.ndjson", day)
    return replay(tmp_path)


def list_others(folders: Folders) -> dict[str, list[str]]:
    """Return the rows of the tables of persons that are not Ann's."""
    tables = read_tables(folders, f"person_id NOT IN ('{ANN}', '{ANNS_PHONE}')")
    return {name: tables[name] for name in ("sessions", "funnel_steps")}


def test_person_is_gone_from_every_byte_and_the_check_agrees(finished: Folders) -> None:
    assert scan_bytes(finished, (ANN, ANNS_PHONE))
    before, others = read_tables(finished), list_others(finished)
    receipt = forget_person(finished, ANN)
    assert receipt.verified, receipt.traces
    assert scan_bytes(finished, (ANN, ANNS_PHONE)) == []
    assert list_failed(finished) == []
    after = read_tables(finished)
    assert list_others(finished) == others
    for table in ("transitions", "paths", "ledger"):
        assert after[table] == before[table], table
    fewer = {table: len(before[table]) - len(after[table]) for table in before}
    gone = {table: count for table, count in fewer.items() if count}
    assert gone == {table: count for table, count in receipt.removed.items() if count}
    assert gone["late_events"] == gone["dead_letters"] == 4
    assert gone["events"] == 60
    assert receipt.devices == (ANNS_PHONE,)


def test_records_as_they_came_are_emptied_for_all_who_are_forgotten(finished: Folders) -> None:
    """Given the phone, Ann's records go too, though they do not all name the phone."""
    lines = [json.dumps({"userId": who}).encode() for who in (ANN, BOB)] + [
        b'{"anonymousId": "%b"}' % ANNS_PHONE.encode()
    ]
    inbox = Inbox(finished.inboxes / "shop" / "queue", 1 << 30)
    inbox.append([Received(line, 0) for line in lines])
    receipt = forget_person(finished, ANNS_PHONE)
    assert receipt.verified, receipt.traces
    assert receipt.state["records_of_inbox_and_archive"] == 2
    (frame,) = [frame for frame, _ in Inbox(inbox.folder, 1 << 30).read(0)]
    assert [record.line for record in frame.records] == [b"null", lines[1], b"null"]
    assert not any(ANN.encode() in path.read_bytes() for path in inbox.folder.iterdir())


def test_receipt_is_kept_without_the_name(finished: Folders) -> None:
    receipt = forget_person(finished, ANN)
    (path,) = (finished.inner / "receipts").glob("*.json")
    stored = json.loads(path.read_bytes())
    assert ANN not in path.read_text() + path.name
    assert stored["verified"]
    assert stored["files"][0].keys() >= {"path", "rows_before", "rows_after"}
    assert is_receipt_of(stored, ANN)
    assert not is_receipt_of(stored, BOB)
    assert ANN not in str(replace(receipt, devices=()))
    for change in receipt.files:
        assert not (finished.root / change.path).exists()
        assert change.rows_after < change.rows_before or change.redacted


def test_mentions_in_other_persons_events_are_made_unreadable(finished: Folders) -> None:
    receipt = forget_person(finished, ANN)
    assert receipt.redacted == 6
    assert sum('"(forgotten)"' in row for row in read_tables(finished)["events"]) == 6


def test_device_stands_for_everybody_who_used_it(finished: Folders) -> None:
    receipt = forget_person(finished, ANNS_PHONE)
    assert receipt.persons == 2
    assert scan_bytes(finished, (ANNS_PHONE,)) == []
    tables = read_tables(finished)
    assert not any(ANN in row for table in ("sessions", "funnel_steps", "late_events") for row in tables[table])
    assert list_failed(finished) == []


def test_older_manifests_and_their_files_are_gone(finished: Folders) -> None:
    compact(finished)
    assert len(list_manifests(finished)) > 1
    forget_person(finished, ANN)
    assert len(list_manifests(finished)) == 1
    assert {path.relative_to(finished.root).as_posix() for path in list_data(finished)} == name_files(finished)


def test_somebody_unknown_changes_no_table(finished: Folders) -> None:
    before, version = read_tables(finished), read_manifest(finished).version
    receipt = forget_person(finished, "nobody-ever-seen")
    assert receipt.files == ()
    assert receipt.verified
    assert read_manifest(finished).version == version
    assert read_tables(finished) == before


def test_replay_goes_on_without_the_person(finished: Folders, tmp_path: Path) -> None:
    assert forget_person(finished, ANN).state["waiting_events"] > 0
    for day in (2, 3):
        write_day(tmp_path / "in" / f"{day}.ndjson", day)
    replay(tmp_path)
    assert list_failed(finished) == []
    # What comes later is a new person's: nothing of the time before came back.
    rows = [row for row in read_tables(finished)["events"] if ANN in row and "'2026-03-0" in row]
    assert rows
    assert not [row for row in rows if "2026-03-01" in row or "2026-03-02" in row]
    whole = tmp_path / "whole"
    run_replay(ReplayOptions((str(tmp_path / "in"),), whole), CONFIG)
    assert list_others(finished) == list_others(Folders(whole))


def test_person_in_a_stopped_jobs_buffer_and_open_sessions_is_forgotten(tmp_path: Path) -> None:
    for day in range(12):
        write_day(tmp_path / "in" / f"{day}.ndjson", day)
    folders = replay(tmp_path, stops=True)
    assert not read_manifest(folders).complete
    held = [state for _, state in read_states(folders.recovery)]
    assert any(state.waiting() for state in held)
    assert any(state.open.sessions["person_id"].is_in([ANN]).any() for state in held)
    receipt = forget_person(folders, ANN)
    assert receipt.state["open_sessions"] == 1
    assert receipt.state["waiting_events"] > 0
    assert scan_bytes(folders, (ANN, ANNS_PHONE)) == []
    assert list_failed(folders) == []
    replay(tmp_path)
    assert read_manifest(folders).complete
    assert list_failed(folders) == []


def test_two_persons_forgotten_around_a_replay_add_up(finished: Folders, tmp_path: Path) -> None:
    forget_person(finished, ANN)
    forget_person(finished, CID)
    assert list_failed(finished) == []
    write_day(tmp_path / "in" / "2.ndjson", 2)
    replay(tmp_path)
    forget_person(finished, DAN)
    assert list_failed(finished) == []
    compact(finished, keep=1)
    assert list_failed(finished) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "point",
    [
        "after_rewritten:3",
        "before_states",
        "after_states",
        "forget_states",
        "after_manifest",
        "before_clean_file:2",
        "before_clean_manifest",
    ],
)
def test_interrupted_forgetting_is_finished_by_the_next_call(finished: Folders, tmp_path: Path, point: str) -> None:
    others = list_others(finished)
    kill_command(FORGET, str(finished.root), ANN, point=point)
    assert forget_person(finished, ANN).verified
    assert scan_bytes(finished, (ANN, ANNS_PHONE)) == []
    assert list_failed(finished) == []
    assert list_others(finished) == others
    write_day(tmp_path / "in" / "2.ndjson", 2)
    replay(tmp_path)
    assert list_failed(finished) == []


def test_job_that_writes_keeps_forgetting_out(finished: Folders) -> None:
    with hold_writer_lock(finished, "journeys replay"), pytest.raises(WarehouseLockedError, match="journeys replay"):
        forget_person(finished, ANN)


def test_missing_store_is_refused_as_it_may_hold_the_person(finished: Folders) -> None:
    (finished.recovery / "part-0.sqlite3").rename(finished.inner / "elsewhere")
    with pytest.raises(RecoveryError, match="missing"):
        forget_person(finished, ANN)


def test_warehouse_without_recovery_store_is_cleaned_as_well(tmp_path: Path) -> None:
    write_day(tmp_path / "in" / "0.ndjson", 0)
    options = ReplayOptions((str(tmp_path / "in"),), tmp_path / "warehouse", use_recovery=False)
    assert run_replay(options, CONFIG).outcome == "finished"
    folders = Folders(options.warehouse)
    assert forget_person(folders, ANN).verified
    assert list_failed(folders) == []


def test_wrong_use_is_refused(tmp_path: Path, finished: Folders) -> None:
    with pytest.raises(WarehouseError, match="no warehouse"):
        forget_person(Folders(tmp_path / "nothing"), ANN)
    with pytest.raises(UsageError, match="no person"):
        forget_person(finished, " ")


def test_state_reads_back_after_forgetting(finished: Folders) -> None:
    forget_person(finished, ANN)
    states = dict(read_states(finished.recovery))
    assert set(states) == {0, 1}
    assert all(not state.open.sessions["person_id"].is_in([ANN]).any() for state in states.values())
