"""The funnel operator against ClickHouse's `windowFunnel`: random batches, chains carried and saved in between.

A tie goes by the number of the funnel's step in both (see test_funnel_oracle_chdb), so ties are left in.
"""

from __future__ import annotations

import os
import random
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from config import DAY, FunnelRules, SessionRules
from events.hashing import hash_strings
from events.schema import CODED, UTC
from operators.chains import start_chains
from operators.columns import FOREVER
from operators.funnels import fold_funnel
from operators.journey import GroupState
from operators.order import sort_persons
from operators.sessionize import sessionize
from operators.state import load_state, save_state

from .strategies import make_funnel_cases
from .test_funnel_oracle_chdb import ask_clickhouse

FUNNELS = int(os.environ.get("JOURNEYS_EXAMPLES", "50"))
PERSONS = 2_100
ONE_SESSION = SessionRules(gap=DAY, max_session=DAY)

pytestmark = pytest.mark.slow


def to_events(cases: pl.DataFrame) -> pl.DataFrame:
    """Make the columns that sessionize and fold_funnel ask for, in order of arrival."""
    person = cases["person"].cast(pl.String)
    return cases.select(
        pl.concat_str("person", "position", separator=".").alias("event_id"),
        pl.col("event_time").cast(UTC),
        person.alias("person_id"),
        pl.lit("web").cast(CODED).alias("channel"),
        pl.col("step").cast(CODED),
        "position",
        pl.Series("person_hash", hash_strings(person)),
    )


def cut_batches(events: pl.DataFrame, chance: random.Random) -> list[tuple[pl.DataFrame, int]]:
    """Divide events by one to eight random watermarks; a batch holds what its watermark has passed."""
    times = events["event_time"].to_physical()
    low, high = int(times.min()), int(times.max())  # type: ignore[arg-type]
    marks = sorted(chance.randint(low, high + 1) for _ in range(chance.randint(0, 7)))
    edges = [low, *marks, FOREVER]
    return [(events.filter((times >= start) & (times < end)), end) for start, end in pairwise(edges)]


def ask_operator(cases: pl.DataFrame, rules: FunnelRules, chance: random.Random) -> dict[int, int]:
    """Return the level of each person that entered the funnel, folded batch by batch."""
    state = GroupState(chains={rules.name: start_chains()})
    reached = []
    for batch, watermark in cut_batches(to_events(cases), chance):
        ordered, starts = sort_persons(batch) if batch.height else (batch, np.empty(0, dtype=np.int64))
        done = sessionize(ordered, starts, state.open, ONE_SESSION, watermark)
        folded = fold_funnel(done.events, starts, state.chains[rules.name], rules, watermark)
        reached.append(folded.reached)
        state = load_state(save_state(GroupState(open=done.open, chains={rules.name: folded.chains})))
    levels = pl.concat(reached).group_by("person_id").agg(pl.col("step_index").max() + 1)
    return {int(person): level for person, level in levels.rows()}


def test_operator_level_is_clickhouse_window_funnel() -> None:
    """More than 100,000 random persons have the same level in both, in either scope, and every level occurs."""
    seen: set[int] = set()
    for seed in range(FUNNELS):
        cases, rules = make_funnel_cases(seed, PERSONS)
        expected = ask_clickhouse(cases, rules)
        found = ask_operator(cases, rules, random.Random(seed))
        differing = {
            person: (found.get(person, 0), level) for person, level in expected.items() if found.get(person, 0) != level
        }
        assert not differing, (rules, cases.filter(pl.col("person").is_in(list(differing)[:1])).rows())
        seen.update(expected.values())
    assert seen == {0, 1, 2, 3, 4, 5}
