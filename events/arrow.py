"""Arrow arrays and tables handed to Polars by the C interface alone.

Given PyArrow's own objects, Polars imports `pyarrow.compute`, which takes a tenth of a second.
"""

from __future__ import annotations

from typing import Any

import polars as pl
import pyarrow as pa


class _Array:
    def __init__(self, array: pa.Array) -> None:
        self.array = array

    def __arrow_c_array__(self, requested_schema: object | None = None) -> Any:
        return self.array.__arrow_c_array__(requested_schema)


class _Stream:
    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> Any:
        return self.table.__arrow_c_stream__(requested_schema)


def read_array(array: pa.Array) -> pl.Series:
    """Make a column of an array; n -> n."""
    return pl.Series(_Array(array))


def read_table(table: pa.Table) -> pl.DataFrame:
    """Make a frame, in one chunk, of a table; n -> n."""
    return pl.DataFrame(_Stream(table)).rechunk()
