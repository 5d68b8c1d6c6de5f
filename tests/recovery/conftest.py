"""Inputs for the recovery tests, and the warehouse that an uninterrupted run makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.recovery.data import Shape, write_inputs
from tests.recovery.jobs import assert_same, finish_job

SHAPE = Shape()
SMALL = Shape(events=300)


@dataclass(frozen=True)
class Truth:
    """A folder of inputs and the warehouse that holds the right answer to them."""

    inputs: Path
    warehouse: Path

    def told(self, warehouse: Path, **more: Any) -> dict[str, Any]:
        """Describe a replay of these inputs."""
        return {"patterns": [str(self.inputs)], "warehouse": str(warehouse), **more}

    def assert_same(self, warehouse: Path) -> None:
        """Fail if the warehouse holds other rows."""
        assert_same(warehouse, self.warehouse)


@pytest.fixture(scope="session")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    """Make inputs, and the tables that one uninterrupted run gives."""
    return make_truth(tmp_path_factory.mktemp("truth"), SHAPE)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    """Make the same with fewer events, for tests that need no more than a few epochs."""
    return make_truth(tmp_path_factory.mktemp("small"), SMALL)


def make_truth(root: Path, shape: Shape) -> Truth:
    """Write inputs and replay them in one go."""
    write_inputs(root / "inputs", shape)
    made = Truth(root / "inputs", root / "warehouse")
    finish_job(made.told(made.warehouse, snapshot_ms=1_000, release_rows=2_000))
    return made
