"""Funnels as a walk over one person's visits with the chains as objects, the way the definition reads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import groupby
from typing import NamedTuple

import duckdb
import polars as pl

from config import FunnelRules
from events.schema import Schema

FUNNEL_STEPS: Schema = {
    "funnel": pl.String,
    "person_id": pl.String,
    "entered_at": pl.Int64,
    "entry_event_id": pl.String,
    "step_index": pl.Int32,
    "step": pl.String,
    "reached_at": pl.Int64,
    "seconds_from_entry": pl.Float64,
    "seconds_from_previous": pl.Float64,
    "channel": pl.String,
    "dt": pl.Date,
}


class Visit(NamedTuple):
    """One event of a person."""

    event_time: int
    source_partition: str
    source_position: int
    step: str
    event_id: str = ""
    channel: str = ""


class Arrival(NamedTuple):
    """A chain's first arrival at a step index; `previous_at` is its arrival at the index before."""

    entered_at: int
    entry_event_id: str
    step_index: int
    previous_at: int
    visit: Visit


@dataclass
class Chain:
    """One attempt: where it began and when it first took each index."""

    entry: Visit
    reached_at: dict[int, int] = field(default_factory=dict)


def walk_funnel(visits: Iterable[Visit], rules: FunnelRules) -> list[Arrival]:
    """Return the first arrivals of every attempt among the visits of one person (or one session)."""
    # An event at several indexes is one candidate per index; a tie in time goes by index, whatever arrived first.
    candidates = [
        (visit.event_time, index, visit.source_partition, visit.source_position, visit)
        for visit in visits
        for index, step in enumerate(rules.steps)
        if visit.step == step
    ]
    newest: list[Chain | None] = [None] * len(rules.steps)
    arrivals: list[Arrival] = []
    for event_time, index, _, _, visit in sorted(candidates):
        chain = Chain(visit) if index == 0 else newest[index - 1]
        if chain is None or event_time > chain.entry.event_time + rules.within:
            continue
        newest[index] = chain
        if index not in chain.reached_at:
            chain.reached_at[index] = event_time
            previous_at = chain.reached_at[max(index - 1, 0)]
            arrivals.append(Arrival(chain.entry.event_time, chain.entry.event_id, index, previous_at, visit))
    return arrivals


def compute_level(arrivals: list[Arrival]) -> int:
    """Return how many steps were reached at best: ClickHouse's `windowFunnel`."""
    return max((arrival.step_index + 1 for arrival in arrivals), default=0)


def compute_funnel_steps(connection: duckdb.DuckDBPyConnection, funnels: tuple[FunnelRules, ...]) -> pl.DataFrame:
    """Return `FUNNEL_STEPS` of all funnels, from the connection's table `sessionized`."""
    events = connection.execute(
        """SELECT person_id, session, event_time, source_partition, source_position, step, event_id, channel
        FROM sessionized ORDER BY person_id, session"""
    ).fetchall()
    rows: list[tuple[object, ...]] = []
    for rules in funnels:
        width = {"person": 1, "session": 2}[rules.scope]
        for key, group in groupby(events, key=lambda event: event[:width]):
            arrivals = walk_funnel((Visit(*event[2:]) for event in group), rules)
            rows += [_to_row(rules, key[0], arrival) for arrival in arrivals]
    frame = pl.DataFrame(rows, schema=FUNNEL_STEPS, orient="row")
    return frame.sort("funnel", "person_id", "entered_at", "entry_event_id", "step_index")


def _to_row(rules: FunnelRules, person_id: str, arrival: Arrival) -> tuple[object, ...]:
    reached_at = arrival.visit.event_time
    return (
        rules.name,
        person_id,
        arrival.entered_at,
        arrival.entry_event_id,
        arrival.step_index,
        rules.steps[arrival.step_index],
        reached_at,
        (reached_at - arrival.entered_at) / 1e6,
        (reached_at - arrival.previous_at) / 1e6,
        arrival.visit.channel,
        _to_date(reached_at),
    )


def _to_date(time: int) -> date:
    return (datetime(1970, 1, 1) + timedelta(microseconds=time)).date()
