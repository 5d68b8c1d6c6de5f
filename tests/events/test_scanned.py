"""The compiled scanner and the reader that takes anything agree on every line: events, dead letters, places."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clock import to_us
from config import InputRules, StepRule
from events import scanning
from events.canonical import Decoded
from events.decode import make_decoder
from events.raw import RawBlock
from tests.support.mixing import count_ledger, find_differences, list_dead, mix, replay_lines
from tests.support.mutating import make_line, mutate
from tests.support.records import NOW, track

pytest.importorskip("numba")
assert scanning.load_scanner()

from events.scanner import Bounds, Kinds, Scan, scan  # noqa: E402
from events.segment_scan import MOST_KINDS  # noqa: E402

ROOT = Path(__file__).parents[2]
STEPS = (
    (),
    (StepRule("seen", "event_name like 'P%' and channel = 'web'"), StepRule("all", "true")),
    (StepRule("page", "page like '/p/%' or campaign is null"), StepRule("price", "properties like '%31%'")),
)
GOOD = json.dumps(track(messageId="m-1"), separators=(",", ":")).encode()


def look(
    lines: list[bytes], rules: InputRules | None = None, steps: tuple[StepRule, ...] = (), end: bytes = b"\n"
) -> Decoded:
    """Decode lines with the scanner and without; fails if anything differs, today and with kinds that are known.

    So it is where the source knows when each line came; returned is what comes out where it does not.
    """
    payload = b"\n".join(lines) + end
    came = to_us(NOW) - 1_000_000 * np.arange(payload.count(b"\n") + 1, dtype=np.int64)
    compare(RawBlock("ndjson", "f", "lane-000", 1000, payload, received=came), rules, steps)
    return compare(RawBlock("ndjson", "f", "lane-000", 1000, payload), rules, steps)


def compare(block: RawBlock, rules: InputRules | None, steps: tuple[StepRule, ...]) -> Decoded:
    """Decode a block both ways."""
    fast = make_decoder(rules or InputRules(), steps, to_us(NOW))
    slow = make_decoder(rules or InputRules(), steps, to_us(NOW), scanned=False)(block)
    for decoded in (fast(block), fast(block)):
        assert decoded.events.schema == slow.events.schema
        assert decoded.events.equals(slow.events)
        assert decoded.lines.equals(slow.lines)
        assert decoded.dead.equals(slow.dead)
        assert decoded.received == slow.received
    return slow


def scan_lines(lines: list[bytes]) -> Scan:
    """Scan lines by themselves."""
    return scan(b"\n".join(lines) + b"\n", len(lines), Bounds(to_us(NOW), 0), Kinds())


@pytest.fixture(autouse=True)
def never_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("events.scanned.PAUSE", 0)


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 30), st.sampled_from(STEPS), st.sampled_from([b"", b"\n"]))
def test_damaged_lines_are_read_the_same(
    rng: random.Random, count: int, steps: tuple[StepRule, ...], end: bytes
) -> None:
    lines = [make_line(rng) for _ in range(count)]
    look([mutate(line, rng) if rng.random() < 0.7 else line for line in lines], steps=steps, end=end)


@pytest.mark.slow
@pytest.mark.parametrize("steps", STEPS)
def test_thousands_of_damaged_lines_are_read_the_same(steps: tuple[StepRule, ...]) -> None:
    rng = random.Random(1)
    for _ in range(3):
        look([mutate(make_line(rng), rng) for _ in range(1500)] + [make_line(rng) for _ in range(500)], steps=steps)


def test_plain_lines_are_scanned_and_others_are_not() -> None:
    plain = [
        GOOD,
        GOOD + b"\r",
        b"  " + GOOD.replace(b'":', b'" : ') + b"\t",
        GOOD.replace(b'"u"', b"12"),
        GOOD.replace(b'"u"', '"Ünïcødé-日本-🙂"'.encode()),
        GOOD.replace(b'"E"', b'"E","x":"\\"\\\\\\/\\n","y":[1.50,-0,{}],"properties":{"a":[{},[],"\\"b",31.84,true]}'),
        GOOD.replace(b'"u"', b'null,"anonymousId":"d","context":{"page":{"path":"/p","ip":[1]}}'),
        GOOD.replace(b'12Z"', b'12.345678+00:00","traits":{"a":"b"},"properties":null'),
    ]
    assert scan_lines(plain).rests.size == 0
    assert look(plain).events.height == len(plain)
    other = [
        GOOD.replace(b'"u"', b'"\\u00e9"'),
        GOOD.replace(b'"u"', b'"a\\nb"'),
        GOOD.replace(b'"u"', b"true"),
        GOOD.replace(b'"u"', b"1.0"),
        GOOD.replace(b'"E"', b'"E","properties":{"a":1.50}'),
        GOOD.replace(b'"E"', b'"E","properties":[]'),
        GOOD.replace(b'"E"', b'"E","event":"E"'),
        GOOD.replace(b'"E"', b'"E","\\u0065vent":"E"'),
        GOOD.replace(b'"E"', b'"E","x":' + b"[" * 70 + b"]" * 70),
        GOOD.replace(b"12Z", b"12+01:00"),
        GOOD.replace(b"m-1", b""),
        GOOD + b" x",
        GOOD[:-1] + b",}",
        GOOD.replace(b"u", b"\xff"),
        b"\xef\xbb\xbf" + GOOD,
        b"",
    ]
    assert scan_lines(other).lines.size == 0
    look(other)


def test_what_stands_in_a_row_is_what_the_line_says() -> None:
    line = GOOD.replace(
        b'"E"', b'"E","properties": {"b": "x y", "a": "c\\/d"},"context":{"page":{"path":"/a-long-path-here"}}'
    )
    decoded = look([GOOD, line, GOOD])
    assert decoded.events["properties"].to_list() == [None, '{"b":"x y","a":"c/d"}', None]
    assert decoded.events["page"].to_list() == [None, "/a-long-path-here", None]


def test_lines_left_out_take_their_places_between_the_others() -> None:
    lines = [GOOD, b"{}", GOOD.replace(b'"E"', b'"\\u0045"'), b"", GOOD, b"x", GOOD.replace(b"m-1", b"")]
    decoded = look(lines)
    assert decoded.lines.to_list() == [0, 2, 4, 6]
    assert decoded.dead["source_position"].to_list() == [1001, 1005]


def test_kinds_that_are_no_events_are_dead_letters_wherever_they_come() -> None:
    reserved, nameless = GOOD.replace(b'"E"', b'"(start)"'), GOOD.replace(b'"E"', b'""').replace(b'"track"', b"null")
    decoded = look([reserved, GOOD, nameless, reserved, nameless])
    assert decoded.dead["reason"].to_list() == ["reserved_name", "no_name", "reserved_name", "no_name"]


def test_more_kinds_than_are_kept_change_nothing() -> None:
    look([GOOD.replace(b'"E"', b'"E%d"' % number) for number in range(MOST_KINDS + 50)])


def test_line_over_the_limit_is_dead_and_its_neighbours_are_not() -> None:
    decoded = look([GOOD, GOOD.replace(b'"u"', b'"' + b"u" * 500 + b'"'), GOOD], InputRules(max_record_bytes=400))
    assert decoded.dead["reason"].to_list() == ["too_large"]


def test_time_ahead_of_its_receipt_or_of_now_is_left_to_the_rules() -> None:
    ahead = GOOD.replace(b"2026-01-05", b"2026-03-05")
    receipts = [
        b"2026-01-05T09:00:00Z",
        b"2026-01-05T09:30:00Z",
        b"2027-01-05T09:30:00Z",
        b"2026-01-05T10:11:12.5Z",
        b"soon",
    ]
    late = [GOOD.replace(b'"E"', b'"E","receivedAt":"%s"' % receipt) for receipt in receipts]
    decoded = look([GOOD, ahead, *late])
    assert decoded.dead["reason"].to_list() == ["future", "future"]


def test_other_settings_and_formats_are_not_scanned(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError

    block = RawBlock("ndjson", "f", "lane-000", 0, GOOD + b"\n")
    look([GOOD], InputRules(format="rudderstack", channel="shop", time_unit="iso"))
    monkeypatch.setattr("events.scanned.scan", fail)
    fields = InputRules(fields={"page": ("properties.where",)})
    assert make_decoder(fields, (), to_us(NOW))(block).events.height == 1
    assert make_decoder(replace(fields, format="posthog"), (), to_us(NOW))(block).received == 1
    with pytest.raises(AssertionError):
        make_decoder(InputRules(), (), to_us(NOW))(block)


def test_file_of_lines_that_are_not_plain_is_soon_read_without_the_scanner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("events.scanned.PAUSE", 2)
    calls: list[int] = []
    monkeypatch.setattr("events.scanned.scan", lambda *given: (calls.append(1), scan(*given))[1])
    decode = make_decoder(InputRules(), (), to_us(NOW))
    block = RawBlock("ndjson", "f", "lane-000", 0, GOOD.replace(b"12Z", b"12+01:00") + b"\n")
    assert [decode(block).received for _ in range(7)] == [1] * 7
    assert len(calls) == 3


@pytest.mark.slow
def test_tables_of_a_damaged_file_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mixture = mix(3_000, seed=2, heavy=5)
    scanned = replay_lines(mixture.lines, tmp_path / "with", 256 << 10)
    monkeypatch.setattr(scanning._loading, "make", None)
    read = replay_lines(mixture.lines, tmp_path / "without", 256 << 10)
    assert find_differences(scanned, read) == []
    assert count_ledger(scanned) == count_ledger(read)
    assert list_dead(scanned) == list_dead(read) == mixture.expect_dead()


@pytest.mark.slow
@pytest.mark.parametrize(
    "broken", ["import sys; sys.modules['numba'] = None", "import os; os.environ['NUMBA_DISABLE_JIT'] = '1'"]
)
def test_without_a_compiler_all_is_read_as_ever(broken: str) -> None:
    code = f"""{broken}
from events import scanning
assert not scanning.load_scanner()
from tests.support.records import decode, track
import json
assert decode(json.dumps(track()).encode()).events.height == 1
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)


def test_machine_code_is_kept_by_what_it_was_made_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    assert scanning.find_cache().parent == tmp_path / "journeystream"
    assert not scanning.is_compiled()
    scanning.find_cache().mkdir(parents=True)
    (scanning.find_cache() / "scan_lines.nbi").touch()
    assert scanning.is_compiled()


def test_small_inputs_do_not_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning._loading, "thread", None)
    scanning.start_loading(scanning.WORTH_LOADING - 1)
    assert scanning._loading.thread is None


def test_cache_that_can_not_be_written_leaves_all_to_the_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    loading = scanning._Loading()
    loading.load()
    loading.bring()
    assert loading.make is None
    assert not scanning.is_compiled()


@pytest.mark.slow
def test_large_inputs_have_it_compiled_by_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    loading = scanning._Loading()
    loading.bring()
    assert loading.make is not None
    assert scanning.is_compiled()
