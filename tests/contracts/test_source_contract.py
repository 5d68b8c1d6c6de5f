"""What every kind of live source promises: order, positions, resumption, idleness, poison, reconnection, back-pressure."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from config import Config, FunnelRules, JobRules
from flows.replay import ReplayOptions, run_replay
from sources.live import flatten
from tests.contracts.rig import Rig, now_us, open_source
from tests.live.support import STEPS, assert_same, end_records, expect_sessions, make_record, make_records, running

pytestmark = pytest.mark.slow
MINUTE_US = 60_000_000


def make_lines(count: int, name: str = "m") -> list[bytes]:
    return [make_record(f"{name}{number}", "u", 1_767_600_000 + number, "view") for number in range(count)]


def test_records_come_in_order_at_positions_that_follow_one_another(rig: Rig, tmp_path: Path) -> None:
    lines, began = make_lines(700), now_us()
    with open_source(rig.rules, tmp_path) as source, source.reading() as reader:
        rig.send(lines)
        assert reader.read(700) == lines
        assert reader.read_to_end() == lines
        assert reader.positions == list(range(reader.positions[0], reader.positions[0] + 700))
        assert all(began - MINUTE_US < moment < now_us() + MINUTE_US for moment in reader.received)
        assert reader.feed.tell_next() == reader.positions[-1] + 1
        assert reader.feed.tell_lag() in (0, None)


def test_reading_goes_on_at_any_offset_where_a_run_may_have_stopped(rig: Rig, tmp_path: Path) -> None:
    lines = make_lines(300)
    with open_source(rig.rules, tmp_path) as source, source.reading() as reader:
        for begin in range(0, 300, 100):
            rig.send(lines[begin : begin + 100])
            reader.read(begin + 100)
        assert len(reader.ends) >= 3
    for again in range(2):  # the second time with everything durable, as far as that goes
        with open_source(rig.rules, tmp_path) as source:
            for end in reader.ends[:-1] if not again else reader.ends[-2:-1]:
                with source.reading(end) as later:
                    if again:
                        later.feed.note_durable(end)
                    missing = lines[end - reader.positions[0] :]
                    assert later.read(len(missing)) == missing
                    assert later.positions[0] == end


def test_nothing_is_lost_or_doubled_between_two_runs(rig: Rig, tmp_path: Path) -> None:
    lines, offset, seen = make_lines(400), None, list[bytes]()
    for begin in range(0, 400, 100):
        if rig.keeps:
            rig.send(lines[begin : begin + 50])  # while nobody receives
        with open_source(rig.rules, tmp_path) as source, source.reading(offset) as reader:
            rig.send(lines[begin + 50 if rig.keeps else begin : begin + 100])
            reader.read(100)
            offset = reader.feed.tell_next()
            reader.feed.note_durable(offset)
            seen += reader.lines
    assert seen == lines


def test_silence_is_told_soon_and_costs_no_record(rig: Rig, tmp_path: Path) -> None:
    with open_source(rig.rules, tmp_path) as source, source.reading() as reader:
        began = time.monotonic()
        assert reader.feed.fetch() == []
        assert time.monotonic() - began < 5
        rig.send(make_lines(3))
        assert reader.read(3) == make_lines(3)


def test_poison_takes_one_position_each_and_stops_nothing(rig: Rig, tmp_path: Path) -> None:
    """What is no JSON is for the decoder to judge: the source hands on every record it took, on a line of its own."""
    poison = [b"{", b"\xff\xfe\x00", b'{"a":\n 1}', b"null", b"[]", b'"' + b"x" * 100_000 + b'"']
    records = [*make_lines(2), *poison, *make_lines(2, "n")]
    with open_source(rig.rules, tmp_path) as source, source.reading() as reader:
        taken = rig.send_poison(records)
        assert reader.read(len(taken)) == [flatten(record) for record in taken]


def test_other_side_may_go_and_come_back(rig: Rig, tmp_path: Path) -> None:
    lines = make_lines(200)
    with open_source(rig.rules, tmp_path) as source, source.reading() as reader:
        rig.send(lines[:100])
        reader.read(50)
        rig.restart()
        rig.send(lines[100:])
        reader.read(200)
        found = reader.read_to_end()
        assert sorted(found) == sorted(lines)
        assert found == lines or not rig.keeps_order


def test_what_nobody_reads_is_bounded_and_not_lost(rig: Rig, tmp_path: Path) -> None:
    rig.rules = replace(rig.rules, backlog=64 << 10)
    lines = [make_record(f"m{number}", "u" * 1000, 1_767_600_000 + number, "view") for number in range(600)]
    with open_source(rig.rules, tmp_path) as source:
        sent = rig.send_until_refused(lines)
        time.sleep(1.5)
        stored = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
        assert stored < 512 << 10
        with source.reading() as reader:
            while len(reader.lines) < sent:
                reader.read(len(reader.lines) + 1)
                reader.feed.note_durable(reader.feed.tell_next())
            assert reader.read_to_end() == lines[:sent]


def test_live_tables_are_those_of_a_replay(rig: Rig, tmp_path: Path) -> None:
    records = end_records(make_records(1, 1_500, seed=9))
    folder, live, replayed = tmp_path / "files", tmp_path / "live", tmp_path / "replayed"
    folder.mkdir()
    rules = replace(rig.rules, format="segment")
    config = Config(funnels=(FunnelRules("purchase", STEPS),), sources=(rules,), job=JobRules(snapshot=500_000))
    with running(live, config):
        taken = rig.send_poison(records[0])
        (folder / "all.ndjson").write_bytes(b"".join(line + b"\n" for line in taken))
        assert run_replay(ReplayOptions((str(folder),), replayed), config).outcome == "finished"
        expect_sessions(live, replayed)
    assert_same(live, replayed)
