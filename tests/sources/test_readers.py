"""Cuts of files: the same records for any size of block and from any position, in every format."""

from __future__ import annotations

import gzip
import io
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from errors import InputError
from events.csvrows import find_record_ends
from events.raw import RAW_KEPT
from sources.probing import make_block
from sources.readers import Cut, Start, cut_csv, cut_lines, read_file
from tests.support.files import (
    FORMATS,
    dump_lines,
    find_one,
    join_text,
    pack_gzip,
    pack_zstd,
    read_cuts,
)
from tests.support.records import Row, decode, free

ROWS: list[Row] = [
    {"t": 1_767_607_872 + i, "u": f"u{i}", "n": 'two\nlines, "q"' if i % 5 == 0 else "E"} for i in range(40)
]
RULES = free(event_time="t", user_id="u", event_name="n")
PIECES = [b"a", b"bcd", b"\n", b"\n", b"\r\n", b'"', b",", b'"x\ny"', b"", b"\xff", b"z" * 9]


def decode_cut(cut: Cut, path: Path) -> list[tuple[int, str]]:
    """Return position and user of every event of a cut, and position and reason of every dead letter."""
    block = make_block(cut, find_one(path), "lane-000", 0)
    decoded = decode(
        block.payload,
        replace(RULES, max_record_bytes=cut.limit),
        kind=block.kind,
        header=block.header,
        first_position=block.first_position,
        oversized=block.oversized,
        limit=block.limit,
    )
    events = (
        decoded.events.select("source_position", pl.col("user_id").cast(pl.String)).rows()
        if decoded.events.height
        else []
    )
    return sorted([*events, *decoded.dead.select("source_position", "reason").rows()])


def decode_all(path: Path, block: int, limit: int = 1 << 20) -> list[tuple[int, str]]:
    return [row for cut in read_cuts(find_one(path), None, block, limit) for row in decode_cut(cut, path)]


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("block", [1, 17, 100, 1 << 20])
def test_every_record_is_read_once_whatever_the_block(tmp_path: Path, ending: str, block: int) -> None:
    path = FORMATS[ending](tmp_path, ROWS)
    header = 0 if ".csv" not in ending else 1
    assert decode_all(path, block) == [(i + header, f"u{i}") for i in range(len(ROWS))]


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("block", [1, 60, 500])
def test_reading_goes_on_after_any_cut_with_exactly_the_rest(tmp_path: Path, ending: str, block: int) -> None:
    file = find_one(FORMATS[ending](tmp_path, ROWS))
    whole, records = join_cuts(read_cuts(file, None, 1 << 20)), len(ROWS) + (".csv" in ending)
    seen: list[Cut] = []
    for cut in read_cuts(file, None, block):
        seen.append(cut)
        for other in (1, 333, 1 << 20):
            rest = read_cuts(file, cut, other)
            assert join_cuts([*seen, *rest]) == whole
            assert not rest or (rest[0].first_record, rest[-1].next_record) == (cut.next_record, records)


def join_cuts(cuts: list[Cut]) -> object:
    """Return what consecutive cuts hold, text or rows."""
    frames = [cut.payload for cut in cuts if isinstance(cut.payload, pl.DataFrame)]
    return pl.concat(frames).rows() if frames else join_text(cuts)


TEXTS = st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join)


@settings(max_examples=250, deadline=None)
@given(TEXTS, st.integers(1, 12), st.integers(1, 12), st.booleans(), st.data())
def test_any_text_is_cut_into_the_same_records(
    text: bytes, block: int, limit: int, is_csv: bool, data: st.DataObject
) -> None:
    cutter = cut_csv if is_csv else cut_lines

    def read(size: int, cut: Cut | None = None) -> list[Cut]:
        offset, record = (cut.next_offset, cut.next_record) if cut else (0, 1)
        return list(cutter(io.BytesIO(text[offset:]), Start(offset, record, size, limit)))

    small, large = read(block), read(1000)
    assert _list_records(small, is_csv) == _list_records(large, is_csv)
    assert small == [] or small[-1].next_offset == len(text)
    if small:
        at = data.draw(st.integers(0, len(small) - 1))
        assert _list_records(
            [*small[: at + 1], *read(data.draw(st.integers(1, 12)), small[at])], is_csv
        ) == _list_records(large, is_csv)


