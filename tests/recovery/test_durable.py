"""What the publisher relies on: when a source reads on, the epoch before is in the recovery store, on every worker.

The job halts itself (SIGSTOP) at the moment in question, so that its store and its manifest can be compared at rest.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flows.graph import SINK_STEP, SOURCE_STEP
from flows.recovery import read_progress
from sinks.manifest import read_manifest
from sinks.publishing import list_waiting
from tests.recovery.conftest import Truth
from tests.recovery.jobs import Job

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Moment:
    """By writer, the number of its commits: recorded as durable, published, and written and waiting."""

    durable: dict[str, int]
    published: dict[str, int]
    waiting: dict[str, int]


def is_ahead(commits: dict[str, int], durable: dict[str, int]) -> bool:
    """Tell whether a writer has more commits there than are durable."""
    return any(count > durable.get(part, 0) for part, count in commits.items())


def halt_at(point: str, told: dict[str, Any]) -> Iterator[Moment]:
    """Run a job that halts whenever it passes the point, and look at its warehouse each time."""
    job = Job(told, fail_at=f"{point}:1:{int(signal.SIGSTOP)}")
    pid = job.process.pid
    try:
        while True:
            seen = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            if seen is None or seen.si_code != os.CLD_STOPPED:
                break
            os.waitid(os.P_PID, pid, os.WSTOPPED)
            sinks = read_progress(job.folders.recovery, SOURCE_STEP, SINK_STEP).sinks
            durable = {part: int(state) for part, state in sinks.items()}
            yield Moment(durable, dict(read_manifest(job.folders).parts), list_waiting(job.folders))
            os.kill(pid, signal.SIGCONT)
    finally:
        if job.process.poll() is None:
            os.kill(pid, signal.SIGCONT)
    ending = job.wait()
    assert ending.outcome == "finished", ending.err


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_what_waits_when_a_source_reads_on_is_durable_on_every_worker(
    small: Truth, tmp_path: Path, workers: int
) -> None:
    told = small.told(tmp_path / "warehouse", workers=workers, snapshot_ms=1)
    moments = list(halt_at("epoch_durable", told))
    assert len(moments) >= 10
    assert any(moment.waiting for moment in moments)
    for moment in moments:
        assert not is_ahead(moment.waiting, moment.durable), moment
        assert not is_ahead(moment.published, moment.durable), moment
    small.assert_same(tmp_path / "warehouse")


def test_what_was_just_written_is_not_durable_so_the_comparison_has_teeth(small: Truth, tmp_path: Path) -> None:
    told = small.told(tmp_path / "warehouse", workers=2, snapshot_ms=1)
    moments = list(halt_at("after_descriptor", told))
    assert any(is_ahead(moment.waiting, moment.durable) for moment in moments)
    assert not any(is_ahead(moment.published, moment.durable) for moment in moments)


def test_a_manifest_never_names_what_is_not_durable(small: Truth, tmp_path: Path) -> None:
    told = small.told(tmp_path / "warehouse", workers=2, snapshot_ms=1)
    moments = list(halt_at("after_manifest", told))
    assert len(moments) >= 3
    assert not any(is_ahead(moment.published, moment.durable) for moment in moments)
