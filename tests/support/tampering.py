"""Data files of a warehouse changed by hand."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from sinks.manifest import read_manifest
from sinks.storage import Folders

Change = Callable[[pl.DataFrame], pl.DataFrame]


def tamper(folders: Folders, table: str, change: Change) -> None:
    """Rewrite the largest committed file of a table."""
    file = max(read_manifest(folders).files[table], key=lambda file: file.rows)
    path = folders.root / file.path
    change(pl.read_parquet(path, hive_partitioning=False)).write_parquet(path)


def drop_last(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.head(-1)


def repeat_first(frame: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([frame.head(1), frame])


def set_first(column: str, value: object) -> Change:
    """Change one value of the first row."""
    return lambda frame: frame.with_columns(
        pl.when(pl.int_range(pl.len()) == 0)
        .then(pl.lit(value))
        .otherwise(pl.col(column).cast(pl.String) if isinstance(value, str) else pl.col(column))
        .alias(column)
    )


def add_to_first(column: str, amount: float) -> Change:
    """Add to one value of the first row."""
    return lambda frame: frame.with_columns(
        pl.when(pl.int_range(pl.len()) == 0).then(pl.col(column) + amount).otherwise(pl.col(column)).alias(column)
    )
