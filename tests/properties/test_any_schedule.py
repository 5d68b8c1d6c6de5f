"""The tables are the batch answer, whatever the batches, key groups, interleaving, stops and reloads."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, replace

import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config import Config
from events.raw import LaneEnd
from operators.columns import BEGINNING
from tests.oracle.oracle import compute_tables
from tests.oracle.strategies import make_stream, streams
from tests.support.driving import Job
from tests.support.streams import decode_records
from tests.support.tables import Frames, assert_equal_to_oracle

EXAMPLES = int(os.environ.get("JOURNEYS_EXAMPLES", "150"))
PLACE = ["source_partition", "source_position"]


@dataclass(frozen=True)
class Phase:
    """One run of the job: the records that it reads, by partition, and whether it is stopped before their end."""

    records: pl.DataFrame
    stops: bool
    behind: int


class Schedule:
    """Decides by chance everything that must not matter."""

    def __init__(self, records: pl.DataFrame, config: Config, seed: int) -> None:
        self.chance = random.Random(seed)
        self.config = replace(
            config,
            job=replace(
                config.job,
                key_groups=self.chance.choice([1, 1, 2, 3, 3, 5, 8, self.chance.randint(1, 64)]),
                release_rows=self.chance.choice([1, 1, 2, 3, 5, 20, 100_000]),
            ),
        )
        self.lanes = {str(name): lane for (name,), lane in records.partition_by(PLACE[:1], as_dict=True).items()}
        self.lanes = {name: lane.sort(PLACE[1]) for name, lane in sorted(self.lanes.items())} or {"lane-000": records}
        self.block = self.chance.choice([1, 2, 4, 10, 100_000])
        self.reloads = self.chance.choice([0, 0, 0.05, 0.3])
        self.prompt = self.chance.choice([1.0, 0.5, 0.1])

    def plan(self) -> list[Phase]:
        """Cut the lanes into one to three runs; what a finished run released is behind for the next ones."""
        ends = self.chance.choice([["finish"], ["stop", "finish"], ["finish", "finish"], ["stop", "finish", "finish"]])
        cuts = {
            name: [0, *sorted(self.chance.randint(0, lane.height) for _ in ends[1:]), lane.height]
            for name, lane in self.lanes.items()
        }
        phases: list[Phase] = []
        behind = BEGINNING
        for number, end in enumerate(ends):
            parts = [lane[cuts[name][number] : cuts[name][number + 1]] for name, lane in self.lanes.items()]
            phases.append(Phase(pl.concat(parts), end == "stop", behind))
            latest = pl.concat([phase.records for phase in phases])["event_time"].max()
            if end == "finish" and latest is not None:
                behind = int(latest) - self.config.sessions.allowed_lateness  # type: ignore[call-overload]
        return phases

    def run(self, job: Job, phase: Phase) -> None:
        """Read one phase's records in random blocks, lanes interleaved, reloading now and then."""
        lanes = {name: phase.records.filter(pl.col(PLACE[0]) == name) for name in self.lanes}
        while lanes:
            name = self.chance.choice(sorted(lanes))
            sizes = [self.chance.randint(0, self.block) for _ in range(self.chance.choice([1, 1, 2]))]
            values: list[object] = []
            for size in sizes:
                block, lanes[name] = lanes[name][:size], lanes[name][size:]
                values.append(decode_records(block, name))
            if lanes[name].height == 0:
                del lanes[name]
                # A lane that is stopped never says that it ended.
                values += [] if phase.stops else [LaneEnd(name)]
            job.feed(*values)  # type: ignore[arg-type]
            job.deliver(self.prompt)
            if self.chance.random() < self.reloads:
                job.reload()
        job.end(stopping=phase.stops)


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


def check_schedule(records: pl.DataFrame, config: Config, seed: int) -> None:
    """Run a schedule and compare all tables with the oracle's at every finish."""
    schedule = Schedule(records, config, seed)
    job = Job(schedule.config, schedule.lanes, schedule.chance)
    phases = schedule.plan()
    for number, phase in enumerate(phases, start=1):
        if number > 1:
            job.reload()
        schedule.run(job, phase)
        if not phase.stops:
            assert_equal_to_oracle(job.tables(), compute_answer(phases[:number], config))
            check_late_rows(job.tables())


def check_late_rows(tables: Frames) -> None:
    """A late row says why, and carries its raw line if it came from its own partition's block."""
    late = tables["late_events"]
    assert set(late["reason"]) <= {"late", "behind_all_partitions"}
    for row in late.filter(pl.col("reason") == "late").iter_rows(named=True):
        assert row["raw"] == f"{row['source_partition']}:{row['source_position']}".encode()
        assert row["event_time"] < row["watermark"]


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(stream=streams(60), seed=st.integers(0, 2**32 - 1))
def test_tables_equal_the_oracle_for_any_schedule(stream: tuple[pl.DataFrame, Config], seed: int) -> None:
    """Random batches, key groups, release sizes, interleaving, reloads, stops and second runs change no row."""
    check_schedule(*stream, seed)


def test_long_streams_equal_the_oracle_for_any_schedule() -> None:
    """The same for streams of some hundred records, in which sessions and chains live through many batches."""
    for seed in range(max(4, EXAMPLES // 25)):
        chance = random.Random(seed)
        records, config = make_stream(chance, chance.choice([200, 500, 1500]))
        check_schedule(records, config, seed)
