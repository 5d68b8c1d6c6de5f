"""`journeys parity`: warehouses of the same records are the same, and whatever differs is found, counted and shown."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from config import HOUR, MINUTE, Config, FunnelRules, SessionRules, StepRule
from errors import FormatError, InputError, UsageError
from events.schema import TABLES
from flows.replay import ReplayOptions, run_replay
from maps.parity import compare_warehouses
from maps.parity_report import ParityReport, TableParity
from sinks.manifest import read_manifest
from sinks.storage import Folders
from tests.sample_warehouse import JOB, get_finished, get_stopped, make_config
from tests.support.commanding import Commands
from tests.support.tampering import Change, add_to_first, drop_last, repeat_first, set_first, tamper


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(get_finished(tmp_path_factory))


@pytest.fixture
def copied(tmp_path: Path, original: Folders) -> Folders:
    return Folders(shutil.copytree(original.root, tmp_path / "warehouse"))


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(get_stopped(tmp_path_factory))


@pytest.fixture(scope="module")
def gone_on(tmp_path_factory: pytest.TempPathFactory, stopped: Folders) -> Folders:
    """The whole answer to the records that the stopped job began with, by another job of another shape."""
    folders = Folders(tmp_path_factory.mktemp("whole") / "warehouse")
    config = replace(make_config(), job=replace(JOB, key_groups=3, block_bytes=1 << 20))
    assert run_replay(ReplayOptions((str(stopped.root.parent / "shop.ndjson"),), folders.root), config)
    return folders


def get_table(report: ParityReport, table: str) -> TableParity:
    return next(one for one in report.tables if one.table == table)


def list_differing(report: ParityReport) -> list[str]:
    return [one.table for one in report.tables if one.differs]


def test_every_table_of_a_copy_is_the_same(original: Folders, copied: Folders) -> None:
    report = compare_warehouses(original, copied)
    assert report.same
    assert [one.table for one in report.tables] == list(TABLES)
    assert all(one.rows_left == one.rows_right > 0 for one in report.tables)
    assert (report.until, report.notes) == (None, ())


def test_other_commits_groups_blocks_and_lanes_are_the_same_but_not_to_the_letter(
    original: Folders, tmp_path: Path
) -> None:
    """Renamed files, in one commit of other key groups: the numbers stay, the names of places do not."""
    folder = original.root.parent
    for new, old in (("a.ndjson", "shop.ndjson"), ("b.ndjson", "odd.ndjson")):
        shutil.copy(folder / old, tmp_path / new)
    config = replace(make_config(), job=replace(JOB, key_groups=3, block_bytes=8 << 20, snapshot=HOUR))
    run_replay(ReplayOptions((str(tmp_path / "*.ndjson"),), tmp_path / "other"), config)
    other = Folders(tmp_path / "other")
    report = compare_warehouses(original, other)
    assert report.same, [line for one in report.tables for line in one.describe()]
    strict = compare_warehouses(original, other, strict=True)
    assert list_differing(strict) == ["events", "late_events", "dead_letters", "ledger"]
    lines = list(get_table(strict, "events").describe())
    assert "source: 'odd.ndjson' | 'b.ndjson'" in lines[0]


CASES: dict[str, tuple[str, Change, tuple[int, int]]] = {
    "event missing": ("events", drop_last, (1, 0)),
    "event twice": ("events", repeat_first, (0, 1)),
    "event's properties": ("events", set_first("properties", "{}"), (1, 1)),
    "event's number": ("events", add_to_first("session_index", 1), (1, 1)),
    "session missing": ("sessions", drop_last, (1, 0)),
    "session's steps": (
        "sessions",
        lambda frame: frame.with_columns(
            steps=pl.when(pl.int_range(pl.len()) == 0).then(pl.lit(["x"])).otherwise("steps")
        ),
        (1, 1),
    ),
    "session lasted longer": ("sessions", add_to_first("duration_s", 0.000_001), (1, 1)),
    "transition once more": ("transitions", add_to_first("transitions", 1), (1, 1)),
    "transition's time": ("transitions", add_to_first("total_seconds", 0.000_001), (1, 1)),
    "transition's histogram": (
        "transitions",
        lambda frame: frame.with_columns(
            seconds_histogram=pl.when(pl.col("seconds_histogram").list.len().cum_max().shift(1, fill_value=0) == 0)
            .then(pl.col("seconds_histogram").list.head(0))
            .otherwise("seconds_histogram")
        ),
        (1, 1),
    ),
    "path missing": ("paths", lambda frame: frame.filter(pl.int_range(pl.len()) > 0), (1, 0)),
    "path's hash": ("paths", set_first("path_hash", "0" * 32), (1, 1)),
    "funnel step twice": ("funnel_steps", repeat_first, (0, 1)),
    "funnel step later": ("funnel_steps", add_to_first("seconds_from_previous", 1.0), (1, 1)),
    "late event missing": ("late_events", drop_last, (1, 0)),
    "late event's record": ("late_events", lambda frame: frame.with_columns(raw=pl.lit(b"{}")), (1, 1)),
    "dead letter missing": ("dead_letters", drop_last, (1, 0)),
    "dead letter's reason": ("dead_letters", set_first("reason", "no_name"), (1, 1)),
    "record received once more": ("ledger", add_to_first("received", 1), (1, 1)),
    "duplicate that was none": ("ledger", add_to_first("duplicate", 1), (1, 1)),
}


@pytest.mark.parametrize("name", CASES)
def test_tampered_row_is_found_in_its_table_alone(original: Folders, copied: Folders, name: str) -> None:
    table, change, (left, right) = CASES[name]
    tamper(copied, table, change)
    report = compare_warehouses(original, copied)
    assert not report.same
    assert list_differing(report) == [table]
    found = get_table(report, table)
    assert (found.only_left, found.only_right) == (left, right)
    assert (len(found.left), len(found.right)) == (left, right)
    assert 1 <= len(list(found.describe())) <= left + right
    json.dumps(report.to_json())


def test_two_rows_of_one_key_are_shown_as_what_differs(original: Folders, copied: Folders) -> None:
    tamper(copied, "sessions", set_first("exit_step", "elsewhere"))
    (line,) = get_table(compare_warehouses(original, copied), "sessions").describe()
    assert line.startswith("left | right  person_id = ")
    assert line.endswith(" | 'elsewhere'")
    assert "exit_step: " in line
    assert "entry_step" not in line


def test_row_that_is_there_twice_is_told_with_how_often(original: Folders, copied: Folders) -> None:
    tamper(copied, "events", repeat_first)
    (line,) = get_table(compare_warehouses(original, copied), "events").describe()
    assert line.startswith("only right (2 times, 1 in the other)  event_id = ")


def test_rows_shown_are_bounded_and_counted_all_the_same(original: Folders, copied: Folders) -> None:
    tamper(copied, "events", lambda frame: frame.with_columns(referrer=pl.lit("https://other.example/")))
    for rows in (0, 2, 7):
        found = get_table(compare_warehouses(original, copied, rows=rows), "events")
        assert found.only_left == found.only_right > 7
        assert (len(found.left), len(found.right)) == (rows, rows)
        # The right rows that are shown are those of the left ones.
        assert len(list(found.describe())) == rows


def test_job_that_was_stopped_is_compared_as_far_as_it_has_settled(stopped: Folders, gone_on: Folders) -> None:
    report = compare_warehouses(stopped, gone_on)
    assert report.same, [line for one in report.tables for line in one.describe()]
    assert report.until == report.left.settled is not None
    assert report.right.settled is None
    assert 0 < get_table(report, "sessions").rows_left < report.left.events
    assert "ledger" not in [one.table for one in report.tables]
    assert report.left.open_sessions > 0
    assert report.left.waiting > 0
    assert any("left out, as not settled" in note for note in report.notes)
    assert compare_warehouses(gone_on, stopped).same


@pytest.mark.parametrize("table", ["events", "sessions", "transitions", "paths", "funnel_steps"])
def test_what_has_settled_hides_no_difference(stopped: Folders, gone_on: Folders, tmp_path: Path, table: str) -> None:
    copied = Folders(shutil.copytree(stopped.root, tmp_path / "copied"))
    path = copied.root / min(read_manifest(copied).files[table], key=lambda file: file.dt).path
    pl.read_parquet(path, hive_partitioning=False)[1:].write_parquet(path)
    assert list_differing(compare_warehouses(copied, gone_on)) == [table]


def test_a_later_time_shows_what_is_open_and_says_so(stopped: Folders, gone_on: Folders) -> None:
    for until in (None, compare_warehouses(stopped, gone_on).left.newest_event):
        report = compare_warehouses(stopped, gone_on, until=until)
        assert not report.same
        assert get_table(report, "sessions").only_left == 0
        assert get_table(report, "sessions").only_right > 0
        told = "\n".join(report.notes)
        assert "was not read to its end" in told
        assert "and more was compared" in told
        assert "of the sessions that only right has are still open in left" in told


def test_nothing_settled_is_no_agreement(stopped: Folders, gone_on: Folders) -> None:
    with pytest.raises(UsageError, match=r"nothing had settled by 1970-01-01T01:00:00Z"):
        compare_warehouses(stopped, gone_on, until=HOUR)


@pytest.mark.parametrize(
    ("section", "changes"),
    [
        ("[sessions]", {"sessions": SessionRules(gap=45 * MINUTE)}),
        ("[[steps]]", {"steps": (StepRule("x", "page = '/x'"),)}),
        ("[funnels]", {"funnels": (FunnelRules("f", ("a", "b")),)}),
    ],
)
def test_other_settings_are_an_error_that_names_them(tmp_path: Path, section: str, changes: dict[str, object]) -> None:
    (tmp_path / "in.ndjson").write_text('{"event":"a","userId":"u","timestamp":"2026-01-05T08:00:00Z"}\n')
    for name, config in (("one", Config()), ("other", replace(Config(), **changes))):  # type: ignore[arg-type]
        run_replay(ReplayOptions((str(tmp_path / "in.ndjson"),), tmp_path / name), config)
    with pytest.raises(UsageError) as caught:
        compare_warehouses(Folders(tmp_path / "one"), Folders(tmp_path / "other"))
    assert f"were made with other settings in {section}: their tables can't be the same" in caught.value.problem
    assert "journey.toml" in caught.value.remedy


def test_other_input_is_compared_with_a_note(tmp_path: Path) -> None:
    (tmp_path / "in.ndjson").write_text('{"event":"a","userId":"u","timestamp":"2026-01-05T08:00:00Z"}\n')
    config = Config()
    other = replace(config, input=replace(config.input, channel="web"))
    for name, one in (("one", config), ("other", other)):
        run_replay(ReplayOptions((str(tmp_path / "in.ndjson"),), tmp_path / name), one)
    report = compare_warehouses(Folders(tmp_path / "one"), Folders(tmp_path / "other"))
    assert list_differing(report) == ["events", "sessions", "transitions"]
    assert report.notes == ("[input] is not the same: records may have been read in another way",)


def test_missing_file_and_missing_warehouse_are_errors(original: Folders, copied: Folders, tmp_path: Path) -> None:
    (copied.root / read_manifest(copied).files["sessions"][0].path).unlink()
    with pytest.raises(FormatError, match=r"(?s)can't be read.*journeys check"):
        compare_warehouses(original, copied)
    with pytest.raises(InputError, match="there is no warehouse"):
        compare_warehouses(original, Folders(tmp_path / "nowhere"))


def test_command_prints_a_table_and_rows_and_ends_with_0_1_or_2(
    original: Folders,
    copied: Folders,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    journeys = Commands(monkeypatch, capfd)
    good = journeys("parity", original.root, copied.root)
    assert (good.code, good.err) == (0, "")
    assert good.out.splitlines()[1].split("  ")[0] == "table"
    assert good.out.endswith("\nthe same\n")
    assert journeys("parity", original.root, copied.root, "--json").read_json()["same"] is True
    tamper(copied, "sessions", set_first("exit_step", "elsewhere"))
    bad = journeys("parity", original.root, copied.root)
    assert (bad.code, bad.out.endswith("\nNOT the same\n")) == (1, True)
    assert "\nsessions: left | right  person_id = " in bad.out
    assert "sessions: " not in journeys("parity", original.root, copied.root, "--rows", 0).out
    found = journeys("parity", original.root, copied.root, "--json", "--until", "2026-02-20T09:00:00Z")
    assert found.code == 1
    assert found.read_json()["until"] == "2026-02-20T09:00:00Z"
    for wrong in (("--until", "yesterday"), ("--rows", "-1"), ("--until", "1970-01-02")):
        assert journeys("parity", original.root, copied.root, *wrong).code == 2
    assert journeys("parity", original.root).code == 2
