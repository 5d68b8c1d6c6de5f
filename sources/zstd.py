"""Zstandard files of any number of frames; unlike the library's own stream, a cut one does not end in silence."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, BinaryIO, cast

import zstandard

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PIECE = 8 << 10  # small, as a packed byte can stand for thousands


class _Frames(io.RawIOBase):
    def __init__(self, raw: BinaryIO) -> None:
        self.raw = raw
        self.frame: zstandard.ZstdDecompressionObj | None = None
        self.left = b""
        self.ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        while not self.ready:
            if not self._unpack():
                return 0
        target = memoryview(buffer).cast("B")
        count = min(len(target), len(self.ready))
        target[:count] = self.ready[:count]
        self.ready = self.ready[count:]
        return count

    def _unpack(self) -> bool:
        data = self.left or self.raw.read(PIECE)
        self.left = b""
        if not data:
            if self.frame is not None:
                raise EOFError("the last frame is not complete")
            return False
        if self.frame is None:
            self.frame = zstandard.ZstdDecompressor().decompressobj()
        self.ready = memoryview(self.frame.decompress(data))
        if self.frame.eof:
            self.left = self.frame.unused_data
            self.frame = None
        return True

    def close(self) -> None:
        self.raw.close()
        super().close()


def open_zstd(path: str) -> BinaryIO:
    """Open a file for reading its plain bytes; a frame that is cut short raises EOFError."""
    return cast(BinaryIO, io.BufferedReader(_Frames(open(path, "rb")), 1 << 20))
