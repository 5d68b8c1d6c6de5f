"""The `journeys` command."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from errors import JourneyError
from flows.cli_generate import generate
from flows.cli_look import show, sql, status
from flows.cli_parity import parity
from flows.cli_replay import replay
from flows.cli_run import run
from flows.cli_upkeep import backfill, check, compact, forget
from flows.demo import demo

COMMANDS = (replay, run, demo, generate, sql, status, show, check, parity, compact, forget, backfill)

app = typer.Typer(
    name="journeys",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Customer journeys from event files: exactly-once Parquet tables that DuckDB queries.",
    epilog="Exit codes: 0 good, 1 a difference or a failure, 2 wrong use.",
)
for command in COMMANDS:
    app.command()(command)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"journeystream {version('journeystream')}")
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del show_version


def main() -> None:
    """Run the command line; an error a user can meet ends with its message and its exit code."""
    try:
        app(prog_name="journeys")
    except JourneyError as problem:
        sys.stderr.write(f"error: {problem}\n")
        sys.exit(problem.exit_code)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; what was committed stays, run the same command again to go on\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
