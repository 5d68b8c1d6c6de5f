"""The chains of a funnel that its next step can still join: the state between batches, found by sorted keys."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from events.hashing import U64
from events.schema import Schema
from operators.columns import I64, find_begins, mark_changes, pick, to_index

CHAINS: Schema = {
    "scope_key": pl.UInt64,
    "scope_id": pl.String,
    "person_hash": pl.UInt64,
    "level": pl.Int64,
    "entered_us": pl.Int64,
    "reached_us": pl.Int64,
    "attempt_high": pl.UInt64,
    "attempt_low": pl.UInt64,
}


def start_chains() -> pl.DataFrame:
    """Return the state of a funnel that nobody has entered."""
    return pl.DataFrame(schema=CHAINS)


@dataclass(frozen=True)
class Scopes:
    """The persons (or sessions) of a batch: number of each row's scope, keys and ids of the scopes."""

    of_row: I64
    keys: U64
    ids: pl.Series


def match_chains(chains: pl.DataFrame, scopes: Scopes, hit: I64) -> tuple[I64, I64]:
    """Find the chains of the scopes that have a hit: rows of the state, and the number of each one's scope.

    Ordered by (scope, level).
    """
    if chains.height == 0:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    known, wanted = chains["scope_key"].to_numpy(), scopes.keys[hit]
    begin, end = (np.searchsorted(known, wanted, side=side) for side in ("left", "right"))
    counts = end - begin
    owner = np.repeat(hit, counts)
    rows = np.arange(owner.size) + np.repeat(begin - find_begins(counts), counts)
    if (pick(chains["scope_id"], rows) == pick(scopes.ids, owner)).all():
        return rows, owner
    # Two scopes share a key: match by the id as well.
    state = chains.select("scope_key", "scope_id", "level").with_row_index("row")
    asked = pl.DataFrame({"scope_key": wanted, "scope_id": pick(scopes.ids, hit), "who": hit})
    found = asked.join(state, on=["scope_key", "scope_id"]).sort("who", "level")
    return found["row"].cast(pl.Int64).to_numpy(), found["who"].to_numpy()


def number_attempts(chains: pl.DataFrame, rows: I64, owner: I64) -> I64:
    """Number the attempts of carried chains, equal for equal ids; 0 for the rest of the state.

    A level's newest chain was taken from the newest of the level below, so those of one attempt are neighbours.
    """
    numbers = np.zeros(chains.height, dtype=np.int64)
    if rows.size:
        halves = [chains[name].to_numpy()[rows] for name in ("attempt_high", "attempt_low")]
        changes = mark_changes(owner) | mark_changes(halves[0]) | mark_changes(halves[1])
        numbers[rows] = np.cumsum(changes)
    return numbers


def merge_chains(chains: pl.DataFrame, left: I64, new: pl.DataFrame) -> pl.DataFrame:
    """Put new chains among those of the state that are left, sorted by (scope_key, level)."""
    rows = np.concatenate([left, chains.height + np.arange(new.height)])
    together = pl.concat([chains, new], rechunk=True) if chains.height else new
    keys = together["scope_key"].to_numpy()[rows]
    return together[to_index(rows[np.argsort(keys, kind="stable")])]


def drop_expired(chains: pl.DataFrame, within: int, watermark: int) -> pl.DataFrame:
    """Drop chains whose window the watermark (microseconds) has passed."""
    live = chains["entered_us"].to_numpy() >= watermark - within
    return chains if live.all() else chains.filter(pl.Series(live))
