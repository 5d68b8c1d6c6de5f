"""The command line as a user meets it: what it prints where, and how it ends."""

from __future__ import annotations

import csv
import io
import json
from importlib.metadata import version
from pathlib import Path

import pytest

from flows.cli import COMMANDS
from flows.demo import STARTER
from flows.settings import load_config
from sinks.manifest import read_manifest
from sinks.storage import Folders, hold_writer_lock
from tests.support.commanding import SHOP, Commands

EVENTS = 3_000


@pytest.fixture
def journeys(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Commands:
    monkeypatch.chdir(tmp_path)
    return Commands(monkeypatch, capfd)


@pytest.fixture
def shop(journeys: Commands, tmp_path: Path) -> Path:
    """A folder with a shop's events and its warehouse at the default place."""
    assert journeys("generate", "events", "--split", "channel", "--events", EVENTS, "--days", 2).code == 0
    (tmp_path / "journey.toml").write_text(SHOP.read_text(encoding="utf-8"), encoding="utf-8")
    assert journeys("replay", "events").code == 0
    return tmp_path


def read_truth(folder: Path) -> dict[str, int]:
    return json.loads((folder / "_events.truth.json").read_text())["truth"]  # type: ignore[no-any-return]


def test_help_names_every_command(journeys: Commands) -> None:
    ended = journeys("--help")
    assert ended.code == 0
    assert all(f" {command.__name__} " in ended.out for command in COMMANDS)


def test_version_is_the_installed_one(journeys: Commands) -> None:
    assert journeys("--version").out == f"journeystream {version('journeystream')}\n"


def test_replay_finds_what_the_generator_knows(shop: Path, journeys: Commands) -> None:
    truth = read_truth(shop)
    found = journeys("replay", "events", "--warehouse", "again", "--json").read_json()
    assert found["outcome"] == "finished"
    assert found["total"]["received"] == truth["events"] + truth["duplicates"]
    assert (found["events"], found["sessions"]) == (truth["events"], truth["sessions"])
    assert found["total"]["duplicate"] == truth["duplicates"]
    assert found["total"]["waiting"] == 0
    assert [lane["name"] for lane in found["lanes"]] == ["lane-000", "lane-001", "lane-002", "lane-003"]


def test_summary_says_how_to_ask_on(shop: Path, journeys: Commands) -> None:
    ended = journeys("replay", "events", "--warehouse", "again")
    assert ended.out.startswith("Finished in ")
    assert 'journeys sql "FROM funnel_conversion" --warehouse again' in ended.out


def test_a_finished_replay_started_again_says_that_there_is_nothing_to_do(shop: Path, journeys: Commands) -> None:
    ended = journeys("replay", "events")
    assert (ended.code, ended.out.startswith("Nothing to do")) == (0, True)
    assert journeys("replay", "events", "--json").read_json()["outcome"] == "nothing_to_do"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ((), 2, "Usage: journeys"),
        (("bogus",), 2, "No such command"),
        (("replay",), 2, "Missing argument"),
        (("replay", "nowhere.ndjson"), 2, "nowhere.ndjson: there is no such file or folder"),
        (("replay", "e.ndjson", "--lanes", "some"), 2, "auto, each, one"),
        (("replay", "e.ndjson", "--workers", "0"), 2, "--workers"),
        (("replay", "e.ndjson", "--no-recovery", "--recovery", "r"), 2, "exclude each other"),
        (("replay", "e.ndjson", "--no-recovery", "--processes", "2"), 2, "--processes needs"),
        (("replay", "-", "--processes", "2"), 2, "standard input"),
        (("replay", "e.ndjson", "--config", "bad.toml"), 2, "bad.toml:2"),
        (("status",), 2, "there is no warehouse"),
        (("sql", "SELECT 1"), 2, "there is no warehouse"),
        (("show",), 2, "there is no warehouse"),
        (("check",), 2, "there is no warehouse"),
        (("compact",), 2, "there is no warehouse"),
        (("forget", "u-1"), 2, "there is no warehouse"),
        (("backfill",), 2, "there is no warehouse"),
        (("generate", "events.txt"), 2, ".ndjson.gz"),
        (("generate", "events", "--split", "week"), 2, "one, day, channel, both"),
    ],
)
def test_wrong_use_ends_with_2_and_one_message(
    journeys: Commands, tmp_path: Path, arguments: tuple[str, ...], code: int, says: str
) -> None:
    (tmp_path / "e.ndjson").write_text('{"type":"track"}\n')
    (tmp_path / "bad.toml").write_text('[sessions]\ngap = "30min"\n')
    ended = journeys(*arguments)
    assert ended.code == code
    assert says in ended.err + ended.out
    assert "Traceback" not in ended.err
    assert not (tmp_path / "warehouse").exists()


