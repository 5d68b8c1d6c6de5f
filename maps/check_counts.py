"""Transitions and paths once more, from the tables that `check_sessions` makes of `events`."""

from __future__ import annotations

from maps.check_report import Finding
from maps.check_work import Work

RECOMPUTED = "recomputed: what the events give; null: no such row"

COUNTED = """
CREATE TABLE counted AS
WITH moves AS (
    SELECT moment, channel, coalesce(step_before, '(start)') AS from_step, step AS to_step, pause FROM moved
    UNION ALL SELECT ended, exit_channel, exit_step, '(end)', NULL FROM closed),
bars AS (
    SELECT epoch_us(date_trunc('hour', make_timestamp(moment))) AS hour, channel, from_step, to_step,
           CASE WHEN pause = 0 THEN -1000 WHEN pause > 0 THEN CAST(floor(8 * log2(pause / 1e6)) AS INTEGER) END
           AS bucket,
           count(*) AS n, CAST(coalesce(sum(pause), 0) AS BIGINT) AS us
    FROM moves GROUP BY ALL)
SELECT hour, channel, from_step, to_step, CAST(sum(n) AS BIGINT) AS transitions, CAST(sum(us) AS BIGINT) AS us,
       coalesce(list({'bucket': bucket, 'n': n} ORDER BY bucket) FILTER (bucket IS NOT NULL), []) AS histogram
FROM bars GROUP BY hour, channel, from_step, to_step
"""
TRANSITIONS_COMPARED = """
CREATE TABLE transitions_compared AS
SELECT make_timestamp(hour) AS hour, channel, from_step, to_step, there.transitions, here.transitions AS recomputed,
       there.us / 1e6 AS total_seconds, here.us / 1e6 AS recomputed_seconds,
       there.histogram AS seconds_histogram, here.histogram AS recomputed_histogram, there.dt
FROM (SELECT epoch_us(hour) AS hour, channel, from_step, to_step, transitions, dt,
             CAST(round(total_seconds * 1e6) AS BIGINT) AS us, seconds_histogram AS histogram FROM transitions) AS there
FULL JOIN counted AS here USING (hour, channel, from_step, to_step)
"""
TRANSITIONS_DIFFER = """
    transitions IS DISTINCT FROM recomputed OR abs(total_seconds - recomputed_seconds) > 1e-5
    OR seconds_histogram IS DISTINCT FROM recomputed_histogram OR dt <> hour::DATE
"""
# What was forgotten stays counted, as it names nobody: nothing may be missing, and the excess must add up.
TRANSITIONS_MISSING = """
    coalesce(transitions, 0) < coalesce(recomputed, 0)
    OR coalesce(total_seconds, 0) < coalesce(recomputed_seconds, 0) - 1e-5 OR dt <> hour::DATE
UNION ALL
SELECT NULL, NULL, '(all)', '(all)', sum(transitions), coalesce(sum(recomputed), 0) + {excess},
       NULL, NULL, NULL, NULL, NULL
FROM transitions_compared HAVING coalesce(sum(transitions), 0) <> coalesce(sum(recomputed), 0) + {excess}
"""

PATHS_COMPARED = """
CREATE TABLE paths_compared AS
SELECT dt, steps, there.sessions, here.sessions AS recomputed, there.events, here.events AS recomputed_events,
       there.us / 1e6 AS total_seconds, here.us / 1e6 AS recomputed_seconds
FROM (SELECT dt, steps, CAST(sum(sessions) AS BIGINT) AS sessions, CAST(sum(events) AS BIGINT) AS events,
             CAST(round(sum(total_seconds) * 1e6) AS BIGINT) AS us FROM raw_paths GROUP BY dt, steps) AS there
FULL JOIN (SELECT dt, steps, count(*) AS sessions, CAST(sum(events) AS BIGINT) AS events,
                  CAST(sum(ended - began) AS BIGINT) AS us FROM closed GROUP BY dt, steps) AS here
USING (dt, steps)
"""
PATHS_DIFFER = """
    sessions IS DISTINCT FROM recomputed OR events IS DISTINCT FROM recomputed_events
    OR abs(total_seconds - recomputed_seconds) > 1e-5
"""
PATHS_MISSING = """
    coalesce(sessions, 0) < coalesce(recomputed, 0) OR coalesce(events, 0) < coalesce(recomputed_events, 0)
    OR coalesce(total_seconds, 0) < coalesce(recomputed_seconds, 0) - 1e-5
UNION ALL
SELECT NULL, ['(all)'], sum(sessions), coalesce(sum(recomputed), 0) + {gone}, sum(events),
       coalesce(sum(recomputed_events), 0) + {gone_events}, NULL, NULL
FROM paths_compared
HAVING coalesce(sum(sessions), 0) <> coalesce(sum(recomputed), 0) + {gone}
       OR coalesce(sum(events), 0) <> coalesce(sum(recomputed_events), 0) + {gone_events}
"""
PATH_HASHES = """
SELECT path_hash, count(DISTINCT steps) AS paths, 1 AS hashes FROM raw_paths
GROUP BY path_hash HAVING count(DISTINCT steps) > 1 OR path_hash IS NULL
UNION ALL SELECT min(path_hash), 1, count(DISTINCT path_hash) FROM raw_paths
GROUP BY steps HAVING count(DISTINCT path_hash) > 1
"""


def check_transitions(work: Work) -> Finding:
    """Compare `transitions` with the recomputed counts, times and histograms."""
    work.run(COUNTED)
    work.run(TRANSITIONS_COMPARED)
    wrong = TRANSITIONS_DIFFER
    if work.allowance.is_forgotten:
        wrong = TRANSITIONS_MISSING.format(excess=work.allowance.totals["events"] + work.allowance.totals["sessions"])
    return work.list_wrong("transitions", f"SELECT * FROM transitions_compared WHERE {wrong}", RECOMPUTED)


def check_paths(work: Work) -> list[Finding]:
    """Compare `paths` with the recomputed ones; one hash must stand for one path."""
    work.run(PATHS_COMPARED)
    wrong = PATHS_DIFFER
    if work.allowance.is_forgotten:
        totals = work.allowance.totals
        wrong = PATHS_MISSING.format(gone=totals["sessions"], gone_events=totals["session_events"])
    return [
        work.list_wrong("paths", f"SELECT * FROM paths_compared WHERE {wrong}", RECOMPUTED),
        work.list_wrong("paths: path_hash", PATH_HASHES),
    ]
