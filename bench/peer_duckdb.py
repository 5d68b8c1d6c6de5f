"""The fair rival: DuckDB SQL doing the whole job from the NDJSON file to the same Parquet tables.

    python bench/peer_duckdb.py FILE OUTDIR [--stages]

Prints one JSON line. The time is that of the statements in peer_duckdb.sql; counting the results comes after it.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from pathlib import Path

import duckdb
from figures import read_parquet_folder
from measure import Cost, Meter

SQL = Path(__file__).with_suffix(".sql")
THREADS = 2
# The SQL splits sessions at the gap only; the generator makes none this long, so the rival is spared the work.
LONGEST_US = 24 * 3_600_000_000


def read_stages(file: Path, out: Path) -> list[tuple[str, str]]:
    """Return the job's statements as (stage, SQL)."""
    _, *parts = re.split(r"^-- load$", SQL.read_text(), maxsplit=1, flags=re.MULTILINE)
    stages = []
    for part in re.split(r"^-- ", "-- load" + parts[0], flags=re.MULTILINE)[1:]:
        title, _, body = part.partition("\n")
        stages.append((title.partition(":")[0], body.format(file=file, out=out)))
    return stages


def run_job(file: Path, out: Path) -> tuple[Cost, dict[str, float], int]:
    """Write the tables; return the cost, the seconds by stage and the number of duplicates."""
    meter, seconds = Meter(), {}
    with duckdb.connect() as connection:
        connection.execute(f"SET threads = {THREADS}")
        connection.execute("SET TimeZone = 'UTC'")
        for stage, sql in read_stages(file, out):
            before = meter.read().seconds
            connection.execute(sql)
            seconds[stage] = round(meter.read().seconds - before, 3)
        cost = meter.read()
        counted = connection.execute(
            "SELECT (SELECT count(*) FROM duplicate), (SELECT max(ended - started) FROM sessions)"
        ).fetchone()
    duplicates, longest = counted or (0, 0)
    if (longest or 0) > LONGEST_US:
        raise SystemExit("a session is longer than max_session: peer_duckdb.sql does not split those")
    return cost, seconds, duplicates


def main() -> None:
    """Run the job on one file and print its cost and figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("file", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--stages", action="store_true", help="add the seconds by stage")
    given = parser.parse_args()
    shutil.rmtree(given.out, ignore_errors=True)
    given.out.mkdir(parents=True)
    cost, stages, duplicates = run_job(given.file, given.out)
    result = {**cost.to_dict(), "duplicates": duplicates, **read_parquet_folder(given.out)}
    print(json.dumps({**result, "stages": stages} if given.stages else result))


if __name__ == "__main__":
    main()