def test_a_failure_ends_with_1_and_its_remedy_on_standard_error(shop: Path, journeys: Commands) -> None:
    (shop / "journey.toml").write_text(SHOP.read_text(encoding="utf-8").replace('gap = "30m"', 'gap = "45m"'))
    ended = journeys("replay", "events")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("error: ")
    assert "\n  → " in ended.err
    assert "Traceback" not in ended.err


def test_a_second_writer_is_told_who_the_first_one_is(shop: Path, journeys: Commands) -> None:
    with hold_writer_lock(Folders(shop / "warehouse"), "test"):
        ended = journeys("replay", "events")
        job = journeys("status", "--json").read_json()["job"]
    assert ended.code == 1
    assert "is being written by process" in ended.err
    assert "(test)" in job
    assert journeys("status", "--json").read_json()["job"] is None


@pytest.mark.parametrize(("lanes", "count"), [("auto", 4), ("each", 4), ("one", 1)])
def test_lanes_can_be_chosen(shop: Path, journeys: Commands, lanes: str, count: int) -> None:
    found = journeys("replay", "events", "--warehouse", "other", "--lanes", lanes, "--json").read_json()
    assert len(found["lanes"]) == count


def test_a_replay_without_recovery_gives_the_same_and_can_not_go_on(shop: Path, journeys: Commands) -> None:
    found = journeys("replay", "events", "--warehouse", "once", "--no-recovery", "--json").read_json()
    assert found["sessions"] == read_truth(shop)["sessions"]
    assert journeys("replay", "events", "--warehouse", "once", "--no-recovery").code == 2


def test_the_recovery_store_can_live_elsewhere(shop: Path, journeys: Commands) -> None:
    assert journeys("replay", "events", "--warehouse", "w", "--recovery", "store").code == 0
    assert list((shop / "store").glob("*.sqlite3"))
    assert not (shop / "w" / "_journeys" / "recovery").exists()
    assert journeys("replay", "events", "--warehouse", "w").code == 1
    assert "Nothing to do" in journeys("replay", "events", "--warehouse", "w", "--recovery", "store").out


def test_sql_answers_as_box_json_and_csv(shop: Path, journeys: Commands) -> None:
    query = "SELECT started_at, channels, NULL AS nothing FROM sessions ORDER BY started_at, session_id LIMIT 2"
    rows = journeys("sql", query, "--json").read_json()
    lines = list(csv.DictReader(io.StringIO(journeys("sql", query, "--csv").out)))
    assert [row["started_at"] for row in rows] == [line["started_at"] for line in lines]
    assert rows[0]["started_at"].endswith("Z")
    assert isinstance(rows[0]["channels"], list)
    assert (rows[0]["nothing"], lines[0]["nothing"]) == (None, "")
    assert "started_at" in journeys("sql", query).out
    assert journeys("sql", query, "--json", "--csv").code == 2


def test_sql_refuses_to_write(shop: Path, journeys: Commands) -> None:
    ended = journeys("sql", "WITH x AS (COPY (SELECT 1) TO 'stolen.csv') SELECT * FROM x")
    assert (ended.code, (shop / "stolen.csv").exists()) == (2, False)


def test_status_counts_every_record_once(shop: Path, journeys: Commands) -> None:
    status = journeys("status", "--json").read_json()
    for row in [*status["ledger"], status["total"]]:
        assert row["received"] == sum(row[name] for name in ("accepted", "duplicate", "late", "dead", "waiting"))
    assert status["complete"] is True
    assert {size["table"]: size["rows"] for size in status["tables"]}["events"] == EVENTS
    assert "read to its end" in journeys("status").out


def test_show_draws_the_funnels_of_the_config(shop: Path, journeys: Commands) -> None:
    out = journeys("show").out
    assert all(title in out for title in ("Sessions by day", "Funnel purchase", "Funnel visit", "Top paths", "Ledger"))


