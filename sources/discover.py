"""Which files a replay reads: globs, folders, standard input; and of what kind each one is."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from errors import InputError

KINDS = {".ndjson": "ndjson", ".jsonl": "ndjson", ".json": "ndjson", ".log": "ndjson", ".csv": "csv", ".parquet": "parquet"}
PACKED = {".gz": "gzip", ".gzip": "gzip", ".zst": "zstd", ".zstd": "zstd"}
STDIN = "-"
GZIP_MAGIC, ZSTD_MAGIC, PARQUET_MAGIC = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1"


@dataclass(frozen=True)
class FoundFile:
    """One input: `name` is how tables call it, `kind` ndjson|csv|parquet, `packing` ''|gzip|zstd."""

    path: str
    name: str
    kind: str
    packing: str
    size: int


def find_files(patterns: Sequence[str]) -> list[FoundFile]:
    """Expand files, folders and globs; sorted by path, each file once; raises InputError."""
    found: dict[str, FoundFile] = {}
    for pattern in patterns:
        for path, name in _expand(pattern):
            found.setdefault(os.path.abspath(path) if path != STDIN else STDIN, describe_file(path, name))
    if not found:
        raise InputError(f"no event files in {', '.join(patterns)}", remedy=f"name files ending in {_endings()}, or - for standard input")
    return [found[key] for key in sorted(found)]


def _expand(pattern: str) -> list[tuple[str, str]]:
    if pattern == STDIN:
        return [(STDIN, "stdin")]
    path = Path(pattern)
    if path.is_dir():
        inside = [p for p in sorted(path.rglob("*")) if p.is_file() and not _is_hidden(p.relative_to(path)) and guess_kind(p.name)]
        return [(str(p), p.relative_to(path).as_posix()) for p in inside]
    if path.is_file():
        return [(pattern, path.name)]
    if glob.has_magic(pattern):
        root = Path(pattern[: min(i for i in (pattern.find(c) for c in "*?[") if i >= 0)]).parent
        if pattern[: len(str(root)) + 1].endswith("/") or not str(root):
            root = Path(str(root))
        matches = [Path(p) for p in sorted(glob.glob(pattern, recursive=True)) if os.path.isfile(p)]
        return [(str(p), os.path.relpath(p, root)) for p in matches]
    raise InputError(f"{pattern}: there is no such file or folder", remedy="check the path; quote a glob so that the shell leaves it alone")


def _is_hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)


def guess_kind(name: str) -> tuple[str, str] | None:
    """Tell kind and packing from a file's name, None if it has no known ending."""
    stem, ending = os.path.splitext(name.lower())
    packing = PACKED.get(ending, "")
    if packing:
        ending = os.path.splitext(stem)[1]
        return KINDS.get(ending, "ndjson"), packing
    kind = KINDS.get(ending)
    return (kind, "") if kind else None


def describe_file(path: str, name: str) -> FoundFile:
    """Look at a file's name and first bytes; raises InputError for what can't be read or is of no known kind."""
    if path == STDIN:
        return FoundFile(STDIN, name, "ndjson", "", 0)
    try:
        with open(path, "rb") as file:
            head = file.read(4)
        size = os.path.getsize(path)
    except OSError as problem:
        raise InputError(f"{path}: {problem.strerror}", remedy="check that the file can be read") from problem
    guessed = guess_kind(name)
    if guessed is None:
        raise InputError(f"{path}: unknown kind of file", remedy=f"use an ending of {_endings()}")
    kind, packing = guessed
    if head[:2] == GZIP_MAGIC:
        packing = "gzip"
    elif head == ZSTD_MAGIC:
        packing = "zstd"
    elif packing and size:
        raise InputError(f"{path}: is named {packing}, but is not", remedy="rename it to what it is")
    if (head == PARQUET_MAGIC) != (kind == "parquet") and size:
        raise InputError(f"{path}: the name says {kind}, the content says otherwise", remedy="rename it to what it is")
    return FoundFile(path, name, kind, packing, size)


def _endings() -> str:
    return ", ".join(KINDS) + " (also " + ", ".join(PACKED) + ")"
