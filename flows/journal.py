"""The log of a live job: one event a line, as text for people or as JSON for machines."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone

from clock import Clock, read_system_clock
from errors import JourneyError

Write = Callable[[str], object]
OWN = ("time", "level", "event")


class Journal:
    """Writes events as they happen, from any thread; `write` is given whole lines, `quiet` events are left out."""

    def __init__(
        self,
        write: Write | None = None,
        form: str = "text",
        clock: Clock = read_system_clock,
        quiet: Collection[str] = (),
    ) -> None:
        self.write, self.clock, self.quiet = write, clock, frozenset(quiet)
        self.format = format_json if form == "json" else format_text
        self.lock = threading.Lock()

    def say(self, event: str, level: str = "info", **fields: object) -> None:
        """Write an event with its fields; level: info, warning or error. Never fails: a log nobody can take is lost."""
        if self.write is None or event in self.quiet:
            return
        with self.lock:
            try:
                self.write(self.format(show_time(self.clock()), level, event, fields))
            except (OSError, ValueError):  # the other end was closed
                return

    def say_error(self, problem: JourneyError) -> None:
        """Write an error that ends the job."""
        self.say("error", "error", kind=type(problem).__name__, problem=problem.problem, remedy=problem.remedy)


def format_json(time: str, level: str, event: str, fields: dict[str, object]) -> str:
    """Write an event as one JSON object on one line; times in it are ISO 8601."""
    return json.dumps({"time": time, "level": level, "event": event, **fields}, default=_show, ensure_ascii=False)


def format_text(time: str, level: str, event: str, fields: dict[str, object]) -> str:
    """Write an event as a line of name=value; what is unknown is left out."""
    shown = (f"{name}={_quote(value)}" for name, value in fields.items() if value is not None and value != "")
    return " ".join([time, f"{level:<7}", event, *shown])


def show_time(moment: datetime) -> str:
    """Write a time as ISO 8601 in UTC, to the millisecond."""
    return moment.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _show(value: object) -> str:
    return show_time(value) if isinstance(value, datetime) else str(value)


def _quote(value: object) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    text = str(value).lower() if isinstance(value, bool) else _show(value)
    return json.dumps(text, ensure_ascii=False) if any(sign in text for sign in ' "=\n') else text


class _Handler(logging.Handler):
    """Puts what libraries log into the journal."""

    def __init__(self, journal: Journal) -> None:
        super().__init__(logging.WARNING)
        self.journal = journal

    def emit(self, record: logging.LogRecord) -> None:
        trace = logging.Formatter().formatException(record.exc_info) if record.exc_info else ""
        level = "warning" if record.levelno < logging.ERROR else "error"
        self.journal.say("library", level, logger=record.name, message=record.getMessage(), trace=trace)


@contextmanager
def take_library_logs(journal: Journal) -> Iterator[None]:
    """Let the journal have the warnings and errors that libraries log."""
    handler = _Handler(journal)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
