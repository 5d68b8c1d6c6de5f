"""The compiled scanner of lines: loaded beside everything else, kept on disk, and done without where it can't be had.

What comes out is the same with it and without, so it may be there from any block on.
"""

from __future__ import annotations

import atexit
import hashlib
import importlib
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import polars as pl

from config import InputRules
from events.canonical import Decoded
from events.raw import RawBlock, find_oversized

# Reads lines of a block, which have these numbers in it, however they can be read.
ReadRest = Callable[[RawBlock, list[bytes], list[int]], Decoded]
FORMATS = ("segment", "rudderstack")
WORTH_LOADING = 64 << 20  # bytes to read; it takes a quarter of a second
WORTH_WAITING = 1 << 20  # bytes of a block
WORTH_COMPILING = 1 << 30  # it takes six
COMPILED = ("hashing", "memory", "json_tokens", "json_scan", "text_scan", "segment_scan")


class BlockDecoder(Protocol):
    """What `events.scanned` has, once it can be imported."""

    def decode(self, block: RawBlock, payload: bytes) -> Decoded | None:
        """Decode a block's lines; None if they are better read otherwise."""


class _Loading:
    """Whether the scanner is there, and the thread that brings it."""

    def __init__(self) -> None:
        self.make: Callable[[InputRules, pl.Expr | None, int, ReadRest], BlockDecoder] | None = None
        self.thread: threading.Thread | None = None
        self.is_soon = False  # the machine code is there and only has to be loaded

    def load(self) -> None:
        try:
            numba = importlib.import_module("numba")
            numba.config.CACHE_DIR = str(make_cache())
            scanned = importlib.import_module("events.scanned")
            self.make = None if numba.config.DISABLE_JIT else scanned.ScannedDecoder
        except Exception:  # whatever a compiler, its cache or its absence may raise: all is read without it
            self.make = None


_loading = _Loading()


def find_cache() -> Path:
    """Return the folder where the machine code of exactly these sources is kept."""
    text = b"".join(Path(__file__).with_name(f"{name}.py").read_bytes() for name in COMPILED)
    base = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    digest = hashlib.sha256(text).hexdigest()[:16]
    return Path(os.path.expanduser(base)) / "journeystream" / f"{sys.implementation.cache_tag}-{digest}"


def make_cache() -> Path:
    """Make that folder, or one for this run alone where it can't be written."""
    folder = find_cache()
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    if os.access(folder, os.W_OK):
        return folder
    # Numba reads no cache that it can't write.
    folder = Path(tempfile.mkdtemp(prefix="journeystream-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def is_compiled() -> bool:
    """Tell whether the machine code is there and can be used."""
    folder = find_cache()
    return os.access(folder, os.W_OK) and any(folder.rglob("*.nbi"))


def start_loading(expected: int) -> None:
    """Load the scanner beside what runs, if there are so many bytes to read that it pays."""
    _loading.is_soon = is_compiled()
    if expected >= (WORTH_LOADING if _loading.is_soon else WORTH_COMPILING) and _loading.thread is None:
        # Waited for at the end of the process: a compiler must not be torn down while it works.
        _loading.thread = threading.Thread(target=_loading.load, name="load-scanner")
        _loading.thread.start()


def load_scanner() -> bool:
    """Load the scanner now, compiling it if that has not been done yet; tell whether it is there."""
    if _loading.make is None:
        _loading.load()
    return _loading.make is not None


class Scanning:
    """One decoder's way through the scanner, from when that is there, for lines of a format that it knows."""

    def __init__(self, rules: InputRules, step: pl.Expr | None, now_us: int, read_rest: ReadRest) -> None:
        self.rules, self.parts = rules, (step, now_us, read_rest)
        self.known = rules.format in FORMATS and not rules.fields
        self.decoder: BlockDecoder | None = None

    def decode(self, block: RawBlock) -> Decoded | None:
        """Decode a block; None where that has to be done otherwise."""
        payload = block.payload
        if not self.known or block.kind != "ndjson" or not isinstance(payload, bytes) or not payload:
            return None
        if len(payload) >= WORTH_WAITING and _loading.is_soon and _loading.thread is not None:
            _loading.thread.join()
        if _loading.make is None or find_oversized(payload, self.rules.max_record_bytes):
            return None
        if self.decoder is None:
            self.decoder = _loading.make(self.rules, *self.parts)
        return self.decoder.decode(block, payload)


if __name__ == "__main__":
    sys.exit(0 if load_scanner() else 1)
