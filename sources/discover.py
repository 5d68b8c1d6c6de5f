"""Which files a replay reads: globs, folders, standard input; and of what kind each one is."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from errors import InputError

KINDS = {
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".json": "ndjson",
    ".log": "ndjson",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrows": "archive",
}
PACKED = {".gz": "gzip", ".gzip": "gzip", ".zst": "zstd", ".zstd": "zstd"}
STDIN = "-"
GZIP_MAGIC, ZSTD_MAGIC, PARQUET_MAGIC = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1"
ARROW_MAGIC = b"\xff\xff\xff\xff"
WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class FoundFile:
    """One input: `name` is how tables call it, `kind` ndjson|csv|tsv|parquet|archive, `packing` ''|gzip|zstd."""

    path: str
    name: str
    kind: str
    packing: str
    size: int


def find_files(patterns: Sequence[str], tabs: bool = False) -> list[FoundFile]:
    """Expand files, folders and globs; sorted by path, each file once, whatever names lead to it; raises InputError.

    `tabs`: the format has records of tab-separated lines. They have no header, so other formats can't read them.
    Paths are absolute, so that a later run finds the files of an earlier one from another folder.
    """
    found: dict[str, tuple[str, str]] = {}
    for pattern in patterns:
        for path, name in _expand(pattern, tabs):
            found.setdefault(STDIN if path == STDIN else os.path.realpath(path), (path, name))
    if not found:
        remedy = f"name files ending in {_endings()}, or - for standard input"
        raise InputError(f"no event files in {', '.join(patterns)}", remedy=remedy)
    files = [describe_file(key, found[key][1]) for key in sorted(found)]
    strange = next((found[file.path][0] for file in files if file.kind == "tsv" and not tabs), "")
    if strange:
        raise InputError(
            f"{strange}: tab-separated lines without a header are Snowplow's",
            remedy='set format = "snowplow" under [input], or make it a CSV file with a header',
        )
    # Two files that would have one name are told apart by the path as given.
    names = Counter(file.name for file in files)
    given = {key: Path(path).as_posix() for key, (path, _) in found.items()}
    return [file if names[file.name] == 1 else replace(file, name=given[file.path]) for file in files]


def _expand(pattern: str, tabs: bool) -> list[tuple[str, str]]:
    if pattern == STDIN:
        return [(STDIN, "stdin")]
    path = Path(pattern)
    if path.is_dir():
        inside = (p for p in sorted(path.rglob("*")) if _is_event_file(p, path, tabs))
        return [(str(p), p.relative_to(path).as_posix()) for p in inside]
    if path.is_file():
        return [(pattern, path.name)]
    if path.exists():
        raise InputError(f"{pattern}: is a pipe or device", remedy="read it as standard input: journeys replay - < …")
    if glob.has_magic(pattern):
        fixed = pattern[: min(at for at in map(pattern.find, "*?[") if at >= 0)]
        root = fixed[: fixed.rfind("/") + 1]
        matches = [match for match in sorted(glob.glob(pattern, recursive=True)) if os.path.isfile(match)]
        return [(match, Path(os.path.relpath(match, root or ".")).as_posix()) for match in matches]
    remedy = "check the path; quote a glob so that the shell leaves it alone"
    raise InputError(f"{pattern}: there is no such file or folder", remedy=remedy)


def _is_event_file(path: Path, root: Path, tabs: bool) -> bool:
    hidden = any(part.startswith((".", "_")) for part in path.relative_to(root).parts)
    kind, _ = guess_kind(path.name) or ("", "")
    return not hidden and kind != "" and (tabs or kind != "tsv") and path.is_file()


def guess_kind(name: str) -> tuple[str, str] | None:
    """Tell kind and packing from a file's name, None if it has no known ending."""
    stem, ending = os.path.splitext(name.lower())
    packing = PACKED.get(ending, "")
    if packing:
        ending = os.path.splitext(stem)[1]
        return None if ending == ".tar" else (KINDS.get(ending, "ndjson"), packing)
    kind = KINDS.get(ending)
    return (kind, "") if kind else None


def describe_file(path: str, name: str) -> FoundFile:
    """Look at a file's name and first bytes; raises InputError for what can't be read or is of no known kind."""
    if path == STDIN:
        return FoundFile(STDIN, name, "ndjson", "", 0)
    try:
        with open(path, "rb") as file:
            head, size = file.read(4), os.fstat(file.fileno()).st_size
    except OSError as problem:
        raise InputError(f"{path}: {problem.strerror}", remedy="check that the file can be read") from problem
    guessed = guess_kind(name)
    if guessed is None:
        raise InputError(f"{path}: unknown kind of file", remedy=f"use an ending of {_endings()}")
    kind, packing = guessed
    return FoundFile(path, name, kind, _check_head(path, head, kind, packing) if size else packing, size)


def _check_head(path: str, head: bytes, kind: str, packing: str) -> str:
    """Return the packing that the first bytes tell; raises InputError where they belie the name."""
    if (head == ARROW_MAGIC) != (kind == "archive"):
        raise InputError(f"{path}: the name says {kind}, the content says otherwise", remedy="rename it to what it is")
    if kind == "archive":
        return ""
    if head[:2] == GZIP_MAGIC and kind != "parquet":
        return "gzip"
    if head == ZSTD_MAGIC and kind != "parquet":
        return "zstd"
    if packing:
        raise InputError(f"{path}: is named {packing}, but is not", remedy="rename it to what it is")
    if head[:2] in WIDE_MARKS and kind != "parquet":
        raise InputError(f"{path}: is UTF-16 text", remedy="convert it: iconv -f utf-16 -t utf-8")
    if (head == PARQUET_MAGIC) != (kind == "parquet"):
        raise InputError(f"{path}: the name says {kind}, the content says otherwise", remedy="rename it to what it is")
    return ""


def _endings() -> str:
    return ", ".join(KINDS) + " (also " + ", ".join(PACKED) + ")"
