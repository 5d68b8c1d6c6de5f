"""The house rules hold for the project, and the scripts that check them find what breaks one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.check_imports import CORE, check_module, check_tree
from tools.check_sizes import check_file
from tools.check_sizes import check_tree as check_sizes

ROOT = Path(__file__).parents[1]


def test_the_project_keeps_the_import_rule() -> None:
    assert check_tree(ROOT) == []


def test_the_project_keeps_to_its_sizes() -> None:
    assert check_sizes(ROOT) == []


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("events/x.py", "import sinks.manifest", "events must not import sinks"),
        ("sources/x.py", "from operators.order import release", "sources must not import operators"),
        ("operators/x.py", "def f():\n    from flows import replay", "operators must not import flows"),
        ("maps/x.py", "from flows.replay import run_replay", "maps must not import flows"),
        ("maps/x.py", "from sinks.publishing import publish_durable", "maps only reads"),
        ("config.py", "import clock", "config must not import clock"),
        ("operators/order.py", "import bytewax", "bytewax is imported only in"),
        ("events/times.py", "import duckdb", "duckdb is imported only in"),
        ("flows/replay.py", "import pickle", "pickle is imported only in"),
        ("events/x.py", "from . import schema", "relative import"),
        ("flows/x.py", "import time\ntime.monotonic()", "time.monotonic outside clock.py"),
        ("flows/x.py", "from time import perf_counter", "time.perf_counter outside clock.py"),
        ("flows/x.py", "from datetime import datetime\ndatetime.now()", "datetime.now outside clock.py"),
        ("flows/x.py", "import datetime\ndatetime.datetime.utcnow()", "datetime.utcnow outside clock.py"),
        ("sinks/x.py", "assert 1", "assert outside tests"),
    ],
)
def test_what_breaks_the_import_rule_is_found(name: str, text: str, says: str) -> None:
    found = check_module(text, name)
    assert len(found) == 1
    assert says in found[0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("maps/x.py", "import duckdb\nfrom sinks.catalog import open_views\nfrom events.schema import TABLES"),
        ("flows/x.py", "import bytewax\nfrom maps.status import read_status\nimport time\ntime.sleep(1)"),
        ("operators/stream.py", "from bytewax.operators import StatefulBatchLogic"),
        ("clock.py", "import time\ntime.monotonic()"),
    ],
)
def test_what_keeps_the_import_rule_passes(name: str, text: str) -> None:
    assert check_module(text, name) == []


def test_what_is_too_large_is_found(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text("def f(a, b, c, d, e, f, g):\n" + "    a = 1\n" * 60 + "x = 1\n" * 300)
    found = "\n".join(check_file(path, "flows/x.py"))
    assert "361 lines, at most 350" in found
    assert "f has 60 lines, at most 45" in found
    assert "f has 7 parameters, at most 6" in found
    assert "parameters" not in "\n".join(check_file(path, "flows/cli_x.py"))


@pytest.mark.parametrize("script", ["check_imports.py", "check_sizes.py"])
def test_scripts_end_with_1_where_a_rule_is_broken(script: str, tmp_path: Path) -> None:
    for layer in ("events", "sources", "operators", "sinks", "maps", "flows"):
        (tmp_path / layer).mkdir()
    for module in CORE:
        (tmp_path / f"{module}.py").write_text("")
    command = [sys.executable, str(ROOT / "tools" / script), str(tmp_path)]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    (tmp_path / "events" / "x.py").write_text("import flows\n" + "x = 1\n" * 400)
    assert subprocess.run(command, check=False, capture_output=True).returncode == 1


@pytest.mark.parametrize("script", [".ci/run", "tools/setup.sh", "tools/get_brokers.sh"])
def test_scripts_can_be_executed_and_their_syntax_is_right(script: str) -> None:
    path = ROOT / script
    assert os.access(path, os.X_OK)
    shell = path.read_text(encoding="utf-8").splitlines()[0].split("/")[-1].split()[-1]
    assert subprocess.run([shell, "-n", str(path)], check=False).returncode == 0


@pytest.mark.parametrize("version", ["3.9", "3.13"])
def test_setup_refuses_a_python_that_does_not_suit(version: str, tmp_path: Path) -> None:
    fake = tmp_path / "python"
    # Passes as any Python but for its version: it exits with 1 when asked whether it suits.
    fake.write_text(f'#!/bin/sh\ncase "$2" in *SystemExit*) exit 1;; *) echo {version}.1;; esac\n')
    fake.chmod(0o755)
    environment = {**os.environ, "PYTHON": str(fake)}
    ended = subprocess.run(
        [str(ROOT / "tools" / "setup.sh"), "find"], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert f"is {version}.1" in ended.stderr
    assert "3.10, 3.11 or 3.12" in ended.stderr
