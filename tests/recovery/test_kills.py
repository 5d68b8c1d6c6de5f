"""kill -9 at every named point of the commit and at random moments: no row is lost, doubled or changed."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from tests.recovery.conftest import Truth
from tests.recovery.jobs import ROOT
from tests.recovery.matrix import AT_RANDOM, AT_START, POINTS, Series

pytestmark = pytest.mark.slow


def test_a_job_killed_at_every_point_in_turn_gives_the_tables_of_an_uninterrupted_one(
    truth: Truth, tmp_path: Path
) -> None:
    # Short epochs, so that there are enough of them for every point, however fast the machine.
    series = Series(tmp_path / "warehouse", [str(truth.inputs)], random.Random(1), snapshots_ms=(1, 20))
    missed = [point for point in POINTS if not series.kill(point)]
    assert missed in ([], ["before_clean_manifest"]), f"points at which no kill happened: {missed}"
    series.finish()
    truth.assert_same(series.warehouse)


def test_a_job_killed_at_random_moments_gives_the_tables_of_an_uninterrupted_one(truth: Truth, tmp_path: Path) -> None:
    chance, kills = random.Random(2), 0
    # A job that finishes before it is killed often enough is followed by another.
    for number in range(4):
        series = Series(tmp_path / str(number), [str(truth.inputs)], chance, longest_wait_s=0.6)
        for where in [AT_START, AT_RANDOM, AT_RANDOM, AT_START, AT_RANDOM, AT_RANDOM]:
            if not series.finished and kills < 5:
                kills += series.kill(where)
        series.finish()
        truth.assert_same(series.warehouse)
        if kills >= 5:
            break
    assert kills >= 5


def test_every_named_point_is_in_the_matrix() -> None:
    # What rewrites tables beside the job has tests of its own, and is killed by bench/kills.py.
    rewriting = {"compaction.py", "rewriting.py", "forgetting.py", "standstill.py", "backfill.py"}
    sources = [path for folder in ("sinks", "flows") for path in (ROOT / folder).glob("*.py")]
    # What sends rows on is killed by tests/live/test_kafka_sink.py.
    sources = [path for path in sources if path.name not in {*rewriting, "kafka_topic.py"}]
    named = {name for path in sources for name in re.findall(r'pass_point\("(\w+)"\)', path.read_text())}
    # This one needs files that only old manifests name: bench/kills.py meets it beside compaction.
    met_elsewhere = {"before_clean_file"}
    assert named - met_elsewhere == {point.partition(":")[0] for point in POINTS}
