"""Does every received record have one fate, and do the tables hold as many rows as the ledger says?"""

from __future__ import annotations

from typing import Any

from maps.check_report import Finding
from maps.check_work import EXAMPLES, Work

HELD = {"accepted": "events", "late": "late_events", "dead": "dead_letters"}

COUNTED = """
SELECT source, source_partition, sum(received) AS received, sum(accepted) AS accepted, sum(duplicate) AS duplicate,
       sum(late) AS late, sum(dead) AS dead, sum(events) AS events, sum(late_events) AS late_events,
       sum(dead_letters) AS dead_letters
FROM (
    SELECT source, source_partition, received, accepted, duplicate, late, dead, 0 AS events, 0 AS late_events,
           0 AS dead_letters FROM ledger
    UNION ALL SELECT source, source_partition, 0, 0, 0, 0, 0, count(*), 0, 0 FROM events GROUP BY ALL
    UNION ALL SELECT source, source_partition, 0, 0, 0, 0, 0, 0, count(*), 0 FROM late_events GROUP BY ALL
    UNION ALL SELECT source, source_partition, 0, 0, 0, 0, 0, 0, 0, count(*) FROM dead_letters GROUP BY ALL)
GROUP BY source, source_partition ORDER BY source, source_partition
"""


def check_ledger(work: Work) -> list[Finding]:
    """Check `received = accepted + duplicate + late + dead` and the tables' rows, per file and source partition.

    While the job has not read to the end, what waits in its reorder buffer is received and nothing else yet.
    """
    rows = [_fill_in(work, row) for row in work.fetch(COUNTED)]
    findings = [_list_wrong("ledger: every record has one fate", [row for row in rows if not _is_settled(work, row)])]
    for column, table in HELD.items():
        wrong = [row for row in rows if row[column] != row[table] + row[f"forgotten_{table}"]]
        findings.append(_list_wrong(f"ledger: {column} = rows of {table}", wrong))
    return findings


def _fill_in(work: Work, row: dict[str, Any]) -> dict[str, Any]:
    origin = (row["source"], row["source_partition"])
    numbers = {name: value if isinstance(value, str) or value is None else int(value) for name, value in row.items()}
    gone = {f"forgotten_{table}": work.allowance.of(table, origin) for table in (*HELD.values(), "waiting")}
    return {**numbers, **gone}


def _is_settled(work: Work, row: dict[str, Any]) -> bool:
    fates: int = row["accepted"] + row["duplicate"] + row["late"] + row["dead"] + row["forgotten_waiting"]
    return bool(row["received"] == fates or (not work.complete and row["received"] > fates))


def _list_wrong(name: str, wrong: list[dict[str, Any]]) -> Finding:
    return Finding(name, not wrong, len(wrong), tuple(wrong[:EXAMPLES]))


def check_sums(work: Work) -> Finding:
    """Check that sessions = `(start)` = `(end)` = sessions of paths, open and forgotten ones apart."""
    gone = work.allowance.totals
    sums = {
        "sessions": work.count("SELECT count(*) FROM sessions"),
        "open_sessions": work.count("SELECT count(*) FROM spans") - work.count("SELECT count(*) FROM closed"),
        "starts": work.count("SELECT sum(transitions) FROM transitions WHERE from_step = '(start)'"),
        "ends": work.count("SELECT sum(transitions) FROM transitions WHERE to_step = '(end)'"),
        "sessions_of_paths": work.count("SELECT sum(sessions) FROM paths"),
        "forgotten_starts": gone["starts"],
        "forgotten_sessions": gone["sessions"],
    }
    whole = sums["sessions"] + sums["forgotten_sessions"]
    starts = sums["sessions"] + sums["open_sessions"] + sums["forgotten_starts"]
    ok = sums["starts"] == starts and sums["ends"] == whole and sums["sessions_of_paths"] == whole
    return Finding("sessions = starts = ends = paths", ok, 0 if ok else 1, () if ok else (sums,))
