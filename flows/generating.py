"""Generated events to files: one or several, of any kind a replay reads, with the known truth beside them."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, cast

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from errors import UsageError
from sources.synthetic import Shape, Truth, format_segment, generate_frames

VISIT_EVENTS = 4.0  # a little less than a generated visit's mean length, so that the days suffice
PEOPLE_A_VISIT = 5
ENDINGS = (".ndjson", ".ndjson.gz", ".ndjson.zst", ".csv", ".parquet")
SPLITS: dict[str, tuple[str, ...]] = {"one": (), "day": ("day",), "channel": ("channel",), "both": ("channel", "day")}


@dataclass(frozen=True)
class Made:
    """What was generated: files with their numbers of records, and the truth about them."""

    files: dict[str, int]
    truth: Truth

    def to_dict(self) -> dict[str, object]:
        """Return it as values for JSON."""
        return {"files": self.files, "records": sum(self.files.values()), "truth": asdict(self.truth)}


def plan_shape(events: int, days: int, seed: int) -> Shape:
    """Spread a number of events over about that many days."""
    visits = max(1, round(events / days / VISIT_EVENTS))
    return Shape(events=events, seed=seed, visits_per_day=visits, people=visits * PEOPLE_A_VISIT)


def generate_files(shape: Shape, out: Path, split: str, ending: str) -> Made:
    """Write generated events to the file `out`, or with a split to files in the folder `out`; raises UsageError."""
    if ending not in ENDINGS:
        raise UsageError(f"{out}: unknown ending {ending!r}", remedy=f"use one of {', '.join(ENDINGS)}")
    truth = Truth()
    counts: dict[str, int] = {}
    with ExitStack() as stack:
        writers: dict[Path, Writer] = {}
        for number, frame in enumerate(generate_frames(shape, truth)):
            for path, part in divide(frame, out, split, ending, number):
                if path not in writers:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    writers[path] = stack.enter_context(open_writer(path, ending))
                writers[path].write(part)
                counts[str(path)] = counts.get(str(path), 0) + part.height
    return Made(counts, truth)


def divide(frame: pl.DataFrame, out: Path, split: str, ending: str, day: int) -> Iterator[tuple[Path, pl.DataFrame]]:
    """Give each part of a day's frame its file; rows keep their order."""
    by = SPLITS[split]
    name = f"day-{day:03d}{ending}" if "day" in by else ""
    if "channel" not in by:
        yield (out / name if name else out), frame
        return
    for (channel,), part in frame.partition_by("channel", maintain_order=True, as_dict=True).items():
        yield out / (f"{channel}/{name}" if name else f"{channel}{ending}"), part


class Writer(AbstractContextManager["Writer"]):
    """A file that frames of generated events are appended to."""

    def __init__(self, append: Callable[[pl.DataFrame], None], close: Callable[[], None]) -> None:
        self.write, self.close = append, close

    def __exit__(self, *_: object) -> None:
        self.close()


def open_writer(path: Path, ending: str) -> Writer:
    """Open a file of the kind that its ending says."""
    if ending == ".parquet":
        return _open_parquet(path)
    out = _open_bytes(path, ending)
    if ending == ".csv":
        header = True

        def append(frame: pl.DataFrame) -> None:
            nonlocal header
            buffer = io.BytesIO()
            flatten(frame).write_csv(buffer, include_header=header, datetime_format="%Y-%m-%dT%H:%M:%S%.3fZ")
            out.write(buffer.getvalue())
            header = False

        return Writer(append, out.close)
    return Writer(lambda frame: _write_lines(out, frame), out.close)


def _write_lines(out: BinaryIO, frame: pl.DataFrame) -> None:
    out.write("\n".join(format_segment(frame).to_list()).encode())
    out.write(b"\n")


def _open_bytes(path: Path, ending: str) -> BinaryIO:
    if ending.endswith(".gz"):
        # No time and name in the header: equal shapes give equal bytes.
        return cast(BinaryIO, GzipOut("", "wb", compresslevel=1, fileobj=open(path, "wb"), mtime=0))
    if ending.endswith(".zst"):
        return cast(BinaryIO, zstandard.ZstdCompressor().stream_writer(open(path, "wb"), closefd=True))
    return open(path, "wb")


class GzipOut(gzip.GzipFile):
    """A gzip file that closes what it writes to."""

    def close(self) -> None:
        below = cast("BinaryIO | None", self.fileobj)
        super().close()
        if below is not None:
            below.close()


def _open_parquet(path: Path) -> Writer:
    writer: pq.ParquetWriter | None = None

    def append(frame: pl.DataFrame) -> None:
        nonlocal writer
        table: pa.Table = flatten(frame).to_arrow(compat_level=pl.CompatLevel.oldest())
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)

    return Writer(append, lambda: writer.close() if writer is not None else None)


def flatten(frame: pl.DataFrame) -> pl.DataFrame:
    """Lay generated events out as rows with Segment's names, `properties` as JSON text; n -> n, same order."""
    return frame.select(
        pl.col("id").alias("messageId"),
        "type",
        "event",
        pl.col("device").alias("anonymousId"),
        pl.col("user").alias("userId"),
        pl.col("time").cast(pl.Datetime("us", "UTC")).alias("timestamp"),
        "channel",
        pl.struct(pl.struct(pl.col("product").alias("id"), "price").alias("product"), pl.col("search").alias("query"))
        .struct.json_encode()
        .alias("properties"),
    )


def write_truth(made: Made, path: Path) -> None:
    """Write what a right analysis of the files must find, as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(made.to_dict(), indent=1) + "\n", encoding="utf-8")
