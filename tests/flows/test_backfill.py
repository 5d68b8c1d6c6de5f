"""After a backfill the funnels are those that a replay from scratch would give, and a later run goes on with them."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import polars as pl
import pytest

import flows.backfill
from config import HOUR, MINUTE, Config, FunnelRules, JobRules, SessionRules, StepRule
from errors import ConfigChangedError, WarehouseError, WarehouseLockedError
from flows.backfill import backfill_funnels
from flows.job import read_metadata
from flows.replay import ReplayOptions, run_replay
from flows.standstill import read_states
from maps.check import check_warehouse
from sinks.manifest import list_data, name_files, read_manifest
from sinks.storage import Folders, hold_writer_lock
from tests.upkeep import kill_command, list_failed, read_catalog_version, read_tables

START = datetime(2026, 3, 1, 20, tzinfo=timezone.utc)
STEPS = ("home", "product", "cart", "buy", "product", "help")
JOB = JobRules(key_groups=3, writers=2, release_rows=60, block_bytes=1 << 12, snapshot=20_000)
OLD = Config(
    sessions=SessionRules(gap=10 * MINUTE),
    funnels=(FunnelRules("buy", ("product", "cart", "buy")), FunnelRules("gone", ("home", "help"))),
    job=JOB,
)
NEW = replace(
    OLD,
    funnels=(
        FunnelRules("buy", ("home", "cart", "buy"), within=3 * HOUR),
        FunnelRules("again", ("product", "product", "buy"), within=2 * HOUR),
        FunnelRules("visit", ("product", "cart", "help"), within=2 * HOUR, scope="session"),
    ),
)
FROM_SCRATCH: dict[int, dict[str, list[str]]] = {}  # by number of parts
BACKFILL = """
import sys, pathlib
from flows.backfill import backfill_funnels
from sinks.storage import Folders
from tests.flows.test_backfill import NEW
backfill_funnels(Folders(pathlib.Path(sys.argv[1])), NEW)
"""


def write_part(path: Path, part: int) -> None:
    """Write two hours of events of twelve persons; sessions and funnels reach over from one part into the next."""
    path.parent.mkdir(exist_ok=True)
    lines = []
    for number in range(part * 400, part * 400 + 400):
        person = number * 7 % 12
        if person % 2 == number // 60 % 2:
            continue  # a pause of 18 minutes, longer than the session gap
        event = {
            "messageId": f"m{number}",
            "event": STEPS[(number * 5 + number // 12) % len(STEPS)],
            "userId": f"person-{person}",
            "timestamp": (START + timedelta(seconds=18 * (number - number % 3))).isoformat(),
            "channel": ("web", "store")[number % 2],
        }
        lines.append(json.dumps(event))
    path.write_text("\n".join(lines) + "\n")


def replay(inputs: Path, warehouse: Path, config: Config, *, stop_after: int = 0) -> Folders:
    """Replay; `stop_after`: stop at the next epoch once so many manifests were published."""
    stop = threading.Event()

    def watch(_: object, manifest: object) -> None:
        if stop_after and getattr(manifest, "version", 0) >= stop_after:
            stop.set()

    outcome = run_replay(ReplayOptions((str(inputs),), warehouse, stop=stop), config, watch).outcome
    assert outcome == ("stopped" if stop_after else "finished")
    return Folders(warehouse)


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    write_part(tmp_path / "in" / "0.ndjson", 0)
    return tmp_path / "in"


@pytest.fixture
def half(inputs: Path, tmp_path: Path) -> Folders:
    return replay(inputs, tmp_path / "warehouse", OLD)


def assert_like_scratch(folders: Folders, inputs: Path) -> None:
    """Compare every table with that of a replay of all inputs with the new funnels."""
    parts = len(list(inputs.iterdir()))
    if parts not in FROM_SCRATCH:
        FROM_SCRATCH[parts] = read_tables(replay(inputs, folders.root.parent / "scratch", NEW))
    found, wanted = read_tables(folders), FROM_SCRATCH[parts]
    assert wanted["funnel_steps"]
    for table in wanted:
        assert found[table] == wanted[table], table
    assert list_failed(folders) == []


def test_funnels_are_those_of_a_replay_from_scratch(half: Folders, inputs: Path) -> None:
    report = backfill_funnels(half, NEW)
    assert report.outcome == "recomputed"
    assert report.rows_after == len(read_tables(half)["funnel_steps"])
    assert read_catalog_version(half) == report.version == read_manifest(half).version
    assert_like_scratch(half, inputs)


def test_later_run_goes_on_with_the_new_funnels(half: Folders, inputs: Path) -> None:
    backfill_funnels(half, NEW)
    write_part(inputs / "1.ndjson", 1)
    replay(inputs, half.root, NEW)
    assert_like_scratch(half, inputs)


@pytest.mark.parametrize("stop_after", [1, 3])
def test_stopped_job_goes_on_with_the_new_funnels(inputs: Path, tmp_path: Path, stop_after: int) -> None:
    for part in range(1, 12):
        write_part(inputs / f"{part:02d}.ndjson", part)
    folders = replay(inputs, tmp_path / "warehouse", OLD, stop_after=stop_after)
    assert not read_manifest(folders).complete
    backfill_funnels(folders, NEW)
    assert list_failed(folders) == []
    replay(inputs, folders.root, NEW)
    assert_like_scratch(folders, inputs)


def test_state_after_a_backfill_is_the_one_a_replay_leaves(half: Folders, inputs: Path, tmp_path: Path) -> None:
    backfill_funnels(half, NEW)
    scratch = replay(inputs, tmp_path / "other", NEW)
    wanted = dict(read_states(scratch.recovery))
    for group, state in read_states(half.recovery):
        assert state.chains.keys() == {rules.name for rules in NEW.funnels}
        for name, chains in state.chains.items():
            assert sorted(chains.rows()) == sorted(wanted[group].chains[name].rows()), name
    assert any(state.chains["again"].height for state in wanted.values())


def test_small_chunks_give_the_same_rows(half: Folders, inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows.backfill, "CHUNK_ROWS", 10)
    monkeypatch.setattr(flows.backfill, "FLUSH_ROWS", 20)
    backfill_funnels(half, NEW)
    assert len(read_manifest(half).visible("funnel_steps")) > 4
    write_part(inputs / "1.ndjson", 1)
    replay(inputs, half.root, NEW)
    assert_like_scratch(half, inputs)


def test_same_funnels_again_are_nothing_to_do(half: Folders) -> None:
    version = read_manifest(half).version
    assert backfill_funnels(half, OLD).outcome == "nothing_to_do"
    backfill_funnels(half, NEW)
    assert backfill_funnels(half, NEW).outcome == "nothing_to_do"
    assert read_manifest(half).version == version + 1


def test_there_and_back_gives_the_old_rows(half: Folders) -> None:
    before = read_tables(half)["funnel_steps"]
    backfill_funnels(half, NEW)
    backfill_funnels(half, OLD)
    assert read_tables(half)["funnel_steps"] == before


def test_no_funnels_leave_no_rows(half: Folders) -> None:
    assert backfill_funnels(half, replace(OLD, funnels=())).rows_after == 0
    assert read_tables(half)["funnel_steps"] == []
    assert list_failed(half) == []


def test_anything_else_that_changed_is_refused(half: Folders) -> None:
    version = read_manifest(half).version
    others = [
        replace(NEW, sessions=replace(NEW.sessions, gap=HOUR)),
        replace(NEW, steps=(StepRule("first", "event_name = 'home'"),)),
        replace(NEW, job=replace(JOB, key_groups=4)),
    ]
    for config in others:
        with pytest.raises(ConfigChangedError, match="alone"):
            backfill_funnels(half, config)
    assert read_manifest(half).version == version
    assert read_metadata(half)["fingerprint"] == OLD.fingerprint()


def test_running_job_keeps_the_backfill_out(half: Folders) -> None:
    with hold_writer_lock(half, "journeys replay"), pytest.raises(WarehouseLockedError):
        backfill_funnels(half, NEW)


def test_folder_that_is_no_warehouse_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WarehouseError, match="no warehouse"):
        backfill_funnels(Folders(tmp_path / "nothing"), NEW)


@pytest.mark.slow
@pytest.mark.parametrize(
    "point",
    [
        "backfill_begun",
        "after_rewritten:2",
        "before_states",
        "after_states",
        "before_manifest",
        "after_manifest",
        "backfill_published",
    ],
)
def test_interrupted_backfill_keeps_replays_out_until_it_is_run_again(half: Folders, inputs: Path, point: str) -> None:
    kill_command(BACKFILL, str(half.root), point=point)
    write_part(inputs / "1.ndjson", 1)
    for config in (OLD, NEW):
        with pytest.raises(ConfigChangedError, match="backfill"):
            run_replay(ReplayOptions((str(inputs),), half.root), config)
    failed = [finding for finding in check_warehouse(half).findings if not finding.ok]
    assert [finding.name for finding in failed] == ["funnel_steps"]
    assert "backfill" in failed[0].note
    backfill_funnels(half, NEW)
    assert {path.relative_to(half.root).as_posix() for path in list_data(half)} <= name_files(half)
    replay(inputs, half.root, NEW)
    assert_like_scratch(half, inputs)


def test_interrupted_backfill_can_be_taken_back(half: Folders, inputs: Path) -> None:
    before = read_tables(half)["funnel_steps"]
    kill_command(BACKFILL, str(half.root), point="backfill_states")
    backfill_funnels(half, OLD)
    assert read_tables(half)["funnel_steps"] == before
    write_part(inputs / "1.ndjson", 1)
    replay(inputs, half.root, OLD)
    assert list_failed(half) == []


def test_warehouse_without_recovery_store_is_backfilled_as_well(inputs: Path, tmp_path: Path) -> None:
    options = ReplayOptions((str(inputs),), tmp_path / "warehouse", use_recovery=False)
    assert run_replay(options, OLD).outcome == "finished"
    folders = Folders(options.warehouse)
    backfill_funnels(folders, NEW)
    assert_like_scratch(folders, inputs)


def test_files_have_the_tables_columns(half: Folders) -> None:
    old = read_manifest(half).files["funnel_steps"][0]
    wanted = pl.read_parquet_schema(half.root / old.path)
    backfill_funnels(half, NEW)
    for file in read_manifest(half).visible("funnel_steps"):
        assert pl.read_parquet_schema(half.root / file.path) == wanted
