"""Columns of CSV and Parquet to events: types, nesting, gaps, and what no field asks for."""

from __future__ import annotations

import json
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from config import InputRules
from events.presets import build_mapping
from events.tabular import encode_rows, select_text
from tests.support.records import Row, decode, free, read_events, read_reasons

TIME = "2026-01-05T10:11:12Z"
RULES = free(("user_id", "event_name"), event_time="t")
MOMENT = datetime(2026, 1, 5, 10, 11, 12, 123_456)


def read(columns: dict[str, Any], rules: InputRules = RULES) -> list[Row]:
    """Decode columns beside a good user, name and time; nothing may be dead."""
    frame = pl.DataFrame(columns)
    good = {"user_id": "u", "event_name": "E", "t": TIME}
    frame = frame.with_columns(pl.lit(value).alias(name) for name, value in good.items() if name not in columns)
    decoded = decode(frame, rules)
    assert decoded.dead.height == 0, decoded.dead.rows(named=True)
    return read_events(decoded)


@pytest.mark.parametrize(
    "column",
    [
        pl.Series([MOMENT], dtype=pl.Datetime("us")),
        pl.Series([MOMENT], dtype=pl.Datetime("ns")),
        pl.Series([MOMENT], dtype=pl.Datetime("us")).dt.replace_time_zone("UTC"),
        pl.Series([MOMENT], dtype=pl.Datetime("us")).dt.replace_time_zone("UTC").dt.convert_time_zone("Asia/Kathmandu"),
        pl.Series([1_767_607_872_123_456]),
        pl.Series(["2026-01-05 10:11:12.123456"]),
    ],
    ids=["naive", "nanoseconds", "UTC", "zone", "integer", "text"],
)
def test_typed_time_is_that_moment_and_without_a_zone_utc(column: pl.Series) -> None:
    (event,) = read({"t": column})
    assert event["event_time"] == MOMENT.replace(tzinfo=timezone.utc)


def test_milliseconds_days_and_seconds_as_floats_are_times() -> None:
    assert read({"t": pl.Series([MOMENT], dtype=pl.Datetime("ms"))})[0]["event_time"].microsecond == 123_000
    assert read({"t": [date(2026, 1, 5)]})[0]["event_time"] == datetime(2026, 1, 5, tzinfo=timezone.utc)
    assert read({"t": [1_767_607_872.5]})[0]["event_time"].microsecond == 500_000
    assert read({"t": [1.767607872e12]})[0]["event_time"].second == 12


@pytest.mark.parametrize(
    ("moment", "reason"),
    [(datetime(1969, 12, 31), "time_out_of_range"), (datetime(9999, 1, 1), "time_out_of_range"), (None, "no_time")],
)
def test_typed_time_out_of_range_or_missing_is_dead(moment: datetime | None, reason: str) -> None:
    frame = pl.DataFrame(
        {"t": [moment], "user_id": ["u"], "event_name": ["E"]}, schema_overrides={"t": pl.Datetime("us")}
    )
    assert read_reasons(decode(frame, RULES)) == [reason]


@pytest.mark.parametrize(
    ("column", "text"),
    [
        (pl.Series([7]), "7"),
        (pl.Series([7], dtype=pl.UInt8), "7"),
        (pl.Series([7.0]), "7"),
        (pl.Series([7.5]), "7.5"),
        (pl.Series([-0.0]), "0"),
        (pl.Series([2**53 - 1], dtype=pl.Float64), "9007199254740991"),
        (pl.Series([2**63], dtype=pl.UInt64), "9223372036854775808"),
        (pl.Series([True]), "true"),
        (pl.Series([b"bytes"]), "bytes"),
        (pl.Series([b"\xff\x00"]), "ff00"),
        (pl.Series([Decimal("1.50")]), "1.50"),
        (pl.Series([date(2026, 1, 5)]), "2026-01-05"),
        (pl.Series([time(1, 2, 3)]), "01:02:03"),
        (pl.Series([timedelta(seconds=1)]), "1000000"),
        (pl.Series(["x"], dtype=pl.Categorical), "x"),
        (pl.Series(["x"], dtype=pl.Enum(["x"])), "x"),
    ],
    ids=lambda value: str(value.dtype) if isinstance(value, pl.Series) else value,
)
def test_any_type_is_an_id(column: pl.Series, text: str) -> None:
    assert read({"user_id": column})[0]["user_id"] == text


def test_whole_floats_beside_gaps_are_the_numbers_they_were() -> None:
    rules = free(("user_id", "event_name", "device_id"), event_time="t")
    events = read({"user_id": [7.0, None, float("nan")], "device_id": ["a", "b", "c"]}, rules)
    assert [event["person_id"] for event in events] == ["7", "b", "c"]


