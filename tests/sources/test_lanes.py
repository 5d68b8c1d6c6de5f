"""Which files follow one another, over one run and several; and what may have changed in between."""

from __future__ import annotations

import gzip
import random
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config import InputRules
from errors import InputError, SourceChangedError
from events.decode import make_decoder
from sources.discover import FoundFile, find_files
from sources.lanes import Lane, LaneFile, _find_lane, check_lanes, describe_lanes, plan_lanes
from tests.support.files import dump_lines, pack_gzip, write_parquet
from tests.support.records import Row, track

DAY = 86_400
MINUTE = 60 * 1_000_000
BEGIN = 1_767_571_200
DECODE = make_decoder(InputRules(), (), (BEGIN + 100 * DAY) * 1_000_000)


def rows(first: float, last: float, count: int = 5) -> list[Row]:
    """Make records at even distances from one time to another, in days."""
    step = (last - first) / max(1, count - 1)
    return [track(timestamp=BEGIN + (first + i * step) * DAY, messageId=f"{first}-{i}") for i in range(count)]


def write(folder: Path, **ranges: tuple[float, float]) -> None:
    folder.mkdir(exist_ok=True)
    for name, (first, last) in ranges.items():
        (folder / f"{name}.ndjson").write_bytes(dump_lines(rows(first, last)))


def plan(folder: Path, known: Sequence[Lane] = (), mode: str = "auto") -> tuple[Lane, ...]:
    return plan_lanes(find_files([str(folder)]), known, DECODE, mode, MINUTE)


def show(lanes: Sequence[Lane]) -> list[list[str]]:
    return [[entry.file.name.split(".")[0] for entry in lane.files] for lane in lanes]


def test_daily_files_are_one_lane_in_order_of_time(tmp_path: Path) -> None:
    write(tmp_path, b=(0, 0.99), a=(1, 1.99), c=(2, 2.99))
    lanes = plan(tmp_path)
    assert show(lanes) == [["b", "a", "c"]]
    assert lanes[0].name == "lane-000"


def test_files_that_overlap_are_lanes_of_their_own(tmp_path: Path) -> None:
    write(tmp_path, web=(0, 5), mobile=(0.1, 5), support=(0.2, 4.9))
    lanes = plan(tmp_path)
    assert show(lanes) == [["web"], ["mobile"], ["support"]]
    assert [lane.name for lane in lanes] == ["lane-000", "lane-001", "lane-002"]


def test_overlap_within_the_lateness_is_forgiven(tmp_path: Path) -> None:
    write(tmp_path, a=(0, 1), b=(1 - 60 / DAY, 2), c=(2 - 61 / DAY, 3))
    assert show(plan(tmp_path)) == [["a", "b"], ["c"]]


def test_daily_files_per_channel_are_a_lane_per_channel(tmp_path: Path) -> None:
    days = {}
    for day in range(4):
        for number, channel in enumerate(("web", "app", "call")):
            # Which of them begins or ends a day first changes daily.
            shift = ((number + day) % 3) / 1000
            days[f"{channel}-2026-01-{day + 5:02d}"] = (day + shift, day + 0.99 + shift)
    write(tmp_path, **days)
    lanes = plan(tmp_path)
    assert sorted(show(lanes)) == sorted(
        [[f"{c}-2026-01-{d + 5:02d}" for d in range(4)] for c in ("web", "app", "call")]
    )


def test_each_and_one_overrule(tmp_path: Path) -> None:
    write(tmp_path, a=(0, 1), b=(2, 3), c=(0, 3))
    assert show(plan(tmp_path, mode="each")) == [["a"], ["b"], ["c"]]
    assert show(plan(tmp_path, mode="one")) == [["a", "b", "c"]]


def test_one_file_is_not_looked_at_before_it_is_read(tmp_path: Path) -> None:
    write(tmp_path, a=(0, 1))
    ((lane,),) = [plan(tmp_path)]
    assert (lane.files[0].first, lane.files[0].last) == (None, None)


def test_files_without_events_stand_in_the_first_lane(tmp_path: Path) -> None:
    write(tmp_path, a=(0, 1), b=(0, 1))
    (tmp_path / "empty.ndjson").touch()
    (tmp_path / "bad.ndjson").write_bytes(b"{}\nx\n")
    assert show(plan(tmp_path)) == [["a", "bad", "empty"], ["b"]]
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "empty.ndjson").touch()
    (alone / "void.csv").touch()
    assert show(plan(alone)) == [["empty", "void"]]


def test_new_files_of_a_later_run_follow_the_lane_they_fit(tmp_path: Path) -> None:
    write(tmp_path, web_1=(0, 0.9), app_1=(0, 0.95))
    first = plan(tmp_path)
    write(tmp_path, app_2=(1, 1.9), web_2=(1, 1.95), odd=(0.5, 1.5))
    assert show(plan(tmp_path, first)) == [["web_1", "web_2"], ["app_1", "app_2"], ["odd"]]


