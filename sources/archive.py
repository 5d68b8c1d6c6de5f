"""The archive of a live job: the records of each partition as they came, in files that a replay reads for proof.

A file holds an epoch of one partition as an Arrow IPC stream, packed with zstd: position, time of receipt and line of every
record. It is written before the epoch is durable, and named by its first position; a run that goes on at an earlier
position drops it, so the archive holds what the tables hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from disk import put_in_place
from errors import FormatError
from events.raw import RawBlock

SUFFIX = ".arrows"
VERSION = b"1"
UNFINISHED = ".tmp"
OPTIONS = pa.ipc.IpcWriteOptions(compression="zstd")
SCHEMA = pa.schema([("position", pa.int64()), ("received", pa.int64()), ("line", pa.binary())])


@dataclass(frozen=True)
class Origin:
    """Source and partition of archived records, as the live job names them."""

    source: str
    partition: str


@dataclass(frozen=True)
class Piece:
    """Archived records whose positions follow one another; `lines`: one a record, parted by newlines."""

    first: int
    lines: bytes
    received: npt.NDArray[np.int64]


class Archive:
    """Writes the archive of one partition, an epoch a file."""

    def __init__(self, folder: Path, origin: Origin, offset: int | None) -> None:
        self.folder, self.origin = folder, origin
        self.writer: pa.RecordBatchStreamWriter | None = None
        self.begun: Path | None = None
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            if _first_of(path) >= (offset or 0) or path.name.endswith(UNFINISHED):
                path.unlink()

    def add(self, block: RawBlock) -> None:
        """Write a block's records to the epoch's file; they count when it is finished."""
        if self.writer is None:
            self.begun = self.folder / f"{block.first_position:020d}{SUFFIX}{UNFINISHED}"
            origin = {"version": VERSION, "source": self.origin.source, "partition": self.origin.partition}
            self.writer = pa.ipc.new_stream(str(self.begun), SCHEMA.with_metadata(origin), options=OPTIONS)
        lines = block.payload.split(b"\n") if isinstance(block.payload, bytes) else []
        positions = np.arange(block.first_position, block.first_position + len(lines), dtype=np.int64)
        columns = [pa.array(positions), pa.array(block.received), pa.array(lines, pa.binary())]
        self.writer.write_batch(pa.record_batch(columns, schema=SCHEMA))

    def finish(self) -> None:
        """Give the epoch's file its name, durably; nothing where no record came."""
        if self.writer is None or self.begun is None:
            return
        self.writer.close()
        put_in_place(self.begun, self.begun.with_name(self.begun.name.removesuffix(UNFINISHED)))
        self.writer = self.begun = None

    def close(self) -> None:
        """Leave an unfinished file as it is: the next run drops it."""
        if self.writer is not None:
            self.writer.close()
            self.writer = None


def _first_of(path: Path) -> int:
    number = path.name.removesuffix(UNFINISHED).removesuffix(SUFFIX)
    if not number.isdigit():
        raise FormatError(f"{path}: is not a file of the archive", remedy="move it out of the archive")
    return int(number)


def read_origin(path: str) -> Origin:
    """Read where an archived file's records came from; raises FormatError, pyarrow.ArrowException."""
    with pa.OSFile(path) as file:
        metadata = pa.ipc.open_stream(file).schema.metadata or {}
    if metadata.get(b"version") != VERSION:
        raise FormatError(f"{path}: is no archive of a live job", remedy="replay files that `journeys run` archived")
    return Origin(metadata[b"source"].decode(), metadata[b"partition"].decode())


def read_pieces(path: str, skip: int) -> Iterator[Piece]:
    """Yield a file's records but for the first ones, cut where positions do not follow one another."""
    with pa.OSFile(path) as file:
        for batch in pa.ipc.open_stream(file):
            if skip >= batch.num_rows:
                skip -= batch.num_rows
                continue
            yield _make_piece(batch.slice(skip))
            skip = 0


def _make_piece(batch: pa.RecordBatch) -> Piece:
    first = batch["position"][0].as_py()
    return Piece(first, b"\n".join(batch["line"].to_pylist()), batch["received"].to_numpy())
