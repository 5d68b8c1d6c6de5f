"""[[sink]]: every key reaches its setting, and mistakes are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from config import TopicRules
from errors import ConfigError
from flows.settings import load_config
from tests.flows.test_settings import FULL, write


def test_every_key_of_a_sink_reaches_its_setting(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, FULL))
    assert config.sinks == (
        TopicRules(
            "crm",
            servers="localhost:9092",
            topic="journeys",
            tables=("sessions", "paths"),
            key="session_id",
            settings={"compression.type": "zstd"},
        ),
    )


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('name = "w"\ntables = ["session"]', r'sink\[0\].tables\[0\] = "session": should be one of .*\n.*"sessions"'),
        ('name = "w"\ntables = []', r"should be a list of at least 1 text"),
        ('name = "w"\nkey = "person"', r'sink\[0\].key = "person": should be one of .*\n.*"person_id"'),
        ('name = "w"\n[[sink]]\nname = "w"\nservers = "s"\ntopic = "t"', r"another sink has this name"),
        ('nome = "web"', r"unknown key"),
    ],
)
def test_mistakes_in_a_sink_are_told(tmp_path: Path, line: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load_config(write(tmp_path, f'[[sink]]\nservers = "s"\ntopic = "t"\n{line}\n'))
