"""A key group's state as plain bytes: a version, a JSON header and Arrow IPC frames."""

from __future__ import annotations

import io
import json
import struct

import polars as pl

from errors import RecoveryError
from operators.chains import CHAINS
from operators.journey import GroupState
from operators.open_sessions import NOTES, SESSIONS, OpenSessions

MAGIC = b"JST2"


def save_state(state: GroupState) -> bytes:
    """Write the state; frames are written as Arrow IPC streams, so they can be read by any Arrow library."""
    held = state.open
    frames = [("open/sessions", _pack_ids(held.sessions)), ("open/steps", held.steps), ("open/channels", held.channels)]
    frames += [(f"chains/{name}", frame) for name, frame in state.chains.items()]
    for partition, kept in state.buffer.items():
        parts = [frame for frame in kept if frame.height]
        if parts:
            frames.append((f"buffer/{partition}", pl.concat(parts, how="diagonal") if len(parts) > 1 else parts[0]))
    bodies = [_write_frame(frame) for _, frame in frames]
    header = json.dumps(
        {
            "progress": {name: list(value) for name, value in state.progress.items()},
            "released": state.released,
            "frames": [[name, len(body)] for (name, _), body in zip(frames, bodies, strict=True)],
        }
    ).encode()
    return b"".join([MAGIC, struct.pack("<I", len(header)), header, *bodies])


def load_state(data: bytes) -> GroupState:
    """Read what `save_state` wrote; raises RecoveryError if it is of another version or cut short."""
    if data[:4] != MAGIC:
        raise RecoveryError(
            f"the recovery store holds state of an unknown version ({data[:4]!r})",
            remedy="run with the version that wrote it, or replay into a new warehouse",
        )
    try:
        return _read_state(data)
    except (struct.error, ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as problem:
        raise RecoveryError(
            f"the recovery store holds damaged state ({problem})",
            remedy="restore the store from a copy, or replay into a new warehouse",
        ) from problem


def _read_state(data: bytes) -> GroupState:
    (length,) = struct.unpack("<I", data[4:8])
    header = json.loads(data[8 : 8 + length])
    state = GroupState(
        progress={name: (int(latest), bool(active)) for name, (latest, active) in header["progress"].items()},
        released=int(header["released"]),
    )
    at = 8 + length
    opened: dict[str, pl.DataFrame] = {}
    for name, size in header["frames"]:
        frame = pl.read_ipc_stream(io.BytesIO(data[at : at + size]))
        at += size
        kind, _, key = name.partition("/")
        if kind == "open":
            opened[key] = _unpack_ids(frame) if key == "sessions" else frame.select(NOTES.keys())
        elif kind == "chains":
            state.chains[key] = frame.select(CHAINS.keys())
        else:
            state.buffer[key] = [frame]
    state.open = OpenSessions(opened["sessions"], opened["steps"], opened["channels"])
    return state


def _pack_ids(sessions: pl.DataFrame) -> pl.DataFrame:
    """Leave out ids that are the person's own, as one of the two mostly is; a mark says where."""
    person = sessions["person_id"]
    columns = []
    for name in ("device_id", "user_id"):
        own = (sessions[name] == person).fill_null(False)
        columns += [own.alias(f"own_{name}"), sessions[name].set(own, None)]
    return sessions.with_columns(columns)


def _unpack_ids(sessions: pl.DataFrame) -> pl.DataFrame:
    person = pl.col("person_id")
    ids = [pl.when(f"own_{name}").then(person).otherwise(name).alias(name) for name in ("device_id", "user_id")]
    return sessions.with_columns(ids).select(SESSIONS.keys())


def _write_frame(frame: pl.DataFrame) -> bytes:
    sink = io.BytesIO()
    frame.write_ipc_stream(sink, compression="lz4")
    return sink.getvalue()
