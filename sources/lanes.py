"""Lanes: files whose time ranges follow one another are one source partition, overlapping ones are several."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from errors import SourceChangedError
from events.canonical import Decoded
from events.raw import FILE_SHIFT, RawBlock
from sources.discover import STDIN, FoundFile
from sources.readers import Cut, read_file

HEAD = 4096
PROBE = 256 << 10
MAX_FILES = 1 << 22  # file numbers share 64 bits with record numbers


@dataclass(frozen=True)
class LaneFile:
    """One file of a lane; `first`, `last`: its event times in microseconds, None if it holds no event."""

    file: FoundFile
    digest: str
    first: int | None
    last: int | None


@dataclass(frozen=True)
class Lane:
    """A source partition: files read one after another; only appended to, once a job has started."""

    name: str
    files: tuple[LaneFile, ...]


Decode = Callable[[RawBlock], Decoded]


def make_block(cut: Cut, file: FoundFile, lane: str, number: int) -> RawBlock:
    """Give a cut its place: lane, file name and position."""
    position = (number << FILE_SHIFT) + cut.first_record
    return RawBlock(file.kind, file.name, lane, position, cut.payload, cut.header, cut.oversized)


def digest_head(file: FoundFile) -> str:
    """Hash a file's first 4 KiB, to notice when another file stands under its name."""
    if file.path == STDIN:
        return ""
    with open(file.path, "rb") as stream:
        return hashlib.sha256(stream.read(HEAD)).hexdigest()[:16]


def probe_times(file: FoundFile, decode: Decode) -> tuple[int | None, int | None]:
    """Find a file's smallest and largest event time at its beginning and end.

    Plain NDJSON is looked at in its first and last 256 KiB; other files are read through once.
    """
    if file.path == STDIN:
        return None, None
    if file.kind == "ndjson" and not file.packing and file.size > 4 * PROBE:
        with open(file.path, "rb") as stream:
            head = stream.read(PROBE)
            stream.seek(file.size - PROBE)
            tail = stream.read()
        blocks = [head[: head.rfind(b"\n") + 1], tail[tail.find(b"\n") + 1 :]]
        cuts = [Cut(block, 0, 0, 0) for block in blocks if block]
        return _fold_times(cuts, file, decode)
    return _fold_times(read_file(file, 0, 0, 4 << 20), file, decode)


def _fold_times(cuts: Iterable[Cut], file: FoundFile, decode: Decode) -> tuple[int | None, int | None]:
    first: int | None = None
    last: int | None = None
    for cut in cuts:
        times = decode(make_block(cut, file, "", 0)).events["event_time"].to_physical()
        if times.len():
            low, high = int(times.min()), int(times.max())  # type: ignore[arg-type]
            first = low if first is None else min(first, low)
            last = high if last is None else max(last, high)
    return first, last


def plan_lanes(
    found: Sequence[FoundFile], known: Sequence[Lane], decode: Decode, mode: str, lateness: int
) -> tuple[Lane, ...]:
    """Put new files into lanes: at the end of a lane that is over when the file begins, else into one of their own.

    `known` lanes keep their names and files; `mode`: auto | each (a lane per file) | one (all in name order).
    Files in a lane may overlap by `lateness`, which the watermark forgives. Raises SourceChangedError.
    """
    taken = {entry.file.path for lane in known for entry in lane.files}
    fresh = [file for file in found if file.path not in taken]
    probing = mode == "auto" and (len(fresh) > 1 or bool(known))
    entries = [LaneFile(file, digest_head(file), *(probe_times(file, decode) if probing else (None, None))) for file in fresh]
    lanes = list(known)
    if mode == "auto":
        entries.sort(key=lambda entry: (entry.first is None, entry.first or 0, entry.last or 0, entry.file.path))
    for entry in entries:
        at = _find_lane(lanes, entry, mode, lateness)
        if at is None:
            lanes.append(Lane(f"lane-{len(lanes):03d}", (entry,)))
        else:
            lanes[at] = replace(lanes[at], files=(*lanes[at].files, entry))
    return tuple(lanes)


def _find_lane(lanes: Sequence[Lane], entry: LaneFile, mode: str, lateness: int) -> int | None:
    if mode == "each" or not lanes:
        return None
    if mode == "one":
        return 0
    if entry.first is None:
        return 0
    best, best_end = None, -1
    for number, lane in enumerate(lanes):
        ends = [file.last for file in lane.files if file.last is not None]
        end = max(ends, default=-1)
        # Of the lanes that are over, the one that ended last: the file follows it most closely.
        if end <= entry.first + lateness and end > best_end:
            best, best_end = number, end
    return best


def check_lanes(lanes: Sequence[Lane], positions: dict[str, tuple[int, int]]) -> list[str]:
    """Compare the files of a started job with what is there now; return notes, raise SourceChangedError.

    `positions`: lane -> (file number, offset) of the next read. A file that was read whole may be gone.
    """
    notes = []
    for lane in lanes:
        number, offset = positions.get(lane.name, (0, 0))
        for index, entry in enumerate(lane.files):
            file = entry.file
            if file.path == STDIN:
                continue
            if not os.path.exists(file.path):
                if index < number:
                    notes.append(f"{file.path}: was read whole and is gone now")
                    continue
                raise SourceChangedError(
                    f"{file.path}: vanished before it was read to its end (lane {lane.name})",
                    remedy="put the file back, or replay what is there into a new warehouse",
                )
            size = os.path.getsize(file.path)
            same_head = digest_head(file) == entry.digest or (file.size < HEAD and size > file.size)
            if index <= number and (not same_head or size < file.size or (file.packing and size != file.size)):
                raise SourceChangedError(
                    f"{file.path}: changed since it was {'read' if index < number or offset else 'listed'}"
                    f" ({file.size} bytes then, {size} now)",
                    remedy="put the old content back, give the new content a new name, or replay into a new warehouse",
                )
            if size > file.size and index < number:
                raise SourceChangedError(
                    f"{file.path}: grew from {file.size} to {size} bytes after it was read whole and later files were begun",
                    remedy="move the added lines to a new file, or replay into a new warehouse",
                )
    return notes
