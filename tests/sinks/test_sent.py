"""What was sent of the commits: which wait, in which order, and who has to leave them alone."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path

import polars as pl
import pytest

from errors import FormatError
from events.schema import TABLES, empty
from sinks.compaction import plan_merges
from sinks.forgetting import Target, rewrite_files
from sinks.kafka_topic import write_lines
from sinks.manifest import DataFile, Manifest
from sinks.rewriting import write_data
from sinks.sent import (
    Commit,
    find_place,
    find_unsent,
    join_positions,
    list_commits,
    prepare_positions,
    read_position,
    write_position,
)
from sinks.storage import Folders


def make_file(table: str, part: str, commit: int, number: int = 1, day: str = "2026-01-05") -> DataFile:
    return DataFile(f"{table}/dt={day}/{part}-00003-{commit - 1:07d}-{number:05d}.parquet", 1, 1, day)


def test_a_data_files_name_tells_its_commit_and_a_merged_ones_does_not() -> None:
    assert find_place(make_file("sessions", "w01", 7).path) == ("w01", 7, "w01-00003-0000006-00001")
    assert find_place("events/dt=2026-01-05/w00-00001-0000000-00002-forgot-0000009-00001.parquet") == (
        "w00",
        1,
        "w00-00001-0000000-00002",
    )
    assert find_place("events/dt=2026-01-05/merged-0000009-00001.parquet") is None
    assert find_place("events/dt=2026-01-05/backfill-0000009-base-00001.parquet") is None


def test_commits_wait_in_their_order_with_their_files_in_theirs() -> None:
    late = make_file("sessions", "w00", 2, 1, "2026-01-06")
    early = make_file("sessions", "w00", 2, 1, "2026-01-05")
    second = make_file("sessions", "w00", 2, 2, "2026-01-04")
    other, done = make_file("events", "w00", 2), make_file("sessions", "w00", 1)
    elsewhere = make_file("sessions", "w01", 1)
    merged = DataFile("sessions/dt=2026-01-05/merged-0000001-00001.parquet", 9, 9, "2026-01-05")
    files = {"sessions": (late, second, merged, early, done, elsewhere), "events": (other,)}
    found = list_commits(Manifest(files=files), ["sessions"], {"w00": 1})
    assert found == [
        Commit("w01", 1, {"sessions": (elsewhere,)}),
        Commit("w00", 2, {"sessions": (early, late, second)}),
    ]
    assert [commit.name for commit in found] == ["w01/1", "w00/2"]
    both = list_commits(Manifest(files=files), ["sessions", "events"], {"w00": 1, "w01": 1})
    assert list(both[0].files) == ["sessions", "events"]


def test_new_sink_begins_behind_what_is_there_and_one_that_is_gone_is_forgotten(tmp_path: Path) -> None:
    folders = Folders(tmp_path)
    folders.make()
    assert find_unsent(folders, [make_file("events", "w00", 1)]) == set()
    prepare_positions(folders, ["a", "b"], Manifest(parts={"w00": 3}))
    write_position(folders, "a", {"w00": 5})
    prepare_positions(folders, ["a", "c"], Manifest(parts={"w00": 6}))
    assert (read_position(folders, "a"), read_position(folders, "c")) == ({"w00": 5}, {"w00": 6})
    with pytest.raises(FormatError):
        read_position(folders, "b")
    fifth, sixth, seventh = (make_file("events", "w00", number) for number in (5, 6, 7))
    first = make_file("events", "w01", 1)
    assert find_unsent(folders, [fifth, sixth, seventh, first]) == {sixth, seventh, first}
    prepare_positions(folders, [], Manifest())
    assert find_unsent(folders, [seventh]) == set()


def test_the_farther_of_two_positions_counts_for_each_writer() -> None:
    assert join_positions({"w00": 3, "w01": 1}, {"w00": 2, "w02": 4}) == {"w00": 3, "w01": 1, "w02": 4}


def test_rows_are_lines_of_plain_json() -> None:
    moment = datetime(2026, 1, 5, 8, 0, 0, 123_456, tzinfo=timezone.utc)
    row = {
        "person_id": "\u00fc\r\n\u2028",
        "started_at": moment,
        "steps": ["a", "b"],
        "path_cut": True,
        "duration_s": 0.1,
    }
    frame = pl.concat([empty("sessions").drop("dt"), pl.DataFrame([row])], how="diagonal_relaxed")
    (line,) = write_lines(frame, "2026-01-05")
    assert b"\n" not in line
    told = json.loads(line)
    assert list(told) == [*TABLES["sessions"], "dt"]
    assert told == dict.fromkeys(TABLES["sessions"]) | row | {
        "started_at": "2026-01-05T08:00:00.123456Z",
        "dt": "2026-01-05",
    }
    dead = pl.DataFrame([{"raw": b"\xff{"}], schema={"raw": pl.Binary})
    assert json.loads(next(write_lines(dead, "2026-01-05")))["raw"] == "\ufffd{"
    bars = pl.DataFrame([{"seconds_histogram": [{"bucket": 1, "n": 2}]}])
    assert json.loads(next(write_lines(bars, "2026-01-05")))["seconds_histogram"] == [{"bucket": 1, "n": 2}]
    assert list(write_lines(empty("sessions").drop("dt"), "2026-01-05")) == []


def test_commit_that_waits_is_told_from_a_file_in_which_a_person_was_forgotten(tmp_path: Path) -> None:
    folders = Folders(tmp_path)
    folders.make()
    rows = pl.DataFrame({"session_id": ["1", "2"], "person_id": ["gone", "stays"]})
    frame = pl.concat([empty("sessions").drop("dt"), rows], how="diagonal_relaxed")
    written = write_data(folders, "sessions", "2026-01-05", "w00-00001-0000002-00001", frame)
    manifest = Manifest(files={"sessions": (written,)}, parts={"w00": 3})
    done = rewrite_files(folders, manifest, Target("gone", frozenset(["gone"])))
    (commit,) = list_commits(Manifest(files=done.files), ["sessions"], {"w00": 2})
    (file,) = commit.files["sessions"]
    assert (commit.name, file.rows, file.path != written.path) == ("w00/3", 1, True)
    assert list_commits(Manifest(files=done.files), ["sessions"], {"w00": 3}) == []


def test_what_a_topic_waits_for_is_not_merged(tmp_path: Path) -> None:
    folders = Folders(tmp_path)
    folders.make()
    frame = pl.concat(
        [empty("sessions").drop("dt"), pl.DataFrame({"session_id": ["1"], "person_id": ["p"]})], how="diagonal_relaxed"
    )
    files = tuple(
        write_data(folders, "sessions", "2026-01-05", f"w00-00001-{number:07d}-00001", frame) for number in range(4)
    )
    manifest = Manifest(files={"sessions": files}, parts={"w00": 4})
    assert list(plan_merges(folders, "sessions", manifest, 1 << 30, 1 << 30)) == [files]
    prepare_positions(folders, ["a"], Manifest(parts={"w00": 2}))
    assert list(plan_merges(folders, "sessions", manifest, 1 << 30, 1 << 30)) == [files[:2]]
