"""A key group's state as bytes: everything comes back, and what can't be read says so."""

from __future__ import annotations

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from config import Config, FunnelRules
from errors import RecoveryError
from operators.columns import BEGINNING
from operators.journey import GroupBatch, GroupState, close_everything, release_batch, take_batch
from operators.sessionize import OpenSessions
from operators.state import load_state, save_state
from tests.support.frames import SECOND, T0, make_events

CONFIG = Config(funnels=(FunnelRules("a/b", ("a", "b")), FunnelRules("f", ("a", "b"), scope="session")))


def make_state() -> GroupState:
    """Return a state with open sessions, chains and a buffer of two partitions, one of them in two frames."""
    state = GroupState()
    first = make_events([("u", 0, "a"), ("v", 1, "a"), ("u", 9, "b")], channel=["web", "störe", "web"])
    take_batch(state, GroupBatch("p", T0, True, first))
    take_batch(state, GroupBatch("q/1", T0 + 5, False, make_events([("v", 8, "b")], partition="q/1").drop("device_id")))
    release_batch(state, T0 + 5 * SECOND, CONFIG)
    take_batch(state, GroupBatch("p", T0 + 7, True, make_events([("w", 9, "c")], first_position=3, device_id=["d"])))
    return state


def check_open(loaded: OpenSessions, saved: OpenSessions) -> None:
    for name in ("sessions", "steps", "channels"):
        assert_frame_equal(getattr(loaded, name), getattr(saved, name))


def test_everything_comes_back() -> None:
    state = make_state()
    loaded = load_state(save_state(state))
    assert loaded.progress == {"p": (T0 + 7, True), "q/1": (T0 + 5, False)}
    assert loaded.released == T0 + 5 * SECOND
    check_open(loaded.open, state.open)
    assert loaded.chains.keys() == {"a/b", "f"}
    for name, frame in state.chains.items():
        assert_frame_equal(loaded.chains[name], frame)
    for partition, frames in state.buffer.items():
        (held,) = loaded.buffer[partition]
        assert_frame_equal(held, pl.concat(frames, how="diagonal"))
    assert loaded.waiting() == state.waiting() == 3


def test_loaded_state_goes_on_as_the_saved_one() -> None:
    state = make_state()
    loaded = load_state(save_state(state))
    ours, theirs = close_everything(state, CONFIG), close_everything(loaded, CONFIG)
    assert ours.keys() == theirs.keys()
    for table, frames in ours.items():
        assert_frame_equal(pl.concat(theirs[table]), pl.concat(frames), check_row_order=table != "transitions")


def test_saved_state_loads_and_saves_to_the_same_bytes() -> None:
    once = save_state(load_state(save_state(make_state())))
    assert save_state(load_state(once)) == once


def test_empty_state_comes_back_empty() -> None:
    loaded = load_state(save_state(GroupState()))
    assert (loaded.progress, loaded.released, loaded.buffer, loaded.chains) == ({}, BEGINNING, {}, {})
    check_open(loaded.open, GroupState().open)


def test_state_of_another_version_is_an_error_with_a_remedy() -> None:
    data = save_state(make_state())
    with pytest.raises(RecoveryError, match=r"unknown version.*\n.*new warehouse"):
        load_state(b"JST9" + data[4:])


@pytest.mark.parametrize("kept", [0, 3, 6, 20, 0.5, 0.99])
def test_state_cut_short_is_an_error_with_a_remedy(kept: float) -> None:
    """Cut in the version, in the header, in a frame, in the last frame."""
    data = save_state(make_state())
    length = kept if isinstance(kept, int) else int(kept * len(data))
    with pytest.raises(RecoveryError, match=r"\n.*new warehouse"):
        load_state(data[:length])
