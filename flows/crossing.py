"""How frames cross from one process of a cluster to another: as Arrow IPC, not as Polars pickles itself.

Polars' own pickling keeps the interpreter's lock while it waits for Polars' threads. One of those may be letting go
of a buffer that belongs to NumPy, for which it needs that lock: both wait for good. Writing IPC lets go of the lock.
"""

from __future__ import annotations

import copyreg
import io
from collections.abc import Callable

import polars as pl


def send_frames_as_ipc() -> None:
    """Make this process pickle frames and series as Arrow IPC; every process of a cluster calls this."""
    copyreg.pickle(pl.DataFrame, _reduce_frame)
    copyreg.pickle(pl.Series, _reduce_series)


def _reduce_frame(frame: pl.DataFrame) -> tuple[Callable[[bytes], pl.DataFrame], tuple[bytes]]:
    buffer = io.BytesIO()
    frame.write_ipc_stream(buffer)
    return load_frame, (buffer.getvalue(),)


def _reduce_series(series: pl.Series) -> tuple[Callable[[bytes, str], pl.Series], tuple[bytes, str]]:
    _, (data,) = _reduce_frame(pl.DataFrame({"series": series}))
    return load_series, (data, series.name)


def load_frame(data: bytes) -> pl.DataFrame:
    """Read a frame that another process sent."""
    return pl.read_ipc_stream(io.BytesIO(data))


def load_series(data: bytes, name: str) -> pl.Series:
    """Read a series that another process sent."""
    return load_frame(data).to_series().alias(name)
