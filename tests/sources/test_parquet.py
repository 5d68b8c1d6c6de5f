"""Parquet: positions inside row groups, damage, and columns of every kind."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from errors import InputError
from sources.probing import make_block
from tests.support.files import find_one, read_cuts, write_parquet
from tests.support.records import Row, decode, free

ROWS: list[Row] = [{"t": 1_767_607_872 + i, "u": f"u{i}", "n": "E"} for i in range(40)]
RULES = free(event_time="t", user_id="u", event_name="n")


def decode_all(path: Path, block: int) -> list[tuple[int, str]]:
    """Return position and user of every event, and position and reason of every dead letter."""
    found: list[tuple[int, str]] = []
    for cut in read_cuts(find_one(path), None, block):
        made = make_block(cut, find_one(path), "lane-000", 0)
        decoded = decode(made.payload, RULES, kind="parquet", first_position=made.first_position)
        if decoded.events.height:
            found += decoded.events.select("source_position", pl.col("user_id").cast(pl.String)).rows()
        found += decoded.dead.select("source_position", "reason").rows()
    return sorted(found)


def test_parquet_goes_on_inside_a_row_group(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", ROWS, group=16)
    cuts = read_cuts(find_one(path), None, 60)
    assert len(cuts) > 6
    assert [cut.first_record for cut in cuts] == [0, *(cut.next_record for cut in cuts[:-1])]
    rest = read_cuts(find_one(path), cuts[2], 1 << 20)
    assert rest[0].first_record == cuts[2].next_record
    assert sum(cut.payload.height for cut in rest if isinstance(cut.payload, pl.DataFrame)) == 40 - cuts[2].next_record


@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda data: data[:4] + b"\xff" * 300 + data[304:]])
def test_damaged_parquet_is_an_error(tmp_path: Path, damage: object) -> None:
    path = write_parquet(tmp_path / "a.parquet", ROWS * 20, group=400)
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(InputError, match=r"a\.parquet: (is not a readable Parquet file|can't be read)"):
        decode_all(path, 100)


def test_parquet_without_rows_and_with_columns_of_nothing(tmp_path: Path) -> None:
    table = pa.table({"t": pa.array([], pa.timestamp("ns")), "u": pa.array([], pa.string())})
    pq.write_table(table, tmp_path / "none.parquet")
    assert read_cuts(find_one(tmp_path / "none.parquet")) == []
    nulls = pa.table({"t": pa.array([None, None], pa.timestamp("ms", "Europe/Berlin")), "u": pa.array([None, None])})
    pq.write_table(nulls, tmp_path / "nulls.parquet")
    assert decode_all(tmp_path / "nulls.parquet", 100) == [(0, "no_time"), (1, "no_time")]


def test_parquet_of_maps_dictionaries_decimals_and_large_types(tmp_path: Path) -> None:
    table = pa.table(
        {
            "t": pa.array([1_767_607_872_000_000], pa.timestamp("us")),
            "u": pa.array(["u"]).dictionary_encode(),
            "n": pa.array(["E"], pa.large_string()),
            "map": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
            "blob": pa.array([b"\xff"], pa.large_binary()),
            "fixed": pa.array([b"abcd"], pa.binary(4)),
            "small": pa.array([1.5], pa.float16()),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    assert decode_all(tmp_path / "a.parquet", 100) == [(0, "u")]
