"""The oracle's funnel against ClickHouse's `windowFunnel`, in process by chdb.

The window counts in the timestamp's unit, so times are UInt64 microseconds. A tie: ClickHouse orders equal
timestamps by the number of the condition, not by arrival, and pushes a row once for every condition that it fulfils;
the oracle's order of (event time, step index) is the same thing, so ties need no mapping and are left in.
"""

from __future__ import annotations

from itertools import groupby

import polars as pl
import pytest

from config import FunnelRules

from .oracle_funnel import Visit, compute_level, walk_funnel
from .strategies import make_funnel_cases

chdb = pytest.importorskip("chdb", reason="ClickHouse in process is not there for this platform")

BATCHES, PERSONS = 50, 2_000


def ask_clickhouse(cases: pl.DataFrame, rules: FunnelRules) -> dict[int, int]:
    """Return each person's level as ClickHouse counts it."""
    conditions = ", ".join(f"step = '{step}'" for step in rules.steps)
    table = cases.with_columns(pl.col("event_time").cast(pl.UInt64)).to_arrow()
    query = f"""
        SELECT person, windowFunnel({rules.within})(event_time, {conditions}) AS level
        FROM Python(table) GROUP BY person"""
    assert table.num_rows == cases.height
    answer = pl.DataFrame(chdb.query(query, "ArrowTable"))
    return dict(answer.select(pl.col("person", "level").cast(pl.Int64)).rows())


def ask_oracle(cases: pl.DataFrame, rules: FunnelRules) -> dict[int, int]:
    """Return each person's level as the oracle counts it."""
    rows = cases.select("person", "event_time", pl.lit("p"), "position", "step").rows()
    return {
        person: compute_level(walk_funnel([Visit(*row[1:]) for row in group], rules))
        for person, group in groupby(rows, key=lambda row: row[0])
    }


def test_oracle_level_is_clickhouse_window_funnel() -> None:
    """100,000 random persons over 50 funnels have the same level in both, and every level from 0 to 5 occurs."""
    seen: set[int] = set()
    for seed in range(BATCHES):
        cases, rules = make_funnel_cases(seed, PERSONS)
        expected = ask_clickhouse(cases, rules)
        found = ask_oracle(cases, rules)
        assert len(expected) == PERSONS
        differing = {person: (found[person], level) for person, level in expected.items() if found[person] != level}
        assert not differing, (rules, cases.filter(pl.col("person").is_in(list(differing)[:1])).rows())
        seen.update(expected.values())
    assert seen == {0, 1, 2, 3, 4, 5}