def _list_records(cuts: list[Cut], is_csv: bool) -> list[tuple[int, bool, bytes]]:
    """Return number, size and bytes of every record; of one that is too long, what is kept."""
    found = []
    for cut in cuts:
        assert isinstance(cut.payload, bytes)
        if cut.oversized:
            found.append((cut.first_record, True, cut.payload[:RAW_KEPT]))
            continue
        raws = split_all(cut.payload, is_csv, cut.limit)
        found += [(cut.first_record + i, len(raw) > cut.limit, raw.removesuffix(b"\r")) for i, raw in enumerate(raws)]
        assert cut.next_record - cut.first_record == len(raws)
    return [(number, large, raw) for number, large, raw in found if raw.strip()]


def split_all(payload: bytes, is_csv: bool, limit: int) -> list[bytes]:
    if is_csv:
        ends = find_record_ends(payload, limit, final=True).tolist()
        return [payload[begin:end].removesuffix(b"\n") for begin, end in pairwise([0, *ends])]
    lines = payload.split(b"\n")
    return lines[:-1] if payload.endswith(b"\n") else lines


class Trickle(io.RawIOBase):
    """A stream that gives a few bytes at a time, as a pipe does."""

    def __init__(self, data: bytes) -> None:
        self.data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self.data.read(min(size, 3) if size >= 0 else 3)


def test_pipe_that_gives_little_at_a_time_is_cut_as_a_file() -> None:
    text = dump_lines(ROWS)
    start = Start(0, 0, 100, 1 << 20)
    slow = list(cut_lines(Trickle(text), start))  # type: ignore[arg-type]
    assert slow == list(cut_lines(io.BytesIO(text), start))


@pytest.mark.parametrize("block", [64, 4096, 1 << 20])
@pytest.mark.parametrize("ending", ["ndjson", "csv"])
def test_line_longer_than_the_limit_is_passed_over_and_kept_in_part(tmp_path: Path, block: int, ending: str) -> None:
    good = b'{"t":1767607872,"u":"a","n":"E"}\n' if ending == "ndjson" else b"1767607872,a,E\n"
    long = b"y" * 300_000
    head = b"" if ending == "ndjson" else b"t,u,n\n"
    path = tmp_path / f"a.{ending}"
    path.write_bytes(head + good + long + b"\n" + good + long)
    first = 0 if ending == "ndjson" else 1
    assert decode_all(path, block, 70_000) == [
        (first, "a"),
        (first + 1, "too_large"),
        (first + 2, "a"),
        (first + 3, "too_large"),
    ]
    large = [cut.payload for cut in read_cuts(find_one(path), None, 64, 70_000) if cut.oversized]
    assert large[:1] == [long[:RAW_KEPT]]


