"""Frames to Parquet files, the same types in every file of a table, durable before anybody is told of them.

PyArrow writes a third faster than Polars: it is told which columns repeat, and takes text as it lies in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from disk import sync
from sinks.manifest import DataFile, file_size


@dataclass(frozen=True)
class Packing:
    """How a file is packed: codec and its level, rows of a group, and whether dictionaries and statistics are made.

    Where `thorough` is False, only columns that are known to repeat get a dictionary.
    """

    codec: str
    level: int | None
    group: int
    thorough: bool


# For what has just come: quick. Its rows are in the order of a hash, of which smallest and largest values say nothing.
FRESH = Packing("lz4", None, 256_000, thorough=False)
# For what stays: written once and read often.
COMPACT = Packing("zstd", 6, 100_000, thorough=True)
REPEATING = ("channel", "channels.list.element", "from_step", "steps.list.element", "to_step")


def write_rows(root: Path, name: str, day: str, frame: pl.DataFrame, packing: Packing) -> DataFile:
    """Write a frame as the Parquet file `name` and make it and its name durable; nobody sees it before a manifest does.

    Categories become text; raises OSError.
    """
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [column.name for column in frame if isinstance(column.dtype, pl.Categorical)]
    whole = [column.name for column in frame if column.dtype.is_integer() or isinstance(column.dtype, pl.Datetime)]
    pq.write_table(
        pa.table([_to_arrow(column) for column in frame], names=frame.columns),
        path,
        row_group_size=packing.group,
        compression=packing.codec,
        compression_level=packing.level,
        use_dictionary=True if packing.thorough else [*names, *REPEATING],
        # Differences take less room than lz4 makes of the numbers, and less time.
        column_encoding=None if packing.thorough else dict.fromkeys(whole, "DELTA_BINARY_PACKED"),
        write_statistics=packing.thorough,
        # Without a schema of Arrow's own in the file, categories are plain text to every reader.
        store_schema=False,
    )
    sync(path)
    sync(path.parent)
    return DataFile(name, frame.height, file_size(path), day)


def _to_arrow(column: pl.Series) -> pa.Array:
    # Views of text are written as they are; those inside of dictionaries can't be.
    level = pl.CompatLevel.oldest() if isinstance(column.dtype, pl.Categorical) else pl.CompatLevel.newest()
    return column.to_arrow(compat_level=level)
