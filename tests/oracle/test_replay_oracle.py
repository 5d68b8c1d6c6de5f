"""Files in, Parquet out: a whole replay against the oracle, for any workers, key groups, epochs, blocks and stops."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from config import Config
from flows.replay import ReplayResult
from tests.oracle.oracle import compute_tables
from tests.oracle.strategies import make_stream
from tests.support.phases import PLACE, compute_answer, plan_phases
from tests.support.replaying import replay, replay_to_end, write_lane
from tests.support.tables import assert_equal_to_oracle, read_views, read_warehouse

EXAMPLES = int(os.environ.get("JOURNEYS_EXAMPLES", "15"))
MILLISECOND = 1_000
FILE_SHIFT = 40

pytestmark = pytest.mark.slow


def make_job(seed: int, lanes: str) -> tuple[random.Random, pl.DataFrame, Config]:
    """Make a stream and a config with random key groups, epoch length and block size."""
    chance = random.Random(seed)
    records, config = make_stream(chance, chance.choice([0, 30, 60, 200]))
    job = replace(
        config.job,
        key_groups=chance.choice([1, 2, 3, 8, 64]),
        writers=chance.choice([1, 1, 2, 3]),
        snapshot=chance.choice([2 * MILLISECOND, 20 * MILLISECOND, 10_000 * MILLISECOND]),
        block_bytes=chance.choice([64 << 10, 8 << 20]),
        release_rows=chance.choice([1, 7, 50_000]),
    )
    return chance, records, replace(config, job=job, input=replace(config.input, lanes=lanes))


def write_lanes(folder: Path, records: pl.DataFrame, padding: int) -> None:
    """Write a file per partition, so named that lanes and partitions are called the same; empty where it is."""
    folder.mkdir(exist_ok=True)
    for number in range(4):
        lane = records.filter(pl.col(PLACE[0]) == f"lane-{number:03}")
        write_lane(folder / f"p{number}.ndjson", lane, padding)


def vary_epochs(config: Config, chance: random.Random) -> Config:
    """Change what may change between two runs of one job."""
    snapshot = chance.choice([2, 20, 10_000]) * MILLISECOND
    return replace(config, job=replace(config.job, snapshot=snapshot, release_rows=chance.choice([1, 7, 50_000])))


def check_warehouse(root: Path, expected: dict[str, pl.DataFrame]) -> None:
    """Compare the files as they lie there, and the views that DuckDB shows, with the oracle's tables."""
    tables = read_warehouse(root)
    assert tables["dead_letters"].height == 0
    assert_equal_to_oracle(tables, expected)
    assert_equal_to_oracle(read_views(root), expected)
    assert (tables["events"]["event_name"] == tables["events"]["step"]).all()
    assert set(tables["events"]["event_type"]) <= {"track"}


@pytest.mark.parametrize("seed", range(EXAMPLES))
def test_replay_equals_the_oracle_for_any_workers_epochs_and_stops(seed: int, tmp_path: Path) -> None:
    """Workers that change between runs, up to 64 key groups, epochs of 2 ms, blocks of few lines, stops."""
    chance, records, config = make_job(seed, "each")
    write_lanes(tmp_path / "in", records, chance.choice([0, 0, 20_000, 60_000]))
    stops = chance.choice([0, 0, 1, 3])
    result: list[ReplayResult] = []

    def run(number: int) -> ReplayResult:
        stop_at = chance.randint(1, 4) if number < stops else 0
        varied = vary_epochs(config, chance)
        result.append(replay(tmp_path / "in", tmp_path / "out", varied, chance.randint(1, 3), stop_at))
        return result[-1]

    replay_to_end(run)
    assert [lane.name for lane in result[-1].lanes] == [f"lane-{number:03}" for number in range(4)]
    check_warehouse(tmp_path / "out", compute_tables(records, config))
    again = replay(tmp_path / "in", tmp_path / "out", config)
    assert again.outcome == "nothing_to_do"


@pytest.mark.parametrize("seed", range(1000, 1000 + max(5, EXAMPLES // 3)))
def test_files_added_to_a_finished_replay_go_on_as_the_oracle_says(seed: int, tmp_path: Path) -> None:
    """Later files of the one lane take the tail back; what is older than all that was released is late."""
    chance, records, config = make_job(seed, "one")
    lane = records.sort("event_time", maintain_order=True) if chance.random() < 0.5 else records
    cuts = sorted(chance.randint(0, lane.height) for _ in range(2))
    parts = [
        part.with_columns(
            pl.lit("lane-000").alias(PLACE[0]), (pl.int_range(pl.len()) + (number << FILE_SHIFT)).alias(PLACE[1])
        )
        for number, part in enumerate([lane[: cuts[0]], lane[cuts[0] : cuts[1]], lane[cuts[1] :]])
    ]
    phases = plan_phases(parts, ["finish"] * 3, config)
    (tmp_path / "in").mkdir()
    for number, part in enumerate(parts):
        write_lane(tmp_path / "in" / f"p{number}.ndjson", part)
        varied = vary_epochs(config, chance)
        result = replay(tmp_path / "in", tmp_path / "out", varied, chance.randint(1, 3))
        assert result.outcome == "finished"
        check_warehouse(tmp_path / "out", compute_answer(phases[: number + 1], config))


@pytest.mark.parametrize("seed", range(2000, 2000 + max(5, EXAMPLES // 3)))
def test_new_lanes_beside_a_finished_replay_go_on_as_the_oracle_says(seed: int, tmp_path: Path) -> None:
    """Each new file is a partition of its own: it makes late only what is behind all that was released."""
    chance, records, config = make_job(seed, "each")
    first = records.filter(pl.col(PLACE[0]) <= "lane-001")
    second = records.filter(pl.col(PLACE[0]) > "lane-001")
    write_lanes(tmp_path / "in", first, 0)
    for number in (2, 3):
        (tmp_path / "in" / f"p{number}.ndjson").unlink()
    assert replay(tmp_path / "in", tmp_path / "out", config, chance.randint(1, 3)).outcome == "finished"
    phases = plan_phases([first, second], ["finish", "finish"], config)
    check_warehouse(tmp_path / "out", compute_answer(phases[:1], config))
    write_lanes(tmp_path / "in", records, 0)
    assert replay(tmp_path / "in", tmp_path / "out", config, chance.randint(1, 3)).outcome == "finished"
    check_warehouse(tmp_path / "out", compute_answer(phases, config))