def test_record_up_to_the_limit_is_read_though_longer_than_a_block(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    path.write_bytes(dump_lines([{"t": 1, "u": "x" * 3000, "n": "E"}, {"t": 1, "u": "b", "n": "E"}]))
    assert [user for _, user in decode_all(path, 64)] == ["x" * 3000, "b"]


@pytest.mark.parametrize("ending", ["ndjson", "csv"])
@pytest.mark.parametrize("text", [b"", b"\n", b"\n\n \r\n"])
def test_file_of_nothing_holds_no_records(tmp_path: Path, ending: str, text: bytes) -> None:
    path = tmp_path / f"a.{ending}"
    path.write_bytes(text)
    assert decode_all(path, 100) == []


@pytest.mark.parametrize("text", [b"t,u,n", b"t,u,n\n", b"\xef\xbb\xbft,u,n\r\n", b"t,u,n\n\n\n"])
def test_csv_of_a_header_alone_holds_no_records(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(text)
    assert decode_all(path, 100) == []


def test_csv_header_may_have_a_mark_quotes_newlines_gaps_and_twins(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'\xef\xbb\xbf"t",u,"n ""x""\nz",,u\r\n1,2,3,4,5\r\n')
    (cut,) = read_cuts(find_one(path))
    assert cut.header == ("t", "u", 'n "x"\nz', "column_4", "u_2")
    assert (cut.payload, cut.first_record) == (b"1,2,3,4,5\r\n", 1)


@pytest.mark.parametrize(
    ("text", "problem"), [(b",,\n1,2,3\n", "names no columns"), (b"a,b\r1,2\r", "lone carriage returns")]
)
def test_csv_without_a_usable_header_is_refused(tmp_path: Path, text: bytes, problem: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(text)
    with pytest.raises(InputError, match=problem):
        read_cuts(find_one(path))


def test_last_line_counts_with_a_newline_or_without_and_cut_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    text = dump_lines(ROWS[:2])
    for tail, found in ((b"", "u1"), (b"\n", "u1")):
        path.write_bytes(text[:-1] + tail)
        assert [user for _, user in decode_all(path, 50)] == ["u0", found]
    path.write_bytes(text[:-9])
    assert decode_all(path, 50) == [(0, "u0"), (1, "not_json")]


@pytest.mark.parametrize("name", ["a.ndjson", "b.ndjson.gz"])
def test_byte_order_mark_is_passed_over_at_the_beginning_and_later(tmp_path: Path, name: str) -> None:
    text = b"".join(b"\xef\xbb\xbf" + line + b"\n" for line in dump_lines(ROWS[:3]).splitlines())
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    for block in (1, 70, 1000):
        assert [user for _, user in decode_all(tmp_path / name, block)] == ["u0", "u1", "u2"]


@pytest.mark.parametrize("name", ["a.ndjson.gz", "a.ndjson.zst"])
@pytest.mark.parametrize("lost", [1, 5, 200])
def test_packed_file_cut_short_gives_what_is_whole_and_then_an_error(tmp_path: Path, name: str, lost: int) -> None:
    text = dump_lines([{"t": i, "u": f"{i * 7919 % 10_007}", "n": "E"} for i in range(2_000)])
    packed = pack_gzip(text) if name.endswith(".gz") else pack_zstd(text)
    path = tmp_path / name
    path.write_bytes(packed[:-lost])
    cuts = []
    with pytest.raises(InputError, match="damaged or cut short") as caught:
        cuts.extend(iter_into(cuts, path))
    assert "run the same command again" in caught.value.remedy
    read = join_text(cuts)
    assert text.startswith(read)
    assert len(read) > len(text) // 2
    path.write_bytes(packed)
    assert read + join_text(read_cuts(find_one(path), cuts[-1], 1000)) == text


def iter_into(cuts: list[Cut], path: Path) -> list[Cut]:
    for cut in read_file(find_one(path), 0, 0, 1000):
        cuts.append(cut)
    return []


@pytest.mark.parametrize("name", ["a.ndjson.gz", "a.ndjson.zst"])
def test_packed_file_with_damage_inside_is_an_error(tmp_path: Path, name: str) -> None:
    text = dump_lines([{"u": f"{i * 7919 % 10_007}"} for i in range(3_000)])
    packed = bytearray(pack_gzip(text, 1) if name.endswith(".gz") else pack_zstd(text, 1))
    packed[len(packed) // 2] ^= 0xFF
    packed[len(packed) // 2 + 1] ^= 0xFF
    path = tmp_path / name
    path.write_bytes(packed)
    # Zstandard without checksums notices less: what can be unpacked is not what was packed.
    try:
        assert join_text(read_cuts(find_one(path))) != text
    except InputError as problem:
        assert "damaged" in problem.problem


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 400), st.integers(1, 400))
def test_two_sizes_of_block_agree_on_packed_csv(tmp_path: Path, one: int, other: int) -> None:
    path = FORMATS[".csv.gz"](tmp_path, ROWS)
    assert decode_all(path, one) == decode_all(path, other)


def test_vanished_file_is_named(tmp_path: Path) -> None:
    path = FORMATS[".ndjson"](tmp_path, ROWS)
    file = find_one(path)
    path.unlink()
    with pytest.raises(InputError, match=r"events\.ndjson: can't be read \(No such file"):
        read_cuts(file)
