"""`journeys run` before it reads anything: wrong options and settings, and how they end where the log is JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer

from flows.cli_common import speak_aside
from flows.cli_run import logging_to
from serving import bind
from tests.support.commanding import Commands

SOURCE = '[[source]]\nname = "s0"\nservers = "127.0.0.1:1"\ntopics = ["t"]\n'


@pytest.fixture
def journeys(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Commands:
    monkeypatch.chdir(tmp_path)
    return Commands(monkeypatch, capfd)


def test_port_that_is_taken_is_told_before_anything_is_made(journeys: Commands, tmp_path: Path) -> None:
    (tmp_path / "journey.toml").write_text(SOURCE)
    with bind("127.0.0.1", 0) as taken:
        ended = journeys("run", "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert ended.code == 2
    assert "can't be listened on" in ended.err
    assert "→ name a free port" in ended.err
    assert not (tmp_path / "warehouse").exists()


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--listen", "9600", 'did you mean "127.0.0.1:9600"?'),
        ("--log", "jsn", 'did you mean "json"?'),
        ("--config", "nowhere.toml", "nowhere.toml: there is no such file"),
    ],
)
def test_wrong_option_ends_with_2_and_what_was_meant(journeys: Commands, option: str, value: str, says: str) -> None:
    ended = journeys("run", option, value)
    assert ended.code == 2
    assert says in ended.err


@pytest.mark.parametrize("config", ["", '[sessions]\ngap = "30min"\n'])
def test_mistake_is_one_json_event_where_the_log_is_json(journeys: Commands, tmp_path: Path, config: str) -> None:
    (tmp_path / "journey.toml").write_text(config)
    ended = journeys("run", "--log", "json")
    assert (ended.code, ended.out) == (2, "")
    (line,) = ended.err.splitlines()
    told = json.loads(line)
    assert (told["event"], told["level"], told["kind"]) == ("error", "error", "ConfigError")
    assert told["remedy"]


def test_crash_is_one_json_event_too_and_is_not_hidden_in_text(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, logging_to(speak_aside(), "json"):
        {}["gone"]
    assert ended.value.exit_code == 1
    told = json.loads(capfd.readouterr().err)
    assert (told["event"], told["problem"]) == ("crash", "KeyError('gone')")
    assert "test_cli_run.py" in told["trace"]
    with pytest.raises(KeyError), logging_to(speak_aside(), "text"):
        {}["gone"]