def test_first_file_of_a_job_is_followed_by_the_second_day_though_it_was_never_looked_at(tmp_path: Path) -> None:
    write(tmp_path, day_1=(0, 0.9))
    lanes = plan(tmp_path)
    write(tmp_path, day_2=(1, 1.9), other=(0.3, 0.6))
    assert show(plan(tmp_path, lanes)) == [["day_1", "day_2"], ["other"]]
    (tmp_path / "day_1.ndjson").unlink()
    assert show(plan(tmp_path, lanes)) == [["day_1", "other", "day_2"]]


def test_known_lanes_keep_names_and_order_whatever_is_found(tmp_path: Path) -> None:
    write(tmp_path, a=(0, 1), b=(0.5, 3))
    lanes = plan(tmp_path)
    again = plan(tmp_path, tuple(reversed(lanes)))
    assert show(again) == [["b"], ["a"]]
    assert [lane.name for lane in again] == ["lane-001", "lane-000"]


def test_file_that_grew_ends_later_for_those_that_follow(tmp_path: Path) -> None:
    write(tmp_path, a=(0, 1), b=(0.5, 0.6))
    lanes = plan(tmp_path)
    with (tmp_path / "a.ndjson").open("ab") as file:
        file.write(dump_lines(rows(1, 3)))
    write(tmp_path, c=(2, 4))
    later = plan(tmp_path, lanes)
    assert show(later) == [["a"], ["b", "c"]]
    assert later[0].files[0].file.size == (tmp_path / "a.ndjson").stat().st_size


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20)), min_size=1, max_size=15), st.integers(0, 3))
def test_files_of_one_lane_never_overlap_beyond_the_lateness(spans: list[tuple[int, int]], lateness: int) -> None:
    """Files are given as found with their times known, in two runs."""
    entries = [
        LaneFile(FoundFile(f"/{i}", f"{i}", "ndjson", "", 1), "", first, first + size)
        for i, (first, size) in enumerate(spans)
    ]
    lanes: list[Lane] = []
    for entry in sorted(entries, key=lambda entry: (entry.first, entry.last)):
        at = _find_lane(lanes, entry, "auto", lateness)
        if at is None:
            lanes.append(Lane(f"lane-{len(lanes)}", (entry,)))
        else:
            lanes[at] = Lane(lanes[at].name, (*lanes[at].files, entry))
    assert sum(len(lane.files) for lane in lanes) == len(entries)
    for lane in lanes:
        for before, after in pairwise(lane.files):
            assert before.last is not None
            assert after.first is not None
            assert before.last <= after.first + lateness


def one_lane(tmp_path: Path, content: bytes, name: str = "a.ndjson") -> tuple[Lane, ...]:
    (tmp_path / name).write_bytes(content)
    return plan(tmp_path)


TEXT = dump_lines(rows(0, 1))
BIG = dump_lines(rows(0, 1, 200))


def test_unchanged_files_pass(tmp_path: Path) -> None:
    write(tmp_path, a=(0, 1), b=(2, 3))
    for position in ((0, 0), (0, 100), (1, 0), (1, 100), (2, 0)):
        assert check_lanes(plan(tmp_path), {"lane-000": position}) == []


def test_file_read_whole_may_be_gone_and_one_that_was_not_may_not(tmp_path: Path) -> None:
    write(tmp_path, a=(0, 1), b=(2, 3))
    lanes = plan(tmp_path)
    (tmp_path / "a.ndjson").unlink()
    (note,) = check_lanes(lanes, {"lane-000": (1, 0)})
    assert "a.ndjson: was read whole and is gone now" in note
    for position in ((0, 0), (0, 50)):
        with pytest.raises(
            SourceChangedError, match=r"a\.ndjson: vanished before it was read to its end \(lane lane-000\)"
        ):
            check_lanes(lanes, {"lane-000": position})


@pytest.mark.parametrize(
    "content", [TEXT.replace(b'"E"', b'"F"'), TEXT[:-10], b"", BIG], ids=["other", "cut", "empty", "longer"]
)
def test_file_that_changed_where_it_was_read_is_an_error_and_before_that_is_not(tmp_path: Path, content: bytes) -> None:
    lanes = one_lane(tmp_path, TEXT)
    (tmp_path / "a.ndjson").write_bytes(content)
    assert check_lanes(lanes, {"lane-000": (0, 0)}) == []
    with pytest.raises(SourceChangedError, match=r"a\.ndjson: changed since it was read") as caught:
        check_lanes(lanes, {"lane-000": (0, 50)})
    assert "new warehouse" in caught.value.remedy


