"""Every way to write a time, and what is no time, against literal microseconds."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clock import to_us
from events.regular_times import parse_regular
from events.times import LATEST_US, parse_times

MIDNIGHT = 1_767_571_200_000_000  # 2026-01-05T00:00:00Z
NOON_ISH = 1_767_607_872_000_000  # 2026-01-05T10:11:12Z
HOUR = 3_600_000_000


def read(text: str | None, unit: str = "auto") -> int | None:
    value: int | None = parse_times(pl.Series([text], dtype=pl.String), unit)[0]
    return value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-05T10:11:12Z", NOON_ISH),
        ("2026-01-05T10:11:12z", NOON_ISH),
        ("2026-01-05t10:11:12z", NOON_ISH),
        ("2026-01-05T10:11:12.5Z", NOON_ISH + 500_000),
        ("2026-01-05T10:11:12,5Z", NOON_ISH + 500_000),
        ("2026-01-05T10:11:12.123456Z", NOON_ISH + 123_456),
        ("2026-01-05T10:11:12.123456789Z", NOON_ISH + 123_456),
        ("2026-01-05T10:11:12.1234567890123Z", NOON_ISH + 123_456),
        ("2026-01-05T10:11:12+01:00", NOON_ISH - HOUR),
        ("2026-01-05T10:11:12-01:00", NOON_ISH + HOUR),
        ("2026-01-05T10:11:12+0100", NOON_ISH - HOUR),
        ("2026-01-05T10:11:12+01", NOON_ISH - HOUR),
        ("2026-01-05T10:11:12 +0100", NOON_ISH - HOUR),
        ("2026-01-05T10:11:12+05:45", NOON_ISH - 5 * HOUR - HOUR * 3 // 4),
        ("2026-01-05T10:11:12+14:00", NOON_ISH - 14 * HOUR),
        ("2026-01-05T10:11:12-12:00", NOON_ISH + 12 * HOUR),
        ("2026-01-05T10:11:12+00:00", NOON_ISH),
        ("2026-01-05T10:11:12-00:00", NOON_ISH),
        ("2026-01-05T10:11:12+01:00[Europe/Berlin]", NOON_ISH - HOUR),
        ("2026-01-05 10:11:12 UTC", NOON_ISH),
        ("2026-01-05 10:11:12 GMT", NOON_ISH),
        ("2026-01-05 10:11:12.25 UTC", NOON_ISH + 250_000),
        ("2026-01-05 10:11:12+00", NOON_ISH),
        ("2026-01-05 10:11:12", NOON_ISH),
        ("2026-01-05  10:11:12", NOON_ISH),
        (" 2026-01-05T10:11:12Z ", NOON_ISH),
        ("2026-01-05T10:11:12", NOON_ISH),
        ("2026-01-05T10:11:12.000001", NOON_ISH + 1),
        ("2026-01-05T10:11", NOON_ISH - 12_000_000),
        ("2026-01-05 10:11", NOON_ISH - 12_000_000),
        ("2026-01-05T10:11Z", NOON_ISH - 12_000_000),
        ("2026-01-05T10:11+0100", NOON_ISH - 12_000_000 - HOUR),
        ("2026-01-05", MIDNIGHT),
        ("20260105T101112Z", NOON_ISH),
        ("20260105T101112+0100", NOON_ISH - HOUR),
        ("20260105T101112", NOON_ISH),
        ("2026-01-05T24:00:00Z", MIDNIGHT + 24 * HOUR),
        ("2026-01-05T24:00", MIDNIGHT + 24 * HOUR),
        ("2026-01-05T24:00:00.000+01:00", MIDNIGHT + 23 * HOUR),
        ("2016-12-31T23:59:60Z", 1_483_228_800_000_000),
        ("2024-02-29T00:00:00Z", 1_709_164_800_000_000),
        ("1970-01-01T00:00:00Z", 0),
        ("1969-12-31T23:59:59Z", -1_000_000),
        ("9998-12-31T23:59:59.999999Z", LATEST_US - 1),
        ("9999-01-01T00:00:00Z", LATEST_US),
        ("1767607872", NOON_ISH),
        ("1767607872.5", NOON_ISH + 500_000),
        ("1767607872.1234567", NOON_ISH + 123_456),
        ("1767607872.0", NOON_ISH),
        ("+1767607872", NOON_ISH),
        (" 1767607872 ", NOON_ISH),
        ("1.767607872e9", NOON_ISH),
        ("1.767607872E+09", NOON_ISH),
        ("1.767607872123E12", NOON_ISH + 123_000),
        ("1767607872123", NOON_ISH + 123_000),
        ("1767607872123.5", NOON_ISH + 123_500),
        ("1767607872123456", NOON_ISH + 123_456),
        ("99999999999", 99_999_999_999_000_000),
        ("100000000000", 100_000_000_000_000),
        ("99999999999999", 99_999_999_999_999_000),
        ("100000000000000", 100_000_000_000_000),
        ("0", 0),
        ("-5", -5_000_000),
    ],
)
def test_time_is_read_as_this_moment(text: str, expected: int) -> None:
    assert read(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "now",
        "yesterday",
        "NaN",
        "Infinity",
        "true",
        "null",
        "1e400",
        "1e5e5",
        "0x10",
        "1,767,607,872",
        "１７６７６０７８７２",
        "1767607872123456789",
        "12:00",
        "1/5/2026",
        "05.01.2026",
        "Mon, 05 Jan 2026 10:11:12 GMT",
        "2026-W02-1",
        "2026-005",
        "2026-01",
        "2026",
        "2026-13-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "2025-02-29",
        "2026-01-05T25:00:00Z",
        "2026-01-05T24:00:01Z",
        "2026-01-05T24:30",
        "2026-01-05T10:60:00Z",
        "2026-01-05T10:11:61Z",
        "2026-01-05T10:11:12+99:00",
        "2026-01-05T10:11:12ZZ",
        "2026-01-05T10:11:12 Europe/Berlin",
        "2026-01-05T10:11:12Z and more",
        "10000-01-01T00:00:00Z",
        '{"$date":"2026-01-05T00:00:00Z"}',
        "[2026,1,5]",
    ],
)
def test_anything_else_is_no_time(text: str) -> None:
    if text != "2026":  # a number of seconds
        assert read(text) is None
    assert read(text, "iso") is None


@pytest.mark.parametrize(
    ("unit", "expected"), [("s", NOON_ISH), ("ms", 1_767_607_872_000), ("us", 1_767_607_872), ("iso", None)]
)
def test_a_unit_that_is_told_is_not_guessed(unit: str, expected: int | None) -> None:
    assert read("1767607872", unit) == expected


@pytest.mark.parametrize("unit", ["s", "ms", "us", "iso"])
def test_text_is_read_whatever_unit_numbers_have(unit: str) -> None:
    assert read("2026-01-05 10:11:12", unit) == NOON_ISH


def test_a_number_beyond_64_bits_of_microseconds_is_no_time() -> None:
    assert read("999999999999999999", "s") is None
    assert read("999999999999999999", "ms") is None


def test_missing_stays_missing_and_rows_stay_in_their_places() -> None:
    texts = [None, "2026-01-05T10:11:12Z", "x", "1767607872", None, "2026-01-05", "2026-01-05T24:00", "1.767607872e9"]
    expected = [None, NOON_ISH, None, NOON_ISH, None, MIDNIGHT, MIDNIGHT + 24 * HOUR, NOON_ISH]
    assert parse_times(pl.Series(texts)).to_list() == expected
    assert parse_times(pl.Series([], dtype=pl.String)).to_list() == []


@settings(deadline=None)
@given(
    st.datetimes(datetime(1970, 1, 2), datetime(9998, 12, 30)),
    st.integers(-14 * 60, 14 * 60),
    st.sampled_from(["T", " "]),
)
def test_iso_text_of_any_moment_and_offset_gives_that_moment(moment: datetime, minutes: int, between: str) -> None:
    zone = timezone(timedelta(minutes=minutes))
    local = moment.replace(tzinfo=timezone.utc).astimezone(zone)
    assert read(local.isoformat(sep=between)) == to_us(local)


@settings(deadline=None)
@given(st.text(max_size=30))
def test_no_text_raises(text: str) -> None:
    for unit in ("auto", "s", "iso"):
        read(text, unit)


SHAPES = [
    "{:%Y-%m-%dT%H:%M:%S}Z",
    "{:%Y-%m-%dT%H:%M:%S}.120Z",
    "{:%Y-%m-%dT%H:%M:%S.%f}Z",
    "{:%Y-%m-%dT%H:%M:%S.%f}+00:00",
]


@pytest.mark.parametrize("shape", SHAPES)
def test_column_of_one_shape_is_read_as_each_text_by_itself(shape: str) -> None:
    start = datetime(2024, 2, 28, 23, 58, 1, 123456, tzinfo=timezone.utc)
    texts = [shape.format(start + timedelta(seconds=number * 0.7)) for number in range(300)]
    column = pl.Series(texts)
    assert parse_regular(column) is not None
    assert parse_times(column).to_list() == [read(text) for text in texts]


@pytest.mark.parametrize(
    "odd",
    [
        "2026-01-05T10:11:12.5000",
        "2026-13-05T10:11:12.500Z",
        "2026-02-30T10:11:12.500Z",
        "2026-01-05T24:00:00.000Z",
        "2026-01-05T10:11:61.500Z",
        "2026-01-05T10:11:12.5x0Z",
        "2026-01-05T10:11:12.x00Z",
        "2026-01-05T10:11:x2.500Z",
        "2026-01-05 10:11:12.500Z",
        "2026-01-05T10:11:12.500z",
        "2026-01-05T10:11:12,500Z",
        "2026-01-05T10:11:60.500Z",
        "2026x01-05T10:11:12.500Z",
        "١٢3456789012345678",
    ],
)
def test_odd_text_among_many_of_one_shape_is_read_as_by_itself(odd: str) -> None:
    texts = [f"2026-01-05T10:11:{number % 60:02d}.500Z" for number in range(99)]
    texts[50:50] = [odd]
    assert parse_times(pl.Series(texts)).to_list() == [read(text) for text in texts]
