"""Every read of all tables is of one epoch, while the job runs, is killed, goes on, and is compacted beside it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.recovery.conftest import Truth
from tests.recovery.jobs import start_python
from tests.recovery.matrix import AT_RANDOM, Series

pytestmark = pytest.mark.slow
READS = 200


def test_readers_see_one_epoch_at_a_time_and_a_reader_of_globs_does_not(truth: Truth, tmp_path: Path) -> None:
    series = Series(tmp_path / "warehouse", [str(truth.inputs)], random.Random(3), longest_wait_s=3.0)
    reader, kinds = "tests/recovery/reader.py", ("views", "views", "globs")
    readers = [start_python(reader, str(series.warehouse), kind, str(READS // 2)) for kind in kinds]
    compactions = []
    for where in ("after_manifest:3", AT_RANDOM, "before_forget_descriptor:2", "after_descriptor:3", "after_catalog:2"):
        series.kill(where)
        compactions.append(start_python("tests/recovery/compactor.py", str(series.warehouse), "2"))
    series.finish()
    for process in compactions:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    told: list[dict[str, Any]] = []
    # The readers of views go on until they have read often enough; the control has seen enough by now.
    for process, kind in zip(readers, kinds, strict=True):
        if kind == "views":
            process.wait(300)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        told.append(json.loads(out))
    one, other, control = told
    for reads in (one, other):
        assert (reads["torn"], reads["errors"]) == (0, 0), reads["examples"]
        assert reads["versions"] > 3, reads
    assert one["reads"] + other["reads"] >= READS
    assert control["torn"] + control["errors"] > 0, "the control was not caught"
    truth.assert_same(series.warehouse)


def test_a_reader_of_globs_is_torn_by_a_kill_alone(truth: Truth, tmp_path: Path) -> None:
    series = Series(tmp_path / "warehouse", [str(truth.inputs)], random.Random(4))
    assert series.kill("after_file:9")
    counts = {}
    for kind in ("views", "globs"):
        process = start_python("tests/recovery/reader.py", str(series.warehouse), kind, "1")
        process.wait(60)
        counts[kind] = json.loads(process.communicate()[0])
    assert counts["views"]["torn"] + counts["views"]["errors"] == 0, counts
    assert counts["globs"]["torn"] + counts["globs"]["errors"] == 1, counts
