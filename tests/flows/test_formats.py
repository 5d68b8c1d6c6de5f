"""Replays of every kind of sample through the command line, from journey.toml to the tables."""

from __future__ import annotations

import gzip
from pathlib import Path

import duckdb
import pytest

from tests.support.commanding import Commands

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "tests" / "samples" / "formats"
Rows = list[tuple[object, ...]]


@pytest.fixture
def journeys(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Commands:
    monkeypatch.chdir(tmp_path)
    return Commands(monkeypatch, capfd)


def query(sql: str) -> Rows:
    with duckdb.connect("warehouse/journeys.duckdb", read_only=True) as connection:
        return connection.sql(sql).fetchall()


def set_format(name: str) -> None:
    Path("journey.toml").write_text(f'[input]\nformat = "{name}"\n', encoding="utf-8")


@pytest.mark.parametrize("name", ["snowplow.tsv", "snowplow.tsv.gz", "snowplow.gz", "snowplow.log"])
def test_replay_of_snowplows_lines(journeys: Commands, name: str) -> None:
    set_format("snowplow")
    lines = (SAMPLES / "snowplow.tsv").read_bytes() + b"cut\toff\n{\n"
    Path(name).write_bytes(gzip.compress(lines) if name.endswith(".gz") else lines)
    assert journeys("replay", name).code == 0
    assert query("SELECT event_name, person_id, source_position FROM events ORDER BY source_position") == [
        ("page_view", "duid-1", 0),
        ("Play", "u-5", 1),
        ("order_placed", "install-3", 2),
        ("paid", "nuid-4", 3),
    ]
    assert query("SELECT reason, source_position, raw FROM dead_letters ORDER BY source_position") == [
        ("bad_row", 4, b"cut\toff"),
        ("not_json", 5, b"{"),
    ]
    assert journeys("check").code == 0


def test_same_events_in_both_kinds_of_snowplows_lines_are_counted_once(journeys: Commands, tmp_path: Path) -> None:
    set_format("snowplow")
    (tmp_path / "events").mkdir()
    for name in ("snowplow.ndjson", "snowplow.tsv"):
        (tmp_path / "events" / name).write_bytes((SAMPLES / name).read_bytes())
    ended = journeys("replay", "events", "--json").read_json()
    assert (ended["outcome"], ended["total"]["received"], ended["total"]["duplicate"]) == ("finished", 7, 3)
    assert journeys("check").code == 0


@pytest.mark.parametrize(
    ("name", "events", "dead"),
    [
        ("cloudevents", ["example.kiosk.touched", "example.shop.order.placed", "Pricing"], 1),
        ("eventbridge", ["Order Placed", "Product Added"], 0),
        ("eventgrid", ["Shop.OrderPlaced", "identify"], 0),
        ("posthog", ["$identify", "$pageview", "$screen", "order shipped"], 0),
        ("ga4", ["page_view", "purchase", "screen_view"], 0),
        ("amplitude", ["Checkout", "Refund", "[Amplitude] Page Viewed"], 0),
    ],
)
def test_replay_of_a_sample(journeys: Commands, name: str, events: list[str], dead: int) -> None:
    set_format(name)
    found = journeys("replay", str(SAMPLES / f"{name}.ndjson"), "--json").read_json()
    assert (found["total"]["accepted"], found["total"]["dead"]) == (len(events), dead)
    assert [row[0] for row in query("SELECT event_name FROM events ORDER BY lower(event_name)")] == sorted(
        events, key=str.lower
    )
    assert journeys("check").code == 0


def test_replay_of_a_support_desk_by_mapping_alone(journeys: Commands) -> None:
    config = ROOT / "data" / "examples" / "support-desk.toml"
    assert journeys("replay", str(SAMPLES / "support-desk.ndjson"), "--config", str(config)).code == 0
    assert query("SELECT person_id, channel, step FROM events ORDER BY event_time") == [
        ("u-1", "support", "complaint"),
        ("20978393", "support", "complaint"),
        ("u-2", "support", "help"),
    ]


def test_tab_separated_file_of_another_format_is_refused_before_a_warehouse_is_made(journeys: Commands) -> None:
    Path("a.tsv").write_bytes(b"a\tb\n")
    ended = journeys("replay", "a.tsv")
    assert ended.code == 2
    assert 'set format = "snowplow" under [input]' in ended.err
    assert not Path("warehouse").exists()


def test_format_that_is_unknown_is_answered_with_those_there_are(journeys: Commands) -> None:
    set_format("snowplough")
    ended = journeys("replay", str(SAMPLES / "snowplow.tsv"))
    assert ended.code == 2
    assert 'did you mean "snowplow"?' in ended.err
    assert '"cloudevents"' in ended.err
