"""First and last event times of files, also where their first and last lines are bad."""

from __future__ import annotations

from pathlib import Path

import pytest

from config import InputRules
from events.decode import make_decoder
from sources.probing import PROBE, digest_head, probe_times
from tests.support.files import FORMATS, dump_csv, dump_lines, find_one, pack_gzip, pack_zstd, write_parquet
from tests.support.records import Row, free, track

BEGIN = 1_767_571_200
NOW = (BEGIN + 10**7) * 1_000_000
DECODE = make_decoder(InputRules(), (), NOW)
FREE = make_decoder(free(event_time="t", user_id="u", event_name="n"), (), NOW)
WIDTH = 1000


def rows(count: int) -> list[Row]:
    return [{"t": BEGIN + i, "u": "x" * WIDTH, "n": "E"} for i in range(count)]


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("count", [1, 3, 1500])
def test_first_and_last_event_are_found_in_every_format(tmp_path: Path, ending: str, count: int) -> None:
    path = FORMATS[ending](tmp_path, rows(count))
    assert probe_times(find_one(path), FREE) == (BEGIN * 1_000_000, (BEGIN + count - 1) * 1_000_000)


@pytest.mark.parametrize("name", ["a.ndjson", "a.ndjson.gz", "a.ndjson.zst"])
@pytest.mark.parametrize("bad", [b"x" * 999, b"{}", b'{"userId":"u","event":"E","timestamp":"9999-01-01"}', b"\xff"])
def test_bad_lines_at_both_ends_are_passed_over_however_many(tmp_path: Path, name: str, bad: bytes) -> None:
    around = (bad + b"\n") * (3 * PROBE // (len(bad) + 1))
    text = around + dump_lines([track(timestamp=BEGIN + i) for i in range(3)]) + around
    pack = pack_gzip if name.endswith(".gz") else pack_zstd if name.endswith(".zst") else bytes
    (tmp_path / name).write_bytes(pack(text))
    assert probe_times(find_one(tmp_path / name), DECODE) == (BEGIN * 1_000_000, (BEGIN + 2) * 1_000_000)


def test_bad_rows_of_csv_and_parquet_are_passed_over(tmp_path: Path) -> None:
    good = rows(3)
    bad = [{"t": "soon", "u": "x" * WIDTH, "n": "E"}] * 900
    (tmp_path / "a.csv").write_bytes(dump_csv([*bad, *good, *bad]))
    assert probe_times(find_one(tmp_path / "a.csv"), FREE) == (BEGIN * 1_000_000, (BEGIN + 2) * 1_000_000)
    texts = [{**row, "t": str(row["t"])} for row in [*bad, *good, *bad]]
    path = write_parquet(tmp_path / "a.parquet", texts, group=100)
    assert probe_times(find_one(path), FREE) == (BEGIN * 1_000_000, (BEGIN + 2) * 1_000_000)


def test_line_longer_than_the_piece_that_is_looked_at_is_passed_over(tmp_path: Path) -> None:
    long = b'{"a":"' + b"y" * (2 * PROBE) + b'"}\n'
    text = long + dump_lines([track(timestamp=BEGIN), track(timestamp=BEGIN + 5)]) + long + long[:-1]
    (tmp_path / "a.ndjson").write_bytes(text)
    assert probe_times(find_one(tmp_path / "a.ndjson"), DECODE) == (BEGIN * 1_000_000, (BEGIN + 5) * 1_000_000)


@pytest.mark.parametrize("ending", [".ndjson", ".csv", ".ndjson.gz"])
def test_file_without_events_has_no_times(tmp_path: Path, ending: str) -> None:
    path = FORMATS[ending](tmp_path, [{"t": "soon", "u": "u", "n": "E"}] * 3)
    assert probe_times(find_one(path), FREE) == (None, None)
    (tmp_path / "empty.ndjson").touch()
    assert probe_times(find_one(tmp_path / "empty.ndjson"), FREE) == (None, None)


def test_disorder_at_the_ends_is_seen(tmp_path: Path) -> None:
    times = [5, 3, 4, 9, 8, 7]
    (tmp_path / "a.ndjson").write_bytes(dump_lines([track(timestamp=BEGIN + time) for time in times]))
    assert probe_times(find_one(tmp_path / "a.ndjson"), DECODE) == ((BEGIN + 3) * 1_000_000, (BEGIN + 9) * 1_000_000)


def test_digest_tells_the_first_bytes_only(tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_bytes(b"a" * 5000)
    (tmp_path / "b.ndjson").write_bytes(b"a" * 4096 + b"b")
    (tmp_path / "c.ndjson").write_bytes(b"a" * 4095 + b"c")
    one, two, three = (digest_head(find_one(tmp_path / f"{name}.ndjson")) for name in "abc")
    assert one == two != three
    assert digest_head(find_one(tmp_path / "a.ndjson"), 4095) == digest_head(find_one(tmp_path / "c.ndjson"), 4095)
