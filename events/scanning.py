"""The compiled scanner of lines: loaded beside everything else, kept on disk, and done without where it can't be had.

What comes out is the same with it and without, so it may be there from any block on.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from subprocess import DEVNULL
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
ENDLESS = 1 << 62
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
        """Load it, compiling it first if that has not been done yet."""
        try:
            numba = importlib.import_module("numba")
            numba.config.CACHE_DIR = str(make_cache())
            scanned = importlib.import_module("events.scanned")
            self.make = None if numba.config.DISABLE_JIT else scanned.ScannedDecoder
        except Exception:  # whatever a compiler, its cache or its absence may raise: all is read without it
            self.make = None

    def bring(self) -> None:
        """Load it; if it has to be compiled, a process of its own does that: a compiler needs time and memory."""
        if not is_compiled():
            command, here = [sys.executable, "-m", __name__], Path(__file__).parents[1]
            subprocess.run(command, cwd=here, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL, check=False)  # noqa: S603
        if is_compiled():
            self.load()


_loading = _Loading()


def find_cache() -> Path:
    """Return the folder where the machine code of exactly these sources is kept."""
    text = b"".join(Path(__file__).with_name(f"{name}.py").read_bytes() for name in COMPILED)
    base = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    digest = hashlib.sha256(text).hexdigest()[:16]
    return Path(os.path.expanduser(base)) / "journeystream" / f"{sys.implementation.cache_tag}-{digest}"


def make_cache() -> Path:
    """Make that folder; raises OSError where it can't be written, for then Numba would read nothing from it."""
    folder = find_cache()
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(folder)
    return folder


def is_compiled() -> bool:
    """Tell whether the machine code is there and can be used."""
    folder = find_cache()
    return os.access(folder, os.W_OK) and any(folder.rglob("*.nbi"))


def start_loading(expected: int) -> None:
    """Bring the scanner beside what runs, if there are so many bytes to read that it pays."""
    _loading.is_soon = is_compiled()
    if expected >= (WORTH_LOADING if _loading.is_soon else WORTH_COMPILING) and _loading.thread is None:
        # Waited for at the end of the process: what it loads must not be torn down meanwhile.
        _loading.thread = threading.Thread(target=_loading.bring, name="load-scanner")
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
