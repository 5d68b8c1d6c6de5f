"""The recovery store from outside: resume epoch, states in force, the fence, identity and damage."""

from __future__ import annotations

import os
import pickle
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from errors import RecoveryError
from flows.recovery import (
    check_identity,
    check_store,
    explain_panic,
    fence,
    list_parts,
    make_store,
    read_identity,
    read_progress,
    read_resume_epoch,
)

READ, WRITE = "flow.read", "flow.write"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Make an empty store."""
    make_store(tmp_path / "store")
    return tmp_path / "store"


def execute(store: Path, sql: str, rows: list[tuple[object, ...]]) -> None:
    """Write rows as the engine would."""
    with closing(sqlite3.connect(store / "part-0.sqlite3")) as connection:
        connection.executemany(sql, rows)
        connection.commit()


def add_execution(store: Path, number: int, workers: int, resume: int, fronts: dict[int, int]) -> None:
    """Note an execution, and how far each of its workers came."""
    execute(store, "INSERT INTO exs (ex_num, worker_count, resume_epoch) VALUES (?, ?, ?)", [(number, workers, resume)])
    rows: list[tuple[object, ...]] = [(number, worker, front) for worker, front in fronts.items()]
    execute(store, "INSERT INTO fronts (ex_num, worker_index, worker_frontier) VALUES (?, ?, ?)", rows)


def add_states(store: Path, step: str, *states: tuple[str, int, bytes | None]) -> None:
    """Note states: key, epoch, bytes or None where the key was discarded."""
    rows: list[tuple[object, ...]] = [
        (step, key, epoch, None if state is None else pickle.dumps(state)) for key, epoch, state in states
    ]
    execute(store, "INSERT INTO snaps (step_id, state_key, snap_epoch, ser_change) VALUES (?, ?, ?, ?)", rows)


def test_an_unused_store_resumes_at_the_first_epoch_with_nothing(store: Path) -> None:
    progress = read_progress(store, READ, WRITE)
    assert (progress.epoch, progress.sources, progress.sinks) == (1, {}, {})


@pytest.mark.parametrize(
    ("workers", "resume", "fronts", "epoch"),
    [
        (1, 1, {}, 1),
        (1, 1, {0: 5}, 5),
        (2, 3, {0: 5, 1: 4}, 4),
        (2, 3, {1: 9}, 3),  # a worker that reported nothing stands where the execution began
        (3, 7, {0: 8, 1: 8, 2: 8}, 8),
    ],
)
def test_the_resume_epoch_is_the_least_that_every_worker_reached(
    store: Path, workers: int, resume: int, fronts: dict[int, int], epoch: int
) -> None:
    add_execution(store, 0, workers, resume, fronts)
    assert read_resume_epoch(store) == epoch


def test_only_the_last_execution_counts(store: Path) -> None:
    add_execution(store, 0, 3, 1, {0: 9, 1: 9, 2: 4})
    add_execution(store, 1, 1, 4, {0: 6})
    assert read_resume_epoch(store) == 6
    add_execution(store, 2, 2, 6, {})
    assert read_resume_epoch(store) == 6


def test_the_states_in_force_are_the_newest_before_the_resume_epoch(store: Path) -> None:
    add_execution(store, 0, 1, 1, {0: 4})
    add_states(store, READ, ("a", 1, b"1"), ("a", 3, b"3"), ("a", 4, b"stale"), ("b", 2, b"2"), ("c", 9, b"stale"))
    add_states(store, WRITE, ("w00", 1, b"7"), ("w00", 2, None), ("w01", 3, b"8"))
    progress = read_progress(store, READ, WRITE)
    assert progress.sources == {"a": b"3", "b": b"2"}
    assert progress.sinks == {"w01": b"8"}


def test_the_fence_deletes_what_a_dead_run_left_and_is_idempotent(store: Path) -> None:
    add_execution(store, 0, 1, 1, {0: 4})
    add_states(store, READ, ("a", 3, b"3"), ("a", 4, b"stale"), ("b", 12, b"stale"))
    before = read_progress(store, READ, WRITE)
    assert (fence(store), fence(store)) == (2, 0)
    # Once later epochs are done, what is gone can't come back into force.
    add_execution(store, 1, 1, 4, {0: 20})
    assert read_progress(store, READ, WRITE).sources == before.sources == {"a": b"3"}


def test_a_store_is_made_once_and_keeps_its_identity(store: Path) -> None:
    identity = read_identity(store)
    make_store(store)
    assert read_identity(store) == identity > 0
    assert [path.name for path in list_parts(store)] == ["part-0.sqlite3"]


def test_two_stores_have_two_identities(store: Path, tmp_path: Path) -> None:
    make_store(tmp_path / "other")
    assert read_identity(store) != read_identity(tmp_path / "other")


def test_a_used_store_is_refused_by_a_warehouse_that_does_not_know_it(store: Path) -> None:
    check_identity(store, 0, Path("unused"))
    add_execution(store, 0, 1, 1, {})
    check_identity(store, read_identity(store), Path("own"))
    for known in (0, read_identity(store) + 1):
        with pytest.raises(RecoveryError, match="another warehouse"):
            check_identity(store, known, Path("other"))


def truncate(part: Path) -> None:
    """Cut a file in half."""
    os.truncate(part, part.stat().st_size // 2)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda part: part.write_bytes(b""),
    "garbage": lambda part: part.write_bytes(b"no database" * 5_000),
    "cut": truncate,
    "one of two": lambda part: execute(part.parent, "UPDATE parts SET part_count = ?", [(2,)]),
    "a copy too many": lambda part: (part.parent / "part-1.sqlite3").write_bytes(part.read_bytes()),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_store_is_an_error_with_a_remedy(store: Path, how: str) -> None:
    check_store(store)
    DAMAGE[how](store / "part-0.sqlite3")
    with pytest.raises(RecoveryError) as caught:
        check_store(store)
    assert str(store) in caught.value.problem
    assert "new warehouse" in caught.value.remedy


def test_a_store_whose_making_was_cut_short_is_made_anew(tmp_path: Path) -> None:
    left = tmp_path / "store" / ".new-left"
    left.mkdir(parents=True)
    (left / "part-0.sqlite3").write_bytes(b"half")
    make_store(tmp_path / "store")
    check_store(tmp_path / "store")
    assert list_parts(tmp_path / "store") == [tmp_path / "store" / "part-0.sqlite3"]
    assert not left.exists()


def test_a_panic_over_the_store_is_explained_and_another_is_not(tmp_path: Path) -> None:
    panic = RuntimeError('called `unwrap()`: SqliteFailure(Error { code: DiskFull }, Some("database or disk is full"))')
    error = explain_panic(panic, tmp_path)
    assert error is not None
    assert "database or disk is full" in error.problem
    assert "same command again" in error.remedy
    assert explain_panic(RuntimeError("something else"), tmp_path) is None
