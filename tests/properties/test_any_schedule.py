"""The tables are the batch answer, whatever the batches, key groups, interleaving, stops and reloads."""

from __future__ import annotations

import os
import random
from dataclasses import replace

import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config import Config
from events.canonical import Decoded
from events.raw import EpochEnd, LaneEnd
from tests.oracle.strategies import make_stream, streams
from tests.support.driving import Job
from tests.support.phases import PLACE, Phase, compute_answer, plan_phases
from tests.support.streams import decode_records
from tests.support.tables import Frames, assert_equal_to_oracle

EXAMPLES = int(os.environ.get("JOURNEYS_EXAMPLES", "120"))


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
        self.collide = self.chance.random() < 0.2
        if self.collide:  # ids are made of the hash, so that event ids must tell persons apart
            records = records.with_columns(pl.concat_str("event_id", "person_id", separator="/"))
        self.lanes = {str(name): lane for (name,), lane in records.partition_by(PLACE[:1], as_dict=True).items()}
        self.lanes = {name: lane.sort(PLACE[1]) for name, lane in sorted(self.lanes.items())} or {"lane-000": records}
        self.block = self.chance.choice([1, 2, 4, 10, 100_000])
        self.reloads = self.chance.choice([0, 0, 0.05, 0.3])
        self.flushes = self.chance.choice([0, 0, 0.1, 0.5])
        self.prompt = self.chance.choice([1.0, 0.5, 0.1])

    def plan(self) -> list[Phase]:
        """Cut the lanes into one to three runs; what a finished run released is behind for the next ones."""
        ends = self.chance.choice([["finish"], ["stop", "finish"], ["finish", "finish"], ["stop", "finish", "finish"]])
        cuts = {
            name: [0, *sorted(self.chance.randint(0, lane.height) for _ in ends[1:]), lane.height]
            for name, lane in self.lanes.items()
        }
        parts = [
            pl.concat([lane[cuts[name][number] : cuts[name][number + 1]] for name, lane in self.lanes.items()])
            for number in range(len(ends))
        ]
        return plan_phases(parts, ends, self.config)

    def run(self, job: Job, phase: Phase) -> None:
        """Read one phase's records in random blocks, lanes interleaved, reloading now and then."""
        lanes = {name: phase.records.filter(pl.col(PLACE[0]) == name) for name in self.lanes}
        ended: list[LaneEnd] = []
        while lanes:
            name = self.chance.choice(sorted(lanes))
            sizes = [self.chance.randint(0, self.block) for _ in range(self.chance.choice([1, 1, 2]))]
            values: list[Decoded | LaneEnd | EpochEnd] = []
            for size in sizes:
                block, lanes[name] = lanes[name][:size], lanes[name][size:]
                values.append(decode_records(block, name, collide=self.collide))
            values += [EpochEnd(name)] if self.chance.random() < self.flushes else []
            if lanes[name].height == 0:
                del lanes[name]
                # A lane that is stopped never says that it ended.
                if not phase.stops:
                    ended.append(LaneEnd(name))
                    values.append(ended[-1])
            job.feed(*values)
            job.deliver(self.prompt)
            if self.chance.random() < self.reloads:
                job.reload()
                for end in ended:  # a resumed run finds nothing more in these lanes, and says so again
                    job.feed(end)
        job.end(stopping=phase.stops)


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
