"""Files of events in every format that is read."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl
import zstandard

from sources.discover import FoundFile, find_files
from sources.readers import Cut, read_file
from tests.support.records import Row

Write = Callable[[Path, Sequence[Row]], Path]


def find_one(path: Path) -> FoundFile:
    """Return the one file of a path."""
    (file,) = find_files([str(path)])
    return file


def dump_lines(rows: Sequence[Row]) -> bytes:
    """Write rows as lines of JSON."""
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def dump_csv(rows: Sequence[Row]) -> bytes:
    """Write rows as CSV with a header; line ends are those of RFC 4180."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def pack_gzip(plain: bytes, members: int = 3) -> bytes:
    """Pack bytes as several gzip members, cut anywhere."""
    size = len(plain) // members + 1
    return b"".join(gzip.compress(plain[at : at + size]) for at in range(0, len(plain), size))


def pack_zstd(plain: bytes, frames: int = 3) -> bytes:
    """Pack bytes as several Zstandard frames, with a frame between them that readers skip."""
    size = len(plain) // frames + 1
    skipped = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"skip"
    packed = [zstandard.ZstdCompressor().compress(plain[at : at + size]) for at in range(0, len(plain), size)]
    return skipped.join(packed)


def write_parquet(path: Path, rows: Sequence[Row], group: int = 7) -> Path:
    """Write rows as Parquet in small row groups."""
    pl.DataFrame(rows).write_parquet(path, row_group_size=group)
    return path


def _writer(ending: str, dump: Callable[[Sequence[Row]], bytes], pack: Callable[[bytes], bytes]) -> Write:
    def write(folder: Path, rows: Sequence[Row]) -> Path:
        path = folder / f"events{ending}"
        path.write_bytes(pack(dump(rows)))
        return path

    return write


FORMATS: dict[str, Write] = {
    ".ndjson": _writer(".ndjson", dump_lines, bytes),
    ".ndjson.gz": _writer(".ndjson.gz", dump_lines, pack_gzip),
    ".ndjson.zst": _writer(".ndjson.zst", dump_lines, pack_zstd),
    ".csv": _writer(".csv", dump_csv, bytes),
    ".csv.gz": _writer(".csv.gz", dump_csv, pack_gzip),
    ".csv.zst": _writer(".csv.zst", dump_csv, pack_zstd),
    ".parquet": lambda folder, rows: write_parquet(folder / "events.parquet", rows),
}


def read_cuts(file: FoundFile, cut: Cut | None = None, block: int = 100, limit: int = 1 << 20) -> list[Cut]:
    """Read a file from the position after a cut, from its beginning if there is none."""
    at = (cut.next_offset, cut.next_record) if cut else (0, 0)
    return list(read_file(file, *at, block, limit))


def join_text(cuts: Sequence[Cut]) -> bytes:
    """Return the text of consecutive cuts."""
    return b"".join(cut.payload for cut in cuts if isinstance(cut.payload, bytes))
