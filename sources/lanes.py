"""Lanes: files whose time ranges follow one another are one source partition, overlapping ones are several."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone

from errors import InputError, SourceChangedError
from sources.archive import read_origin
from sources.discover import STDIN, FoundFile, describe_file
from sources.probing import Decode, digest_head, make_block, probe_times
from sources.readers import explain_failure, open_text

__all__ = ["Decode", "Lane", "LaneFile", "check_lanes", "describe_lanes", "make_block", "plan_lanes"]

SHOWN = 12  # lanes that are described one by one
ANOTHER = "put the old content back, give the new content a new name, or replay into a new warehouse"


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


def plan_lanes(
    found: Sequence[FoundFile], known: Sequence[Lane], decode: Decode, mode: str, lateness: int
) -> tuple[Lane, ...]:
    """Put new files into lanes: at the end of a lane that is over when the file begins, else into one of their own.

    `known` lanes keep their names and files; `mode`: auto | each (a lane per file) | one (all in name order).
    Files in a lane may overlap by `lateness`, which the watermark forgives. Raises SourceChangedError.
    """
    taken = {entry.file.path for lane in known for entry in lane.files}
    if STDIN in taken and all(file.path != STDIN for file in found):
        raise SourceChangedError(
            "this job reads standard input, which is not among its inputs now",
            remedy="name - again and pipe the same stream in, or replay into a new warehouse",
        )
    fresh = [file for file in found if file.path not in taken]
    if any(file.kind == "archive" for file in found):
        return _follow_archive(fresh, known)
    probing = mode == "auto" and len(fresh) + len(known) > 1
    lanes = [replace(lane, files=tuple(_refresh(entry, decode, probing) for entry in lane.files)) for lane in known]
    entries = [_describe(file, decode, probing) for file in fresh]
    if mode == "auto":
        entries.sort(key=lambda entry: (entry.first is None, entry.first or 0, entry.last or 0, entry.file.path))
    for entry in entries:
        at = _find_lane(lanes, entry, mode, lateness)
        if at is None:
            lanes.append(Lane(f"lane-{len(lanes):03d}", (entry,)))
        else:
            lanes[at] = replace(lanes[at], files=(*lanes[at].files, entry))
    return tuple(lanes)


def _follow_archive(fresh: Sequence[FoundFile], known: Sequence[Lane]) -> tuple[Lane, ...]:
    """Give each archived partition its lane, of files in the order of their names; raises InputError."""
    lanes = {lane.name: lane for lane in known}
    others = [
        file for file in (*fresh, *(entry.file for lane in known for entry in lane.files)) if file.kind != "archive"
    ]
    if others:
        raise InputError(
            f"{others[0].path}: can't be replayed together with an archive of a live job",
            remedy="replay each into a warehouse of its own",
        )
    for file in sorted(fresh, key=lambda file: os.path.basename(file.path)):
        with explain_failure(file):
            origin = read_origin(file.path)
        lane = lanes.get(origin.partition, Lane(origin.partition, ()))
        entry = LaneFile(replace(file, name=origin.source), digest_head(file), None, None)
        lanes[lane.name] = replace(lane, files=(*lane.files, entry))
    return tuple(lanes.values())


def _describe(file: FoundFile, decode: Decode, probing: bool) -> LaneFile:
    first, last = probe_times(file, decode) if probing else (None, None)
    return LaneFile(file, digest_head(file), first, last)


def _refresh(entry: LaneFile, decode: Decode, probing: bool) -> LaneFile:
    """Look again at a file of an earlier run: it may have grown, and its times may not have been needed so far."""
    file = entry.file
    if file.path == STDIN or not os.path.exists(file.path):
        return entry
    now = describe_file(file.path, file.name)
    digest = digest_head(now)
    if (now.size, digest) == (file.size, entry.digest) and (entry.last is not None or not probing):
        return entry
    first, last = probe_times(now, decode) if probing else (entry.first, entry.last)
    return LaneFile(replace(now, name=file.name), digest, first, last)


def _find_lane(lanes: Sequence[Lane], entry: LaneFile, mode: str, lateness: int) -> int | None:
    if mode == "each" or not lanes:
        return None
    if mode == "one":
        return 0
    open_ended = entry.file.path == STDIN
    if entry.first is None:
        # A file without events may stand anywhere; a stream, whose times nobody knows, only by itself.
        return None if open_ended else 0
    best, best_rank = None, (False, -1)
    for number, lane in enumerate(lanes):
        if any(other.file.path == STDIN for other in lane.files):
            continue
        end = max((other.last for other in lane.files if other.last is not None), default=0)
        # Of the lanes that are over, one of files of the same name but for a date or number, else the last to end.
        rank = (any(_strip_digits(other) == _strip_digits(entry) for other in lane.files), end)
        if end <= entry.first + lateness and rank > best_rank:
            best, best_rank = number, rank
    return best


def _strip_digits(entry: LaneFile) -> str:
    return re.sub(r"\d+", "#", entry.file.name)


def check_lanes(lanes: Sequence[Lane], positions: dict[str, tuple[int, int]]) -> list[str]:
    """Compare the files of a started job with what is there now; return notes, raise SourceChangedError.

    `positions`: lane -> (file number, offset) of the next read. A file that was read whole may be gone,
    the one being read may have grown, and one that nothing was read of may be anything.
    """
    notes = []
    for lane in lanes:
        number, offset = positions.get(lane.name, (0, 0))
        for index, entry in enumerate(lane.files):
            if entry.file.path == STDIN:
                if index < number or offset:
                    _check_stream(entry)
            elif not os.path.exists(entry.file.path):
                if index >= number:
                    raise SourceChangedError(
                        f"{entry.file.path}: vanished before it was read to its end (lane {lane.name})",
                        remedy="put the file back, or replay what is there into a new warehouse",
                    )
                notes.append(f"{entry.file.path}: was read whole and is gone now")
            elif index < number:
                _check_same(entry, 0, done=True)
            elif index == number and offset:
                _check_same(entry, offset, done=False)
    return notes


def _check_stream(entry: LaneFile) -> None:
    if digest_head(entry.file) != entry.digest:
        raise SourceChangedError(
            "standard input: begins with other bytes than the stream that was read already",
            remedy="pipe the same stream in again, from its beginning, or replay into a new warehouse",
        )


def _check_same(entry: LaneFile, offset: int, done: bool) -> None:
    file, size = entry.file, os.path.getsize(entry.file.path)
    sizes = f"({file.size:,} bytes then, {size:,} now)"
    other_size = size < file.size or (file.kind in ("parquet", "archive") and size != file.size)
    if other_size or digest_head(file, file.size) != entry.digest:
        raise SourceChangedError(f"{file.path}: changed since it was read {sizes}", remedy=ANOTHER)
    if size == file.size:
        return
    if done:
        raise SourceChangedError(
            f"{file.path}: grew after it was read whole and later files were begun {sizes}",
            remedy="move the added lines to a new file, or replay into a new warehouse",
        )
    with open_text(file, offset - 1) as stream:
        if stream.read(1) not in (b"\n", b""):
            raise SourceChangedError(
                f"{file.path}: grew {sizes}, but its last line, which had no end, was read as it was",
                remedy="move the added lines to a new file, or replay into a new warehouse",
            )


def describe_lanes(lanes: Sequence[Lane]) -> list[str]:
    """Say in lines of text how the files were ordered: how many lanes, and of each its files and their times."""
    files = sum(len(lane.files) for lane in lanes)
    if files == 1:
        return [f"1 file: {lanes[0].files[0].file.name}"]
    if len(lanes) == 1:
        head = f"{files} files that follow one another in time, read as one lane"
    else:
        head = f"{files} files in {len(lanes)} lanes; lanes overlap in time, the files of one follow one another"
    lines = [f"  {_describe_lane(lane)}" for lane in lanes[:SHOWN]]
    more = [f"  … and {len(lanes) - SHOWN} more lanes"] if len(lanes) > SHOWN else []
    return [head, *lines, *more]


def _describe_lane(lane: Lane) -> str:
    names = [entry.file.name for entry in lane.files]
    shown = ", ".join(names) if len(names) <= 3 else f"{names[0]} … {names[-1]} ({len(names)} files)"
    return f"{lane.name}: {shown}{_describe_times(lane.files)}"


def _describe_times(files: Iterable[LaneFile]) -> str:
    firsts = [entry.first for entry in files if entry.first is not None]
    lasts = [entry.last for entry in files if entry.last is not None]
    if not firsts or not lasts:
        return ""
    return f", {_show(min(firsts))} to {_show(max(lasts))} UTC"


def _show(us: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=us)
    return moment.strftime("%Y-%m-%d %H:%M:%S")
