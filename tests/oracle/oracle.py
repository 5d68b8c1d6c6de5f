"""docs/semantics.md once more, as DuckDB SQL over all records at once; shares no code with the operators.

All times, in and out, are Int64 microseconds since 1970-01-01 UTC; `dt` is a Date; durations are Float64 seconds.
A session is named by (`person_id`, `started_at`, `first_event_id`), an attempt by (`funnel`, `person_id`,
`entered_at`, `entry_event_id`): the values that the hashed ids are made of.
"""

from __future__ import annotations

import duckdb
import polars as pl

from config import Config, SessionRules
from events.schema import HISTOGRAM, STRINGS, Schema

from .oracle_funnel import compute_funnel_steps

RECORDS: Schema = {
    "source_partition": pl.String,
    "source_position": pl.Int64,
    "event_id": pl.String,
    "event_time": pl.Int64,
    "person_id": pl.String,
    "device_id": pl.String,
    "user_id": pl.String,
    "channel": pl.String,
    "step": pl.String,
}
PLACE: Schema = {"source_partition": pl.String, "source_position": pl.Int64}
SESSION_KEY: Schema = {"person_id": pl.String, "started_at": pl.Int64, "first_event_id": pl.String}

OUTPUTS: dict[str, Schema] = {
    "events": {
        **RECORDS,
        "session_index": pl.Int32,
        "started_at": pl.Int64,
        "first_event_id": pl.String,
        "dt": pl.Date,
    },
    "sessions": {
        **SESSION_KEY,
        "device_id": pl.String,
        "user_id": pl.String,
        "channels": STRINGS,
        "entry_channel": pl.String,
        "ended_at": pl.Int64,
        "duration_s": pl.Float64,
        "events": pl.Int64,
        "entry_step": pl.String,
        "exit_step": pl.String,
        "steps": STRINGS,
        "path_cut": pl.Boolean,
        "dt": pl.Date,
    },
    "transitions": {
        "hour": pl.Int64,
        "channel": pl.String,
        "from_step": pl.String,
        "to_step": pl.String,
        "transitions": pl.Int64,
        "total_seconds": pl.Float64,
        "seconds_histogram": HISTOGRAM,
        "dt": pl.Date,
    },
    "paths": {
        "dt": pl.Date,
        "steps": STRINGS,
        "sessions": pl.Int64,
        "events": pl.Int64,
        "total_seconds": pl.Float64,
    },
    "late": {**PLACE, "watermark": pl.Int64},
    "duplicates": PLACE,
    "ledger": {
        "source_partition": pl.String,
        "received": pl.Int64,
        "accepted": pl.Int64,
        "duplicate": pl.Int64,
        "late": pl.Int64,
    },
}

# Every record gets one fate. What is late is out before duplicates are looked for: it hides no timely copy.
FATES = """
CREATE TABLE fates AS
WITH watermarks AS (
    SELECT *, max(event_time) OVER (
        PARTITION BY source_partition ORDER BY source_position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) - $lateness AS watermark
    FROM records
), timed AS (
    SELECT *, watermark IS NOT NULL AND event_time < watermark AS is_late FROM watermarks
), numbered AS (
    SELECT *, row_number() OVER (
        PARTITION BY is_late, person_id, event_id, event_time ORDER BY source_partition, source_position
    ) AS copy
    FROM timed
)
SELECT *, CASE WHEN is_late THEN 'late' WHEN copy > 1 THEN 'duplicate' ELSE 'accepted' END AS fate FROM numbered
"""

ACCEPTED = """
CREATE TABLE accepted AS
SELECT *, row_number() OVER (ORDER BY person_id, event_time, source_partition, source_position) AS place
FROM fates WHERE fate = 'accepted'
"""

EVENTS = """
CREATE TABLE sessionized AS
SELECT accepted.*, session, session_index::INTEGER AS session_index,
    first_value(event_time) OVER w AS started_at, first_value(event_id) OVER w AS first_event_id,
    make_timestamp(event_time)::DATE AS dt
FROM accepted JOIN numbering USING (place)
WINDOW w AS (PARTITION BY session ORDER BY session_index)
"""

SESSIONS = """
CREATE TABLE sessions AS
WITH appearances AS (
    SELECT session, channel, min(session_index) AS first_index FROM sessionized GROUP BY session, channel
), channel_lists AS (
    SELECT session, list(channel ORDER BY first_index) AS channels FROM appearances GROUP BY session
), changes AS (
    SELECT session, session_index, step FROM sessionized
    QUALIFY lag(step) OVER (PARTITION BY session ORDER BY session_index) IS DISTINCT FROM step
), step_lists AS (
    SELECT session, list(step ORDER BY session_index) AS steps FROM changes GROUP BY session
), summaries AS (
    SELECT session, person_id, started_at, first_event_id,
        first(device_id ORDER BY session_index) FILTER (device_id IS NOT NULL) AS device_id,
        first(user_id ORDER BY session_index) FILTER (user_id IS NOT NULL) AS user_id,
        first(channel ORDER BY session_index) AS entry_channel,
        max(event_time) AS ended_at,
        count(*) AS events,
        first(step ORDER BY session_index) AS entry_step,
        last(step ORDER BY session_index) AS exit_step
    FROM sessionized GROUP BY session, person_id, started_at, first_event_id
)
SELECT * EXCLUDE (session, steps),
    (ended_at - started_at) / 1e6 AS duration_s,
    steps[1:$max_path_steps] AS steps,
    len(steps) > $max_path_steps AS path_cut,
    make_timestamp(started_at)::DATE AS dt
FROM summaries JOIN channel_lists USING (session) JOIN step_lists USING (session)
"""