@pytest.mark.parametrize(
    "column",
    [[None], pl.Series([None], dtype=pl.Float64), [["a"]], [{"a": 1}], pl.Series([[]], dtype=pl.List(pl.Null))],
)
def test_null_and_nested_ids_are_dead(column: Any) -> None:
    frame = pl.DataFrame({"t": [TIME], "user_id": column, "event_name": ["E"]})
    assert read_reasons(decode(frame, RULES)) in (["no_person"], ["bad_person"])


def test_columns_that_no_field_asks_for_become_properties() -> None:
    (event,) = read({"price": [9.5], "tags": [["a", "b"]], "where": [{"city": "Köln", "at": [1, None]}], "gap": [None]})
    assert json.loads(event["properties"]) == {
        "price": 9.5,
        "tags": ["a", "b"],
        "where": {"city": "Köln", "at": [1, None]},
        "gap": None,
    }


def test_every_type_can_be_a_property() -> None:
    columns = {
        "binary": [b"\xff"],
        "span": [timedelta(milliseconds=2)],
        "clock": [time(1)],
        "naive": [MOMENT],
        "decimal": [Decimal("1.5")],
        "nan": [float("nan")],
        "kind": pl.Series(["x"], dtype=pl.Categorical),
        "deep": [{"list": [b"ok", b"\xfe"], "span": timedelta(seconds=1), "empty": None}],
        "array": pl.Series([[1, 2]], dtype=pl.Array(pl.Int64, 2)),
        "large": pl.Series([2**64 - 1], dtype=pl.UInt64),
    }
    (event,) = read(columns)
    found = json.loads(event["properties"])
    assert list(found) == list(columns)
    assert (found["binary"], found["span"], found["nan"]) == ("ff", 2000, None)
    assert found["deep"] == {"list": ["ok", "fe"], "span": 1_000_000, "empty": None}
    assert (found["array"], found["large"]) == ([1, 2], 2**64 - 1)


def test_mapped_properties_win_over_the_rest() -> None:
    rules = free(("user_id", "event_name"), event_time="t", properties="data")
    (struct,) = read({"data": [{"a": 1}], "price": [5]}, rules)
    assert struct["properties"] == '{"a":1}'
    text, number, broken = read({"data": ['{"b":[2]}', "5", "no {json"], "price": [5, 5, 5]}, rules)
    assert [event["properties"] for event in (text, number, broken)] == ['{"b":[2]}', "5", '"no {json"']
    (absent,) = read({"price": [5]}, rules)
    assert absent["properties"] == '{"price":5}'


def test_dots_reach_into_structs_and_into_text_that_holds_json() -> None:
    rules = free(("event_name",), event_time="t", user_id="who.id", page="`page.url`")
    (struct,) = read({"who": [{"id": 5, "name": "n"}], "page.url": ["/x"]}, rules)
    assert (struct["user_id"], struct["page"]) == ("5", "/x")
    (text,) = read({"who": ['{"id":"z"}']}, rules)
    assert text["user_id"] == "z"
    frame = pl.DataFrame({"who": ["not json"], "t": [TIME], "event_name": ["E"]})
    assert read_reasons(decode(frame, rules)) == ["no_person"]


def test_context_of_the_preset_may_be_a_struct_json_or_anything_else() -> None:
    good = {"type": ["track"], "event": ["E"], "userId": ["u"], "timestamp": [TIME]}
    for context in ({"page": {"path": "/p"}}, '{"page":{"path":"/p"}}'):
        assert read_events(decode(pl.DataFrame({**good, "context": [context]})))[0]["page"] == "/p"
    for context in ("web", 5, [1], None, '{"page":5}', '["x"]'):
        assert read_events(decode(pl.DataFrame({**good, "context": [context]}, strict=False)))[0]["page"] is None


def test_columns_that_are_not_there_are_null_and_rows_are_as_many() -> None:
    text = select_text(pl.DataFrame({"other": [1, 2, 3]}), build_mapping(RULES))
    assert (text.height, text["user_id"].null_count(), text["event_time"].null_count()) == (3, 3, 3)
    assert set(text.dtypes) == {pl.String}
    assert text["properties"].to_list() == ['{"other":1}', '{"other":2}', '{"other":3}']
    none = select_text(pl.DataFrame({"other": []}), build_mapping(RULES))
    assert (none.height, none.columns) == (0, text.columns)


def test_row_is_written_as_json_text() -> None:
    frame = pl.DataFrame({"a": [1, None], 'b "q"': ["x\n", "\0"]})
    assert [json.loads(row) for row in encode_rows(frame)] == [{"a": 1, 'b "q"': "x\n"}, {"a": None, 'b "q"': "\0"}]


def test_names_of_columns_may_be_odd() -> None:
    rules = free(user_id='`it\'s "one"; --`', event_time="Zeit", event_name="名")
    (event,) = read({'it\'s "one"; --': ["u"], "Zeit": [TIME], "名": ["E"], "": [1]}, rules)
    assert (event["user_id"], event["event_name"]) == ("u", "E")
