"""Paths: sessions counted by day and steps, under a hash of the steps that never changes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np
import polars as pl
import pytest

from events.schema import CODED, PATHS, STRINGS, Schema
from operators.paths import count_paths, hash_paths
from tests.support.hashing_reference import MASK, hash_text, mix_words

ONE, TWO = date(2024, 2, 29), date(2024, 3, 1)


def count(*sessions: tuple[date, Sequence[str], int, float]) -> pl.DataFrame:
    """Count sessions given as (day, steps, events, seconds)."""
    schema: Schema = {"dt": pl.Date, "steps": STRINGS, "events": pl.Int64, "duration_s": pl.Float64}
    frame = pl.DataFrame([(d, list(s), n, t) for d, s, n, t in sessions], schema=schema, orient="row")
    steps = pl.Series([step for _, path, _, _ in sessions for step in path], dtype=pl.String).cast(CODED)
    high, low = hash_paths(steps, np.array([len(path) for _, path, _, _ in sessions], dtype=np.int64))
    return count_paths(frame.with_columns(pl.Series("path_high", high), pl.Series("path_low", low)))


def hash_path(steps: Sequence[str]) -> str:
    """Sum the mixed hashes of (step, place), twice with 64 bits: the definition."""
    halves = [
        sum(mix_words(hash_text(step, seed), place, seed=seed) for place, step in enumerate(steps)) & MASK
        for seed in (3, 4)
    ]
    return "".join(f"{half:016x}" for half in halves)


def test_sessions_of_one_path_and_day_are_summed() -> None:
    paths = count((ONE, "ab", 3, 1.5), (TWO, "ab", 2, 0.1), (ONE, "ab", 4, 0.2), (ONE, "abc", 3, 9.0))
    rows = paths.sort("dt", "steps").select("dt", "steps", "sessions", "events", "total_seconds").rows()
    assert rows == [
        (ONE, ["a", "b"], 2, 7, 1.7),
        (ONE, ["a", "b", "c"], 1, 3, 9.0),
        (TWO, ["a", "b"], 1, 2, 0.1),
    ]
    assert dict(paths.schema) == {**PATHS, "dt": pl.Date}


def test_order_length_and_borders_of_steps_tell_paths_apart() -> None:
    """Also steps that hold separators, and steps that joined would look the same."""
    steps = [["a", "b"], ["b", "a"], ["ab"], ["a", "b", "a"], ["a\x1fb"], ["a,b"], ["", "a"], ["a", ""], [""]]
    paths = count(*[(ONE, path, 1, 0.0) for path in steps])
    assert paths.height == len(steps)
    assert sorted(paths["steps"].to_list()) == sorted(steps)


@pytest.mark.parametrize("steps", [["a"], ["product", "add_to_cart", "checkout"], ["ä" * 30, "b", "ä" * 30]])
def test_path_hash_is_its_definition_whatever_stands_beside_it(steps: list[str]) -> None:
    alone = count((ONE, steps, 1, 0.0))["path_hash"].to_list()
    beside = count((ONE, ["x", "b"], 1, 0.0), (ONE, steps, 1, 0.0), (TWO, steps, 1, 0.0))
    assert alone == [hash_path(steps)]
    assert set(beside.filter(pl.col("steps").list.len() == len(steps))["path_hash"]) >= set(alone)


def test_path_hash_never_changes() -> None:
    assert count((ONE, ["a", "b"], 1, 0.0))["path_hash"].to_list() == ["d1b2fb4117cec113225ed2850c0de95c"]


def test_rows_are_sorted_by_day_and_hash_and_no_session_gives_no_row() -> None:
    paths = count((TWO, "a", 1, 0.0), (ONE, "b", 1, 0.0), (ONE, "c", 1, 0.0), (ONE, "d", 1, 0.0))
    keys = paths.select("dt", "path_hash").rows()
    assert keys == sorted(keys)
    assert dict(count().schema) == {**PATHS, "dt": pl.Date}
