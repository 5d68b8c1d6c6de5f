"""`journeys run`."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Annotated

import typer
from rich.console import Console

from errors import JourneyError
from flows.cli_common import DEFAULT_WAREHOUSE, ConfigFile, Recovery, Warehouse, find_config, speak_aside, speak_out
from flows.journal import Journal, take_library_logs
from flows.settings import load_config
from maps.status import read_status
from sinks.storage import Folders


def run(
    config: ConfigFile = None,
    warehouse: Warehouse = DEFAULT_WAREHOUSE,
    workers: Annotated[int, typer.Option(min=1, metavar="N", help="Threads of the process.")] = 1,
    recovery: Recovery = None,
    listen: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Answer /metrics, /health and /ready here.",
            show_default="the config's, else nowhere",
        ),
    ] = None,
    log: Annotated[
        str | None,
        typer.Option(
            metavar="text|json",
            help="How the log on standard error is written.",
            show_default="the config's, else text",
        ),
    ] = None,
) -> None:
    """Consume the brokers of journey.toml into the warehouse until Ctrl-C or SIGTERM."""
    from flows.live import LiveOptions, run_live
    from flows.progress import ReplayProgress

    console = speak_aside()
    with logging_to(console, log) as journal:
        settings = load_config(find_config(config), {"serve.listen": listen, "log.format": log})
    with logging_to(console, settings.log.format) as journal:
        options = LiveOptions(warehouse, workers=workers, recovery=recovery, journal=journal)
        shows = console.is_terminal and settings.log.format == "text"
        with ReplayProgress(console) if shows else nullcontext() as shown:
            run_live(options, settings, shown.watch if shown is not None else None)
    if settings.log.format == "text":
        status = read_status(Folders(warehouse))
        speak_out().print(
            f"Stopped at an epoch; {warehouse} holds {status.rows('sessions'):,} sessions of"
            f" {status.rows('events'):,} events so far. Give the same command again to go on."
        )


@contextmanager
def logging_to(console: Console, form: str | None) -> Iterator[Journal]:
    """Make the log; where it is JSON, what ends the command is an event too, and the exit code stays the same."""
    journal = make_journal(console, form)
    with take_library_logs(journal):
        try:
            yield journal
        except (Exception, KeyboardInterrupt) as problem:
            if form != "json" or isinstance(problem, typer.Exit):
                raise
            if isinstance(problem, JourneyError):
                journal.say_error(problem)
                raise typer.Exit(problem.exit_code) from problem
            if isinstance(problem, KeyboardInterrupt):
                journal.say("interrupted", "warning")
            else:
                journal.say("crash", "error", problem=repr(problem), trace=traceback.format_exc())
            raise typer.Exit(1) from problem


def make_journal(console: Console, form: str | None) -> Journal:
    """Make the log on standard error; on a terminal, where the figures stand in a line of their own, without them."""
    if form != "json" and console.is_terminal:
        return Journal(
            lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True), quiet=["progress"]
        )

    def write(line: str) -> None:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()

    return Journal(write, form or "text")
