"""Run the command line inside the test's process, or as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, Any, NamedTuple

import pytest

from flows.cli import main
from flows.cluster import LAUNCH

ROOT = Path(__file__).parents[2]
SHOP = ROOT / "data" / "examples" / "shop.toml"


class Ended(NamedTuple):
    """What a command left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    def read_json(self) -> Any:
        return json.loads(self.out)


class Commands:
    """Calls `journeys` with arguments, in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capfd = monkeypatch, capfd

    def __call__(self, *arguments: object) -> Ended:
        self.monkeypatch.setattr(sys, "argv", ["journeys", *map(str, arguments)])
        self.capfd.readouterr()
        try:
            main()
            code: object = 0
        except SystemExit as end:
            code = end.code or 0
        out, err = self.capfd.readouterr()
        assert isinstance(code, int)
        return Ended(code, out, err)


def start_command(*arguments: object, cwd: Path, log: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
    """Start `journeys` as a process of its own; `log`: where its standard error goes."""
    return subprocess.Popen(
        [sys.executable, "-c", LAUNCH, *map(str, arguments)],
        cwd=cwd,
        env=make_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if log is None else log,
    )


def make_environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}
