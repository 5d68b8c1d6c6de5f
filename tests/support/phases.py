"""A job of several runs: what each reads, whether it is stopped, and the oracle's answer after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from config import Config
from operators.columns import BEGINNING
from tests.oracle.oracle import compute_tables
from tests.support.tables import Frames

PLACE = ["source_partition", "source_position"]


@dataclass(frozen=True)
class Phase:
    """One run of the job: the records that it reads, by partition, and whether it is stopped before their end."""

    records: pl.DataFrame
    stops: bool
    behind: int


def plan_phases(parts: Sequence[pl.DataFrame], ends: Sequence[str], config: Config) -> list[Phase]:
    """Make a phase of each run's records; `ends`: "stop" or "finish".

    A finished run releases everything up to its last watermark; what is older than that is behind for the next runs.
    """
    phases: list[Phase] = []
    behind = BEGINNING
    for records, end in zip(parts, ends, strict=True):
        phases.append(Phase(records, end == "stop", behind))
        latest = pl.concat([phase.records for phase in phases])["event_time"].max()
        if end == "finish" and latest is not None:
            behind = int(latest) - config.sessions.allowed_lateness  # type: ignore[arg-type]
    return phases


def compute_answer(phases: list[Phase], config: Config) -> Frames:
    """Return the oracle's tables after the last of the phases.

    What is behind everything that an earlier, finished run released is late beside what its own partition makes late.
    """
    seen = pl.concat([phase.records for phase in phases])
    plain = compute_tables(seen, config)
    late = plain["late"].select(PLACE)
    behind = pl.concat(
        [
            phase.records.filter(pl.col("event_time") < phase.behind).select(
                *PLACE, pl.lit(phase.behind, dtype=pl.Int64).alias("watermark")
            )
            for phase in phases
        ]
    ).join(late, on=PLACE, how="anti")
    if behind.height == 0:
        return plain
    rest = seen.join(late, on=PLACE, how="anti").join(behind, on=PLACE, how="anti")
    tables = compute_tables(rest, config)
    assert tables["late"].height == 0
    tables["late"] = pl.concat([plain["late"], behind])
    settled = tables["ledger"].select("source_partition", "accepted", "duplicate")
    lates = tables["late"].group_by("source_partition").len("late")
    ledger = plain["ledger"].select("source_partition", "received").join(settled, on="source_partition", how="left")
    tables["ledger"] = ledger.join(lates, on="source_partition", how="left").fill_null(0)
    return tables
