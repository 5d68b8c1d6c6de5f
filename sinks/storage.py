"""Files that appear whole or not at all, locks, and the folders of a warehouse."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from disk import sync
from errors import FormatError, WarehouseLockedError

# Tests only: "point", "point:n" or "point:n:signal" sends the process the signal (9) the n-th time and later.
FAIL_AT = "JOURNEYS_FAIL_AT"
_passed: dict[str, int] = {}


@dataclass(frozen=True)
class Folders:
    """The folders of a warehouse; data files stand in one folder a table beside `_journeys`."""

    root: Path

    @property
    def inner(self) -> Path:
        return self.root / "_journeys"

    @property
    def manifests(self) -> Path:
        return self.inner / "manifests"

    @property
    def pending(self) -> Path:
        return self.inner / "pending"

    @property
    def recovery(self) -> Path:
        return self.inner / "recovery"

    @property
    def inboxes(self) -> Path:
        return self.inner / "inbox"

    @property
    def archive(self) -> Path:
        return self.inner / "archive"

    @property
    def sent(self) -> Path:
        return self.inner / "sent"

    @property
    def catalog(self) -> Path:
        return self.root / "journeys.duckdb"

    def make(self) -> None:
        """Make the folders that are missing."""
        for folder in (self.root, self.inner, self.manifests, self.pending):
            folder.mkdir(parents=True, exist_ok=True)


def pass_point(name: str) -> None:
    """A named point of the commit at which a test can kill or halt the process."""
    wanted = os.environ.get(FAIL_AT)
    if not wanted:
        return
    point, _, rest = wanted.partition(":")
    if point == name:
        count, _, number = rest.partition(":")
        _passed[name] = _passed.get(name, 0) + 1
        if _passed[name] >= int(count or 1):
            os.kill(os.getpid(), int(number or 9))


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader or a crash sees the old one or the new one, and power loss too."""
    beside = path.with_name(f".{path.name}.tmp")
    with open(beside, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    pass_point("before_rename")
    os.replace(beside, path)
    sync(path.parent)


def read_json(path: Path) -> dict[str, object]:
    """Read a JSON object; raises FormatError where it is damaged."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as problem:
        raise FormatError(
            f"{path}: can't be read ({problem})", remedy="restore the file from a copy, or replay into a new warehouse"
        ) from problem
    if not isinstance(value, dict):
        raise FormatError(
            f"{path}: is not a JSON object", remedy="restore the file from a copy, or replay into a new warehouse"
        )
    return value


@contextmanager
def hold_writer_lock(folders: Folders, what: str) -> Iterator[None]:
    """Keep other writers out; the kernel lets go when the process ends, so a lock can't outlive its holder."""
    folders.make()
    path = folders.inner / "writer.lock"
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as problem:
            holder = os.pread(handle, 200, 0).decode(errors="replace").strip() or "another process"
            raise WarehouseLockedError(
                f"{folders.root}: is being written by {holder}",
                remedy="wait for it, stop it with Ctrl-C, or use another --warehouse",
            ) from problem
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} ({what})\n".encode(), 0)
        yield
        os.ftruncate(handle, 0)
    finally:
        os.close(handle)


@contextmanager
def hold_publish_lock(folders: Folders) -> Iterator[None]:
    """Serialise the moments in which the manifest changes: the job, compaction and forgetting."""
    handle = os.open(folders.inner / "publish.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def hold_rewrite_lock(folders: Folders, *, wait: bool = True) -> Iterator[bool]:
    """Keep out whoever else rewrites data files that were published: compaction, forgetting.

    Yields whether the lock was got, which with `wait` it always is. Order of the locks: writer, rewrite, publish.
    """
    handle = os.open(folders.inner / "rewrite.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            got = True
        except BlockingIOError:
            got = False
        yield got
    finally:
        os.close(handle)
