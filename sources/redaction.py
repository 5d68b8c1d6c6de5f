"""Taking records out of inboxes and archives: each one that mentions somebody is emptied, and keeps its place."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from disk import put_in_place
from sources import archive, inbox
from sources.live import BLANK

Pattern = re.Pattern[bytes]


def redact_records(inboxes: Path, archives: Path, pattern: Pattern) -> dict[str, int]:
    """Empty all records that match; return how many, by file. The job must be stopped; raises FormatError."""
    found = {}
    for path in list_files(inboxes, archives):
        redact = _redact_inbox if path.name.endswith(inbox.SUFFIX) else _redact_archive
        count = redact(path, pattern)
        if count:
            found[str(path)] = count
    return found


def find_records(inboxes: Path, archives: Path, pattern: Pattern) -> dict[str, int]:
    """Count the records that match, by file."""
    counts = {}
    for path in list_files(inboxes, archives):
        lines = _read_inbox(path) if path.name.endswith(inbox.SUFFIX) else _read_archive(path)
        counts[str(path)] = sum(pattern.search(line) is not None for line in lines)
    return {name: count for name, count in counts.items() if count}


def list_files(inboxes: Path, archives: Path) -> list[Path]:
    """List the files that hold records as they came."""
    return sorted([*inboxes.rglob(f"*{inbox.SUFFIX}"), *archives.rglob(f"*{archive.SUFFIX}")])


def _read_inbox(path: Path) -> Iterable[bytes]:
    for frame in inbox.read_frames(path, 0, inbox.measure(path).size):
        yield from (record.line for record in frame.records)


def _read_archive(path: Path) -> Iterable[bytes]:
    for piece in archive.read_pieces(str(path), 0):
        yield from piece.lines.split(b"\n")


def _redact_inbox(path: Path, pattern: Pattern) -> int:
    frames, count = [], 0
    for frame in inbox.read_frames(path, 0, inbox.measure(path).size):
        records = [replace(one, line=BLANK) if pattern.search(one.line) else one for one in frame.records]
        count += sum(new is not old for new, old in zip(records, frame.records, strict=True))
        frames.append(inbox.pack_frame(frame.first, records))
    if count:
        _replace(path, lambda beside: beside.write_bytes(b"".join(frames)))
    return count


def _redact_archive(path: Path, pattern: Pattern) -> int:
    with pa.OSFile(str(path)) as file:
        table = pa.ipc.open_stream(file).read_all()
    lines = table["line"].to_pylist()
    kept = [BLANK if pattern.search(line) else line for line in lines]
    count = sum(new is not old for new, old in zip(kept, lines, strict=True))

    def write(beside: Path) -> None:
        changed = table.set_column(table.schema.get_field_index("line"), "line", pa.array(kept, pa.binary()))
        with pa.ipc.new_stream(str(beside), table.schema, options=archive.OPTIONS) as writer:
            writer.write_table(changed)

    if count:
        _replace(path, write)
    return count


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file anew, so that a crash leaves the old one or the new one."""
    beside = path.with_name(path.name + archive.UNFINISHED)
    write(beside)
    put_in_place(beside, path)
