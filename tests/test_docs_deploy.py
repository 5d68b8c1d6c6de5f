"""docs/deploy.md and deploy/ against the code: metrics, events, and commands that the command line takes."""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from clock import read_system_clock
from config import Config, ServeRules
from flows.cli import app
from flows.journal import Journal
from flows.metrics import JobCollector
from flows.monitor import Monitor

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
UNIT = (ROOT / "deploy" / "journeystream.service").read_text(encoding="utf-8")
CONTAINER = (ROOT / "deploy" / "Containerfile").read_text(encoding="utf-8")
PROGRAM = "/opt/journeystream/.venv/bin/journeys"


def read_instruction(name: str) -> str:
    """Return what stands behind an instruction of the Containerfile that is there once."""
    (found,) = re.findall(rf"^{name} (.+)$", CONTAINER, re.MULTILINE)
    return str(found)


def parse(arguments: list[str]) -> dict[str, Any]:
    """Let the command line read arguments, and run nothing."""
    group: Any = typer.main.get_command(app)
    return dict(group.commands[arguments[0]].make_context(arguments[0], arguments[1:]).params)


def test_documented_metrics_are_the_real_ones() -> None:
    monitor = Monitor(Config(), Journal(), read_system_clock)
    monitor.durable_at = monitor.committed_at = monitor.started_at
    counters = {"counter": "_total"}
    real = {metric.name + counters.get(metric.type, "") for metric in JobCollector(monitor).collect()}
    rows = [line for line in PAGE.splitlines() if line.startswith("| `journeys_")]
    assert {name for row in rows for name in re.findall(r"`(journeys_\w+)`", row)} == real


def test_documented_events_are_those_that_are_said() -> None:
    said = set()
    for path in (ROOT / "flows").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "say":
                parts = ast.walk(node.args[0])
                said |= {part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)}
    table = PAGE[PAGE.index("| event |") : PAGE.index("## Small files")]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == said


def test_service_starts_a_command_that_exists_and_stops_it_as_it_wants_to_be_stopped() -> None:
    settings = dict(re.findall(r"^(\w+)=(.*)$", UNIT, re.MULTILINE))
    program, *arguments = shlex.split(settings["ExecStart"])
    assert program == PROGRAM
    options = parse(arguments)
    assert (options["log"], options["listen"]) == ("json", "127.0.0.1:9600")
    assert options["warehouse"].is_relative_to(settings["WorkingDirectory"])
    assert settings["WorkingDirectory"] == f"/var/lib/{settings['StateDirectory']}"
    assert (settings["KillSignal"], settings["Restart"]) == ("SIGTERM", "on-failure")


def test_systemd_finds_nothing_wrong_with_the_service(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here")
    unit = tmp_path / "journeystream.service"
    unit.write_text(UNIT.replace(PROGRAM, "/bin/true"), encoding="utf-8")
    ended = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    if "Failed to" in ended.stderr and "journeystream.service" not in ended.stderr:
        pytest.skip(f"systemd-analyze does not work here: {ended.stderr.strip()}")
    assert (ended.returncode, ended.stderr) == (0, "")


def test_container_holds_every_module_and_what_it_copies_exists() -> None:
    copied = {name for line in re.findall(r"^COPY (.+)$", CONTAINER, re.MULTILINE) for name in line.split()[:-1]}
    assert [name for name in copied if not (ROOT / name).exists()] == []
    built = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert {name.split(".")[0] for name in built["packages"]} <= copied
    assert {f"{name}.py" for name in built["py-modules"]} <= copied
    assert {"pyproject.toml", "constraints.txt"} <= copied
    assert "--constraint constraints.txt" in CONTAINER


def test_container_runs_a_command_that_exists_as_a_user_without_rights() -> None:
    assert json.loads(read_instruction("ENTRYPOINT")) == ["journeys"]
    options = parse(json.loads(read_instruction("CMD")))
    assert options["warehouse"].is_relative_to(read_instruction("VOLUME"))
    assert options["listen"].endswith(f":{read_instruction('EXPOSE')}")
    assert read_instruction("USER") == "journeys"
    assert read_instruction("STOPSIGNAL") == "SIGTERM"


def test_containers_health_check_passes_for_a_job_that_is_well_and_fails_for_one_that_is_not() -> None:
    command = json.loads(read_instruction("HEALTHCHECK").partition(" CMD ")[2])
    config = Config(serve=ServeRules("127.0.0.1:0"))
    with Monitor(config, Journal(), read_system_clock) as monitor:
        assert monitor.server is not None
        here = [part.replace("127.0.0.1:9600", f"127.0.0.1:{monitor.server.port}") for part in command[1:]]
        assert here != command[1:]
        assert subprocess.run([sys.executable, *here], check=False).returncode == 0
        monitor.ended = "failed"
        monitor.problem = "on purpose"
        assert subprocess.run([sys.executable, *here], capture_output=True, check=False).returncode == 1
