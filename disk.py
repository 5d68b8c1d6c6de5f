"""Making what was written durable: files, and the names of files in their folders."""

from __future__ import annotations

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Make a file's content, or the names in a folder, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def put_in_place(beside: Path, path: Path) -> None:
    """Give a file that was written whole its name, so that a crash leaves the old one or the new one."""
    sync(beside)
    os.replace(beside, path)
    sync(path.parent)
