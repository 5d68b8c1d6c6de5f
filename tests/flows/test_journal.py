"""The log: one event a line that a machine can read, or a person; and no error of the log ends the job."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timezone
from typing import Any

import pytest

from errors import ConfigError
from flows.journal import Journal, take_library_logs

NOON = datetime(2026, 1, 5, 12, 0, 0, 123456, tzinfo=timezone.utc)


def make(form: str, quiet: tuple[str, ...] = ()) -> tuple[Journal, list[str]]:
    lines: list[str] = []
    return Journal(lines.append, form, lambda: NOON, quiet), lines


def test_json_has_time_level_event_and_the_fields_as_they_are() -> None:
    journal, lines = make("json")
    journal.say("progress", records=7, lag=None, watermark=NOON, text='a "b"\nü', names=["x", "y"])
    (line,) = lines
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2026-01-05T12:00:00.123Z",
        "level": "info",
        "event": "progress",
        "records": 7,
        "lag": None,
        "watermark": "2026-01-05T12:00:00.123Z",
        "text": 'a "b"\nü',
        "names": ["x", "y"],
    }


def test_text_is_one_line_too_and_leaves_out_what_is_unknown() -> None:
    journal, lines = make("text")
    journal.say("idle", "warning", partition="s/t/0", lag=None, why="a b\nc", late=True, names=["x", "y"], empty="")
    assert lines == ['2026-01-05T12:00:00.123Z warning idle partition=s/t/0 why="a b\\nc" late=true names=x,y']


def test_error_carries_its_kind_and_its_remedy() -> None:
    journal, lines = make("json")
    journal.say_error(ConfigError("it is wrong", remedy="make it right"))
    told: dict[str, Any] = json.loads(lines[0])
    del told["time"]
    assert told == {
        "level": "error",
        "event": "error",
        "kind": "ConfigError",
        "problem": "it is wrong",
        "remedy": "make it right",
    }


def test_quiet_events_are_left_out() -> None:
    journal, lines = make("text", quiet=("progress",))
    journal.say("progress")
    journal.say("stop")
    assert [line.split()[2] for line in lines] == ["stop"]


@pytest.mark.parametrize("problem", [BrokenPipeError(), ValueError("I/O operation on closed file")])
def test_log_that_nobody_takes_is_lost_and_fails_nothing(problem: Exception) -> None:
    def write(_: str) -> None:
        raise problem

    Journal(write).say("stop")


def test_warnings_of_libraries_become_events_and_their_chatter_does_not() -> None:
    journal, lines = make("json")
    with take_library_logs(journal):
        logging.getLogger("some.library").info("chatter")
        logging.getLogger("some.library").warning("look at %s", "this")
        try:
            {}["gone"]
        except KeyError:
            logging.getLogger("some.library").exception("it failed")
    logging.getLogger("some.library").warning("after the end")
    first, second = map(json.loads, lines)
    assert (first["event"], first["level"], first["logger"]) == ("library", "warning", "some.library")
    assert first["message"] == "look at this"
    assert second["level"] == "error"
    assert "KeyError: 'gone'" in second["trace"]
