"""Frames of CSV or Parquet rows to the text columns that `canonicalise` reads."""

from __future__ import annotations

import threading

import duckdb
import polars as pl

from events.presets import Mapping, quote


class _Engine(threading.local):
    def __init__(self) -> None:
        self.connection = duckdb.connect(config={"threads": 1})


_engine = _Engine()


def select_text(frame: pl.DataFrame, mapping: Mapping) -> pl.DataFrame:
    """Apply the mapping to a frame of rows; n -> n, same order, every column String.

    Columns that the mapping does not use become the JSON text of `properties` unless it is mapped.
    """
    if frame.height == 0:
        return pl.DataFrame(schema=dict.fromkeys(mapping.select, pl.String))
    used = [name for name in mapping.columns if name in frame.columns]
    rest = [name for name in frame.columns if name not in used]
    typed = [_to_text(frame.schema[name], name) for name in used]
    missing = [pl.lit(None, dtype=pl.String).alias(name) for name in mapping.columns if name not in frame.columns]
    source = frame.select(*typed, *missing)
    casts = ", ".join(
        f"CAST({quote(name)} AS {kind if kind != 'VARCHAR' else 'VARCHAR'}) AS {quote(name)}" for name, kind in mapping.columns.items()
    )
    select = ", ".join(f"CAST({expression} AS VARCHAR) AS {name}" for name, expression in mapping.select.items())
    _engine.connection.register("rows", source.to_arrow())
    table = _engine.connection.sql(f"SELECT {select} FROM (SELECT {casts} FROM rows)").to_arrow_table()
    _engine.connection.unregister("rows")
    text = pl.from_arrow(table)
    result = text if isinstance(text, pl.DataFrame) else text.to_frame()
    if "NULL AS VARCHAR" in mapping.select["properties"] and rest:
        packed = frame.select(pl.struct(rest).struct.json_encode().alias("properties")).to_series()
        result = result.with_columns(packed)
    return result


def _to_text(dtype: pl.DataType, name: str) -> pl.Expr:
    column = pl.col(name)
    if isinstance(dtype, pl.Datetime):
        utc = column.dt.cast_time_unit("us").cast(pl.Int64).cast(pl.Datetime("us"))
        return utc.dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
    if isinstance(dtype, pl.Struct):
        return column.struct.json_encode()
    if dtype == pl.Binary:
        return column.cast(pl.String, strict=False)
    if isinstance(dtype, (pl.List, pl.Array)):
        return pl.struct(column).struct.json_encode()
    return column.cast(pl.String)
