"""Frames of CSV or Parquet rows to the text columns that `canonicalise` reads."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import polars as pl

from events.engine import Engine
from events.presets import Mapping, quote

LARGEST_WHOLE = 2**53  # beyond it, a float does not tell whole numbers apart


_engine = Engine()


def select_text(frame: pl.DataFrame, mapping: Mapping) -> pl.DataFrame:
    """Apply the mapping to a frame of rows; n -> n, same order, every column String.

    Columns that the mapping does not use become the JSON text of `properties`, unless a column of the frame is mapped
    to it. Whole floats are written as whole numbers, so that an id that became 7.0 beside a missing one is 7 again;
    timestamps without a zone are UTC.
    """
    if frame.height == 0:
        return pl.DataFrame(schema=dict.fromkeys(mapping.select, pl.String))
    used = [name for name in mapping.columns if name in frame.columns]
    missing = [pl.lit(None, dtype=pl.String).alias(name) for name in mapping.columns if name not in frame.columns]
    plain = make_plain(frame.select(used))
    texts = [_to_text(dtype, name) for name, dtype in plain.schema.items()]
    # A column of its own for the rows, in case that none is used.
    rows = pl.int_range(frame.height, eager=True).alias("").to_frame()
    source = rows.with_columns(*plain.get_columns(), *missing).with_columns(texts)
    casts = ", ".join(f"{_cast(quote(name), kind)} AS {quote(name)}" for name, kind in mapping.columns.items())
    select = ", ".join(f"CAST({expression} AS VARCHAR) AS {name}" for name, expression in mapping.select.items())
    _engine.connection.register("rows", source.to_arrow())
    table = _engine.connection.sql(f"SELECT {select} FROM (SELECT {casts} FROM rows)").to_arrow_table()
    _engine.connection.unregister("rows")
    text = pl.from_arrow(table)
    result = text if isinstance(text, pl.DataFrame) else text.to_frame()
    rest = [name for name in frame.columns if name not in used]
    if rest and not set(mapping.uses["properties"]) & set(used):
        result = result.with_columns(encode_rows(frame.select(rest)).alias("properties"))
    return result


def encode_rows(frame: pl.DataFrame) -> pl.Series:
    """Write each row as JSON text; n -> n."""
    return make_plain(frame).select(pl.struct(pl.all()).struct.json_encode().alias("row")).to_series()


def make_plain(frame: pl.DataFrame) -> pl.DataFrame:
    """Replace what can't be written as text or JSON; n -> n.

    Binary becomes text, hex digits where it is no UTF-8; a duration becomes its microseconds.
    """
    return frame.with_columns(_make_plain(frame[name]) for name in frame.columns)


def _make_plain(column: pl.Series) -> pl.Series:
    plain = _find_plain(column.dtype)
    if plain == column.dtype:
        return column
    return pl.Series(column.name, [_convert(value) for value in column.to_list()], dtype=plain)


def _find_plain(dtype: pl.DataType) -> pl.DataType:
    if isinstance(dtype, pl.Binary):
        return pl.String()
    if isinstance(dtype, pl.Duration):
        return pl.Int64()
    if isinstance(dtype, (pl.List, pl.Array)):
        inner = _instance(dtype.inner)
        return dtype if _find_plain(inner) == inner else pl.List(_find_plain(inner))
    if isinstance(dtype, pl.Struct):
        return pl.Struct({field.name: _find_plain(_instance(field.dtype)) for field in dtype.fields})
    return dtype


def _convert(value: Any) -> Any:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value.hex()
    if isinstance(value, timedelta):
        return value // timedelta(microseconds=1)
    if isinstance(value, dict):
        return {name: _convert(inner) for name, inner in value.items()}
    return [_convert(inner) for inner in value] if isinstance(value, list) else value


def _instance(dtype: object) -> pl.DataType:
    return dtype if isinstance(dtype, pl.DataType) else dtype()  # type: ignore[operator]


def _cast(name: str, kind: str) -> str:
    if kind == "VARCHAR":
        return name
    if kind == "JSON":
        return f"CASE WHEN json_valid({name}) THEN CAST({name} AS JSON) ELSE to_json({name}) END"
    return f"CASE WHEN json_valid({name}) THEN TRY_CAST(CAST({name} AS JSON) AS {kind}) END"


def _to_text(dtype: pl.DataType, name: str) -> pl.Expr:
    column = pl.col(name)
    if isinstance(dtype, pl.Datetime):
        utc = column.dt.cast_time_unit("us").cast(pl.Int64).cast(pl.Datetime("us"))
        return utc.dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
    if dtype.is_float():
        whole = (column == column.floor()) & (column.abs() <= LARGEST_WHOLE)
        number = pl.when(whole).then(column.cast(pl.Int64, strict=False).cast(pl.String))
        return pl.when(column.is_not_nan()).then(number.otherwise(column.cast(pl.String))).alias(name)
    if dtype.is_nested():
        packed = column.struct.json_encode() if isinstance(dtype, pl.Struct) else _encode_list(column)
        return pl.when(column.is_not_null()).then(packed).alias(name)
    return column.cast(pl.String, strict=False)


def _encode_list(column: pl.Expr) -> pl.Expr:
    """Write a list as a JSON array: the value of an object with one key, less the object around it."""
    return pl.struct(column.alias("v")).struct.json_encode().str.strip_prefix('{"v":').str.strip_suffix("}")