@pytest.mark.parametrize("content", [TEXT, BIG])
@pytest.mark.parametrize("name", ["a.ndjson", "a.ndjson.gz"])
def test_last_file_may_grow_by_whole_lines(tmp_path: Path, content: bytes, name: str) -> None:
    pack = (lambda plain: pack_gzip(plain, 1)) if name.endswith(".gz") else bytes
    lanes = one_lane(tmp_path, pack(content), name)
    with (tmp_path / name).open("ab") as file:
        file.write(pack(dump_lines(rows(1, 2))))
    assert check_lanes(lanes, {"lane-000": (0, len(content))}) == []
    assert check_lanes(lanes, {"lane-000": (0, content.index(b"\n") + 1)}) == []
    with pytest.raises(SourceChangedError, match="grew after it was read whole and later files were begun"):
        check_lanes(lanes, {"lane-000": (1, 0)})


@pytest.mark.parametrize("name", ["a.ndjson", "a.ndjson.gz"])
def test_growth_of_a_last_line_that_had_no_end_is_an_error(tmp_path: Path, name: str) -> None:
    pack = gzip.compress if name.endswith(".gz") else bytes
    lanes = one_lane(tmp_path, pack(TEXT[:-20]), name)
    with (tmp_path / name).open("ab") as file:
        file.write(pack(TEXT[-20:]))
    with pytest.raises(SourceChangedError, match="its last line, which had no end, was read as it was"):
        check_lanes(lanes, {"lane-000": (0, len(TEXT) - 20)})
    assert check_lanes(lanes, {"lane-000": (0, TEXT.index(b"\n") + 1)}) == []


def test_packed_file_that_was_cut_short_may_be_put_there_whole(tmp_path: Path) -> None:
    random_ = random.Random(1)
    text = dump_lines([track(timestamp=BEGIN + i, messageId=random_.random()) for i in range(2000)])
    packed = gzip.compress(text)
    lanes = one_lane(tmp_path, packed[:-1000], "a.ndjson.gz")
    (tmp_path / "a.ndjson.gz").write_bytes(packed)
    assert check_lanes(lanes, {"lane-000": (0, text.index(b"\n", 5000) + 1)}) == []


def test_parquet_may_not_change_at_all_once_begun(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", rows(0, 1))
    lanes = plan(tmp_path)
    with path.open("ab") as file:
        file.write(b"more")
    assert check_lanes(lanes, {}) == []
    with pytest.raises(SourceChangedError, match="changed since it was read"):
        check_lanes(lanes, {"lane-000": (0, 2)})


def test_standard_input_must_be_named_again(tmp_path: Path) -> None:
    stream = LaneFile(FoundFile("-", "stdin", "ndjson", "", 0), "abc", None, None)
    write(tmp_path, a=(0, 1))
    with pytest.raises(SourceChangedError, match="reads standard input, which is not among its inputs"):
        plan(tmp_path, (Lane("lane-000", (stream,)),))


def test_damaged_file_is_named_before_anything_is_read(tmp_path: Path) -> None:
    write(tmp_path, a=(0, 1))
    (tmp_path / "b.ndjson.gz").write_bytes(gzip.compress(TEXT)[:-5])
    with pytest.raises(InputError, match=r"b\.ndjson\.gz: the compressed data is damaged or cut short"):
        plan(tmp_path)


def test_lanes_are_described_for_people(tmp_path: Path) -> None:
    write(tmp_path, a=(0, 1), b=(2, 3))
    assert describe_lanes(plan(tmp_path)) == [
        "2 files that follow one another in time, read as one lane",
        "  lane-000: a.ndjson, b.ndjson, 2026-01-05 00:00:00 to 2026-01-08 00:00:00 UTC",
    ]
    write(tmp_path, c=(0, 5), d=(6, 7), e=(8, 9))
    assert describe_lanes(plan(tmp_path)) == [
        "5 files in 2 lanes; lanes overlap in time, the files of one follow one another",
        "  lane-000: a.ndjson, b.ndjson, 2026-01-05 00:00:00 to 2026-01-08 00:00:00 UTC",
        "  lane-001: c.ndjson, d.ndjson, e.ndjson, 2026-01-05 00:00:00 to 2026-01-14 00:00:00 UTC",
    ]
    alone = tmp_path / "alone"
    write(alone, x=(0, 1))
    assert describe_lanes(plan(alone)) == ["1 file: x.ndjson"]


def test_many_lanes_and_files_are_described_in_short(tmp_path: Path) -> None:
    write(tmp_path, **{f"day{i}": (i, i + 0.9) for i in range(5)})
    assert describe_lanes(plan(tmp_path))[1].startswith("  lane-000: day0.ndjson … day4.ndjson (5 files), 2026-01-05")
    write(tmp_path, **{f"overlap{chr(97 + i)}": (0, 9 + i / 100) for i in range(14)})
    lines = describe_lanes(plan(tmp_path))
    assert lines[-1] == "  … and 3 more lanes"
    assert len(lines) == 14
