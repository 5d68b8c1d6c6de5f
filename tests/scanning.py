"""Everything in a warehouse folder unpacked, to see whether some bytes are anywhere in it."""

from __future__ import annotations

import io
import json
import pickle
import sqlite3
from contextlib import closing
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sinks.storage import Folders


def scan_bytes(folders: Folders, names: tuple[str, ...]) -> list[str]:
    """Unpack everything in the warehouse folder and say where any of the names still is."""
    needles = [name.encode() for name in names]
    found = []
    for path in folders.root.rglob("*"):
        if path.suffix == ".parquet":
            blobs = list(_unpack_table(pq.read_table(path, partitioning=None)))
        elif path.is_file():
            blobs = [path.read_bytes()]
        else:
            continue
        found += [str(path) for blob in blobs for needle in needles if needle in blob]
    for group, blobs in read_state_bytes(folders):
        found += [f"state of {group}" for blob in blobs for needle in needles if needle in blob]
    return found


def read_state_bytes(folders: Folders) -> list[tuple[str, list[bytes]]]:
    """Unpack the Arrow buffers of every snapshot in the recovery store, whatever its epoch."""
    query = "SELECT state_key, ser_change FROM snaps WHERE step_id = 'journeys.journey'"
    states = []
    with closing(sqlite3.connect(folders.recovery / "part-0.sqlite3")) as connection:
        for key, body in connection.execute(query):
            data = pickle.loads(body)
            length = int.from_bytes(data[4:8], "little")
            at, blobs = 8 + length, [data[8 : 8 + length]]
            for _, size in json.loads(data[8:at])["frames"]:
                table = pa.ipc.open_stream(io.BytesIO(data[at : at + size])).read_all()
                blobs += _unpack_table(table)
                at += size
            states.append((key, blobs))
    return states


def _unpack_table(table: pa.Table) -> list[bytes]:
    return [
        buffer.to_pybytes()
        for column in table.columns
        for chunk in column.chunks
        for buffer in _list_buffers(chunk)
        if buffer is not None
    ]


def _list_buffers(array: pa.Array) -> list[Any]:
    dictionary = _list_buffers(array.dictionary) if isinstance(array, pa.DictionaryArray) else []
    return [*array.buffers(), *dictionary]
