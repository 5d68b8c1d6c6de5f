"""Sessions once more, as DuckDB SQL over `events`; shares no code with the operators.

Tables made here (times in microseconds): `placed` (events by person and time, numbered `n`), `begins` (the n at which
sessions begin), `moved` (events with their session and what came before), `spans` (sessions), `closed` (their numbers).
"""

from __future__ import annotations

from maps.check_report import Finding
from maps.check_work import Work

PERSONS = """
CREATE TABLE persons AS
SELECT person_id, row_number() OVER () AS person FROM (SELECT DISTINCT person_id FROM events)
"""

PLACED = """
CREATE TABLE placed AS
SELECT row_number() OVER (ORDER BY person, event_time, source_partition, source_position) AS n, person,
       epoch_us(event_time) AS moment, source_partition, source_position, channel, step, device_id, user_id,
       session_id, session_index, dt, hash(event_id) AS event_hash
FROM events JOIN persons USING (person_id)
"""

# The gap alone: every pause longer than it begins an island. Islands that last too long are cut below.
ISLANDS = """
CREATE TABLE islands AS
SELECT n, moment, sum(CASE WHEN is_first THEN 1 ELSE 0 END) OVER (ORDER BY n) AS island FROM (
    SELECT n, moment, lag(person) OVER o IS DISTINCT FROM person OR moment - lag(moment) OVER o > $gap AS is_first
    FROM placed WINDOW o AS (ORDER BY n))
"""
BEGINS = "CREATE TABLE begins AS SELECT min(n) AS n FROM islands GROUP BY island"
FIRST_REST = """
CREATE TABLE rest AS
WITH long AS (
    SELECT island, min(moment) AS began FROM islands GROUP BY island HAVING max(moment) - min(moment) > $longest)
SELECT n, moment, island FROM islands JOIN long USING (island) WHERE moment - began > $longest
"""
NEXT_REST = """
CREATE OR REPLACE TABLE rest AS
WITH cuts AS (SELECT island, min(moment) AS began FROM rest GROUP BY island)
SELECT n, moment, island FROM rest JOIN cuts USING (island) WHERE moment - began > $longest
"""

MOVED = """
CREATE TABLE moved AS
SELECT * EXCLUDE (is_first),
       CASE WHEN is_first THEN NULL ELSE lag(step) OVER o END AS step_before,
       CASE WHEN is_first THEN NULL ELSE moment - lag(moment) OVER o END AS pause
FROM (SELECT placed.*, begins.n IS NOT NULL AS is_first,
             sum(CASE WHEN begins.n IS NULL THEN 0 ELSE 1 END) OVER (ORDER BY placed.n) AS session
      FROM placed LEFT JOIN begins ON placed.n = begins.n)
WINDOW o AS (ORDER BY n)
"""

SPANS = """
CREATE TABLE spans AS
WITH appearances AS (SELECT session, channel, min(n) AS n FROM moved GROUP BY session, channel),
channel_lists AS (SELECT session, list(channel ORDER BY n) AS channels FROM appearances GROUP BY session),
step_lists AS (SELECT session, list(step ORDER BY n) AS steps FROM moved
               WHERE step_before IS DISTINCT FROM step GROUP BY session),
sums AS (
    SELECT session, any_value(person) AS person, min(n) AS first_n, min(moment) AS began, max(moment) AS ended,
           count(*) AS events, min(session_id) AS session_id,
           arg_min(device_id, n) AS device_id, arg_min(user_id, n) AS user_id,
           arg_min(channel, n) AS entry_channel, arg_max(channel, n) AS exit_channel,
           arg_min(step, n) AS entry_step, arg_max(step, n) AS exit_step
    FROM moved GROUP BY session)
SELECT sums.*, person_id, channels, steps[1:$longest] AS steps, len(steps) > $longest AS path_cut,
       make_timestamp(began)::DATE AS dt, lead(person) OVER (ORDER BY session) IS NOT DISTINCT FROM person AS has_later
FROM sums JOIN persons USING (person) JOIN channel_lists USING (session) JOIN step_lists USING (session)
"""

# A session is open as long as the job has not closed it; one that a later one follows, or at the end, has to be closed.
CLOSED = """
CREATE TABLE closed AS
SELECT * FROM spans WHERE $complete OR has_later OR session_id IN (SELECT session_id FROM sessions)
"""


def rebuild_sessions(work: Work) -> None:
    """Make the tables of this module from the view `events`."""
    work.run(PERSONS)
    work.run(PLACED)
    work.run(ISLANDS, gap=work.rules.gap)
    work.run(BEGINS)
    work.run(FIRST_REST, longest=work.rules.max_session)
    work.run("DROP TABLE islands")
    # The first event past the longest session begins a new one, from which the next is measured.
    while work.count("SELECT count(*) FROM rest"):
        work.run("INSERT INTO begins SELECT min(n) FROM rest GROUP BY island")
        work.run(NEXT_REST, longest=work.rules.max_session)
    work.run(MOVED)
    work.run("DROP TABLE placed")
    work.run(SPANS, longest=work.rules.max_path_steps)
    work.run(CLOSED, complete=work.complete)


def check_events(work: Work) -> list[Finding]:
    """Check that every event is there once, under its day, and numbered within the right session."""
    days = "SELECT person, moment, dt FROM moved WHERE dt IS DISTINCT FROM make_timestamp(moment)::DATE"
    copies = """
        SELECT person_id, event_id, event_time, count(*) AS copies FROM events
        WHERE (person_id, event_time) IN (
            SELECT (person_id, make_timestamptz(moment))
            FROM (SELECT person, moment FROM moved GROUP BY person, moment, event_hash HAVING count(*) > 1)
            JOIN persons USING (person))
        GROUP BY ALL HAVING count(*) > 1"""
    index = """
        SELECT person_id, make_timestamp(moment) AS event_time, moved.session_id, session_index,
               n - first_n AS recomputed
        FROM moved JOIN spans USING (session) WHERE session_index IS DISTINCT FROM n - first_n"""
    ids = """
        SELECT session_id, count(DISTINCT session) AS sessions, make_timestamp(min(moment)) AS first_event
        FROM moved GROUP BY session_id HAVING count(DISTINCT session) > 1 OR session_id IS NULL
        UNION ALL
        SELECT min(session_id), -count(DISTINCT session_id), make_timestamp(min(moment))
        FROM moved GROUP BY session HAVING count(DISTINCT session_id) > 1 OR count(session_id) < count(*)"""
    return [
        work.list_wrong("events: dt", days),
        work.list_wrong("events: no duplicates", copies),
        work.list_wrong("events: session_index", index),
        work.list_wrong("events: session_id", ids, "sessions of one id; where negative, ids of one session"),
    ]


def check_sessions(work: Work) -> list[Finding]:
    """Compare `sessions` with the recomputed ones, and its ids."""
    columns = "channels, entry_channel, events, entry_step, exit_step, steps, path_cut, dt"
    table = f"""
        SELECT session_id, person_id, device_id, user_id, started_at, ended_at,
               CAST(round(duration_s * 1e6) AS BIGINT) AS duration_us, {columns} FROM sessions"""
    expected = f"""
        SELECT session_id, person_id, device_id, user_id, make_timestamptz(began) AS started_at,
               make_timestamptz(ended) AS ended_at, ended - began AS duration_us, {columns} FROM closed"""
    return [work.compare("sessions", table, expected)]