def test_check_ends_with_0_for_a_right_warehouse_and_1_for_a_wrong_one(shop: Path, journeys: Commands) -> None:
    good = journeys("check")
    assert (good.code, "all agree" in good.out) == (0, True)
    assert journeys("check", "--json").read_json()["ok"] is True
    folders = Folders(shop / "warehouse")
    (folders.root / read_manifest(folders).visible("sessions")[0].path).unlink()
    bad = journeys("check")
    assert (bad.code, "DIFFERS" in bad.out) == (1, True)
    assert journeys("check", "--json").read_json()["ok"] is False


def test_forget_compact_and_backfill_print_what_they_did(shop: Path, journeys: Commands) -> None:
    person = journeys("sql", "SELECT min(person_id) AS id FROM sessions", "--json").read_json()[0]["id"]
    receipt = journeys("forget", person, "--json").read_json()
    assert receipt["verified"] is True
    assert receipt["removed"]["sessions"] >= 1
    assert journeys("sql", f"SELECT count(*) AS n FROM events WHERE person_id = '{person}'", "--json").read_json() == [
        {"n": 0}
    ]
    assert journeys("compact", "--json").read_json()["version"] >= 1
    assert journeys("backfill", "--json").read_json()["outcome"] == "nothing_to_do"
    config = SHOP.read_text(encoding="utf-8").replace('within = "7d"', 'within = "1h"')
    (shop / "journey.toml").write_text(config, encoding="utf-8")
    assert "funnels: purchase" in journeys("backfill").out
    assert journeys("check").code == 0


def test_demo_finds_the_known_truth_and_begins_anew_each_time(journeys: Commands, tmp_path: Path) -> None:
    for _ in range(2):
        found = journeys("demo", "--folder", "d", "--events", 2_000, "--days", 3, "--json").read_json()
        assert found["differences"] == []
        assert found["outcome"] == "finished"
        assert found["events"] == found["truth"]["events"] == 2_000


def test_demo_shows_pictures_and_how_to_go_on(journeys: Commands) -> None:
    out = journeys("demo", "--folder", "d", "--events", 2_000, "--days", 3).out
    shown = ("Funnel purchase", "Transitions", "Top paths", "journey.toml", "[input.fields]")
    assert all(word in out for word in shown)


def test_demo_leaves_a_folder_alone_that_is_not_its_own(journeys: Commands, tmp_path: Path) -> None:
    (tmp_path / "d" / "events").mkdir(parents=True)
    (tmp_path / "d" / "events" / "mine.ndjson").write_text("{}\n")
    assert journeys("demo", "--folder", "d").code == 2
    assert (tmp_path / "d" / "events" / "mine.ndjson").exists()


def test_the_starter_config_of_the_demo_is_a_right_one(journeys: Commands, tmp_path: Path) -> None:
    (tmp_path / "journey.toml").write_text(STARTER, encoding="utf-8")
    assert load_config(tmp_path / "journey.toml").funnels[0].name == "purchase"


@pytest.mark.parametrize("ending", [".ndjson", ".ndjson.gz", ".ndjson.zst", ".csv", ".parquet"])
def test_generated_files_of_every_kind_hold_the_same_journeys(journeys: Commands, tmp_path: Path, ending: str) -> None:
    made = journeys("generate", f"events{ending}", "--events", 1_000, "--days", 1, "--json").read_json()
    found = journeys("replay", f"events{ending}", "--json").read_json()
    assert found["sessions"] == made["truth"]["sessions"]
    assert found["total"]["received"] == made["records"]
    assert found["total"]["dead"] == 0


def test_equal_seeds_give_equal_bytes_and_other_seeds_do_not(journeys: Commands, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert journeys("generate", f"{name}.ndjson.gz", "--events", 500, "--seed", seed).code == 0
    one, same, other = ((tmp_path / f"{name}.ndjson.gz").read_bytes() for name in "abc")
    assert one == same != other


@pytest.mark.parametrize(("split", "counts"), [("day", (3, 4)), ("channel", (4,)), ("both", (12, 16))])
def test_generated_files_can_be_split(journeys: Commands, split: str, counts: tuple[int, ...]) -> None:
    made = journeys("generate", "out", "--split", split, "--events", 30_000, "--days", 3, "--json").read_json()
    assert len(made["files"]) in counts  # the days are about as many as were asked for
    assert sum(made["files"].values()) == made["truth"]["events"] + made["truth"]["duplicates"]
