"""Frames that cross between processes keep every value and dtype, and don't go through Polars' own pickling."""

from __future__ import annotations

import copyreg
import pickle
from collections.abc import Iterator
from datetime import datetime, timezone

import polars as pl
import pytest
from polars.testing import assert_frame_equal, assert_series_equal

from events.schema import TABLES, empty
from flows.crossing import send_frames_as_ipc


@pytest.fixture(autouse=True)
def as_ipc() -> Iterator[None]:
    before = dict(copyreg.dispatch_table)
    send_frames_as_ipc()
    yield
    copyreg.dispatch_table.clear()
    copyreg.dispatch_table.update(before)


def test_a_frame_arrives_as_it_was() -> None:
    frame = pl.DataFrame(
        {
            "text": ["a", None, "ü\x00"],
            "code": pl.Series(["x", "y", "x"], dtype=pl.Categorical),
            "hash": pl.Series([1, 2**64 - 1, None], dtype=pl.UInt64),
            "time": pl.Series([datetime(2026, 1, 1, tzinfo=timezone.utc)] * 3, dtype=pl.Datetime("us", "UTC")),
            "steps": [["a", "b"], [], None],
            "bars": [[{"bucket": 1, "n": 2}], [], None],
            "raw": [b"\x00\xff", None, b""],
        }
    )
    assert_frame_equal(pickle.loads(pickle.dumps(frame)), frame)


@pytest.mark.parametrize("table", TABLES)
def test_an_empty_table_keeps_its_dtypes(table: str) -> None:
    assert pickle.loads(pickle.dumps(empty(table))).schema == empty(table).schema


def test_a_series_keeps_its_name() -> None:
    series = pl.Series("lines", [3, 1, 2], dtype=pl.UInt32)
    assert_series_equal(pickle.loads(pickle.dumps({"inside": series}))["inside"], series)


def test_polars_own_pickling_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object) -> object:
        raise AssertionError("would keep the interpreter's lock")

    monkeypatch.setattr(pl.DataFrame, "__getstate__", refuse)
    monkeypatch.setattr(pl.Series, "__getstate__", refuse)
    pickle.dumps([pl.DataFrame({"a": [1]}), pl.Series("b", [2])])
