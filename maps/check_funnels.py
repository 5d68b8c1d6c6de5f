"""Funnels once more, level by level as DuckDB SQL: each event asks who took the level below last before it."""

from __future__ import annotations

from collections.abc import Sequence

from config import FunnelRules
from maps.check_report import Finding
from maps.check_work import Work
from sinks.views import quote_text

# An event at several indexes of the funnel is one hit per index, the lowest first; ties in time go by index.
HITS = """
CREATE OR REPLACE TABLE hits AS
SELECT scope, moment, level, n, channel, row_number() OVER (ORDER BY scope, moment, level, n) AS turn
FROM (SELECT {scope} AS scope, moment, n, channel, step FROM moved)
JOIN (VALUES {levels}) AS wanted(level, step) USING (step)
"""
FIRST = """
CREATE OR REPLACE TABLE took AS
SELECT scope, moment, level, n, channel, turn, turn AS chain, moment AS entered, moment AS since, moment AS reached,
       true AS is_new
FROM hits WHERE level = 0
"""
# `since`: when the chain first took this level; `before`: when it first took the level below.
NEXT = """
CREATE OR REPLACE TABLE took AS
SELECT scope, moment, level, n, channel, turn, chain, entered, before AS since,
       first_value(moment) OVER o AS reached, row_number() OVER o = 1 AS is_new
FROM (SELECT hits.*, took.chain, took.entered, took.reached AS before
      FROM hits ASOF JOIN took ON hits.scope = took.scope AND hits.turn > took.turn
      WHERE hits.level = $level AND hits.moment <= took.entered + $within)
WINDOW o AS (PARTITION BY chain ORDER BY turn)
"""
ARRIVED = """
INSERT INTO arrived
SELECT {name}, person, {level}, {step}, entered, took.moment, since, took.channel
FROM took JOIN moved USING (n) WHERE is_new
"""


def check_funnels(work: Work, funnels: Sequence[FunnelRules]) -> list[Finding]:
    """Compare `funnel_steps` with what the events give, and its attempt ids."""
    work.run("""
        CREATE TABLE arrived (funnel VARCHAR, person BIGINT, step_index INTEGER, step VARCHAR,
                              entered BIGINT, moment BIGINT, since BIGINT, channel VARCHAR)""")
    for rules in funnels:
        _walk_funnel(work, rules)
    table = """
        SELECT funnel, person_id, step_index, step, entered_at, reached_at,
               CAST(round(seconds_from_entry * 1e6) AS BIGINT) AS us_from_entry,
               CAST(round(seconds_from_previous * 1e6) AS BIGINT) AS us_from_previous, channel, dt FROM funnel_steps"""
    expected = """
        SELECT funnel, person_id, step_index, step, make_timestamptz(entered) AS entered_at,
               make_timestamptz(moment) AS reached_at, moment - entered AS us_from_entry,
               moment - since AS us_from_previous,
               channel, make_timestamp(moment)::DATE AS dt
        FROM arrived JOIN persons USING (person)"""
    ids = """
        SELECT attempt_id, count(*) AS rows, count(DISTINCT step_index) AS steps,
               count(DISTINCT (funnel, person_id, entered_at)) AS entries
        FROM funnel_steps GROUP BY attempt_id
        HAVING count(*) <> count(DISTINCT step_index) OR max(step_index) + 1 <> count(*)
               OR count(DISTINCT (funnel, person_id, entered_at)) > 1 OR attempt_id IS NULL"""
    return [
        work.compare("funnel_steps", table, expected),
        work.list_wrong("funnel_steps: attempt_id", ids, "one id stands for one entry, and its steps have no gap"),
    ]


def _walk_funnel(work: Work, rules: FunnelRules) -> None:
    levels = ", ".join(f"({level}, {quote_text(step)})" for level, step in enumerate(rules.steps))
    work.run(HITS.format(scope="session" if rules.scope == "session" else "person", levels=levels))
    for level, step in enumerate(rules.steps):
        if level == 0:
            work.run(FIRST)
        else:
            work.run(NEXT, level=level, within=rules.within)
        work.run(ARRIVED.format(name=quote_text(rules.name), level=level, step=quote_text(step)))