TRANSITIONS = """
CREATE TABLE transitions AS
WITH moves AS (
    SELECT event_time, channel, coalesce(lag(step) OVER w, '(start)') AS from_step, step AS to_step,
        event_time - lag(event_time) OVER w AS pause
    FROM sessionized WINDOW w AS (PARTITION BY session ORDER BY session_index)
    UNION ALL
    (SELECT event_time, channel, step, '(end)', NULL FROM sessionized
     QUALIFY row_number() OVER (PARTITION BY session ORDER BY session_index DESC) = 1)
), bucketed AS (
    SELECT *, date_trunc('hour', make_timestamp(event_time)) AS hour_start,
        CASE WHEN pause = 0 THEN -1000 WHEN pause > 0 THEN floor(8 * log2(pause / 1e6))::INTEGER END AS bucket
    FROM moves
), per_bucket AS (
    SELECT hour_start, channel, from_step, to_step, bucket, count(*) AS n, coalesce(sum(pause), 0) AS pauses
    FROM bucketed GROUP BY ALL
)
SELECT epoch_us(hour_start) AS hour, channel, from_step, to_step,
    sum(n)::BIGINT AS transitions,
    sum(pauses)::BIGINT / 1e6 AS total_seconds,
    coalesce(list({'bucket': bucket, 'n': n} ORDER BY bucket) FILTER (bucket IS NOT NULL), []) AS seconds_histogram,
    hour_start::DATE AS dt
FROM per_bucket GROUP BY hour_start, channel, from_step, to_step
"""

PATHS = """
CREATE TABLE paths AS
SELECT dt, steps, count(*) AS sessions, sum(events)::BIGINT AS events,
    sum(ended_at - started_at)::BIGINT / 1e6 AS total_seconds
FROM sessions GROUP BY dt, steps
"""

RESULTS = {
    "events": "SELECT * FROM sessionized ORDER BY place",
    "sessions": "SELECT * FROM sessions ORDER BY person_id, started_at",
    "transitions": "SELECT * FROM transitions ORDER BY hour, channel, from_step, to_step",
    "paths": "SELECT * FROM paths ORDER BY dt, steps",
    "late": "SELECT * FROM fates WHERE fate = 'late' ORDER BY source_partition, source_position",
    "duplicates": "SELECT * FROM fates WHERE fate = 'duplicate' ORDER BY source_partition, source_position",
    "ledger": """
        SELECT source_partition, count(*) AS received,
            count(*) FILTER (fate = 'accepted') AS accepted,
            count(*) FILTER (fate = 'duplicate') AS duplicate,
            count(*) FILTER (fate = 'late') AS late
        FROM fates GROUP BY source_partition ORDER BY source_partition""",
}


def compute_tables(records: pl.DataFrame, config: Config) -> dict[str, pl.DataFrame]:
    """Return every table that a bounded replay of the records must give.

    Input columns: `RECORDS`, any row order (dead records left out). Output: a frame per key of `OUTPUTS`, with
    those columns, and `funnel_steps` with the columns of `oracle_funnel.FUNNEL_STEPS`. Additive tables are summed;
    `(start)` and `(end)` rows of `transitions` have an empty histogram; `ledger` knows of no dead records.
    """
    rules = config.sessions
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("records", records.select(list(RECORDS)).cast(RECORDS).to_arrow())  # type: ignore[arg-type]
        connection.execute(FATES, {"lateness": rules.allowed_lateness})
        connection.execute(ACCEPTED)
        ordered = connection.execute("SELECT person_id, event_time FROM accepted ORDER BY place").fetchall()
        connection.register("numbering", number_sessions(ordered, rules).to_arrow())
        connection.execute(EVENTS)
        connection.execute(SESSIONS, {"max_path_steps": rules.max_path_steps})
        connection.execute(TRANSITIONS)
        connection.execute(PATHS)
        tables = {name: _fetch(connection, query, OUTPUTS[name]) for name, query in RESULTS.items()}
        tables["funnel_steps"] = compute_funnel_steps(connection, config.funnels)
    return tables


def number_sessions(ordered: list[tuple[str, int]], rules: SessionRules) -> pl.DataFrame:
    """Return `place` (from 1), `session`, `session_index` for (person, event time) pairs in the order of events."""
    rows: list[tuple[int, int, int]] = []
    session, index, started_at = 0, 0, 0
    before: tuple[str, int] | None = None
    for place, (person, event_time) in enumerate(ordered, start=1):
        goes_on = (
            before is not None
            and person == before[0]
            and event_time - before[1] <= rules.gap
            and event_time - started_at <= rules.max_session
        )
        if goes_on:
            index += 1
        else:
            session, index, started_at = session + 1, 0, event_time
        rows.append((place, session, index))
        before = (person, event_time)
    schema = {"place": pl.Int64, "session": pl.Int64, "session_index": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _fetch(connection: duckdb.DuckDBPyConnection, query: str, schema: Schema) -> pl.DataFrame:
    frame = pl.DataFrame(connection.sql(query).to_arrow_table())
    return frame.select(list(schema)).cast(schema)  # type: ignore[arg-type]
