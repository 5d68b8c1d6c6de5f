"""`journeys replay`: event files into a warehouse, in this process or in several."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from clock import read_stopwatch
from config import Config
from errors import JourneyError, UsageError
from events.formats.registry import reads_tabs
from flows.cli_common import (
    DEFAULT_WAREHOUSE,
    AsJson,
    ConfigFile,
    Recovery,
    Warehouse,
    find_config,
    print_json,
    speak_aside,
    speak_out,
)
from flows.cluster import Cluster, StopFile, report_to_parent, say_to_parent, wait_for_members
from flows.progress import ReplayProgress
from flows.replay import ReplayOptions, ReplayResult, Start, run_replay
from flows.settings import load_config
from maps.pictures import draw_ledger
from maps.status import WarehouseStatus, read_status
from sinks.manifest import Manifest
from sinks.storage import Folders
from sources.discover import STDIN, find_files
from sources.pacing import Progress

LANES = ("auto", "each", "one")


def replay(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILES...", help="Files, folders or globs; - is standard input.", show_default=False),
    ],
    config: ConfigFile = None,
    warehouse: Warehouse = DEFAULT_WAREHOUSE,
    workers: Annotated[int, typer.Option(min=1, metavar="N", help="Threads of each process.")] = 1,
    processes: Annotated[int, typer.Option(min=1, metavar="P", help="Processes on this machine.")] = 1,
    recovery: Recovery = None,
    no_recovery: Annotated[
        bool, typer.Option("--no-recovery", help="Run without recovery: a run that breaks off begins anew.")
    ] = False,
    lanes: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(LANES),
            help="Which files follow one another as one partition: by their times, none, or all.",
            show_default="the config's, else auto",
        ),
    ] = None,
    as_json: AsJson = False,
    process: Annotated[int, typer.Option(hidden=True)] = 0,
    addresses: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Read event files into the warehouse, going on where an earlier run stopped."""
    check_use(files, processes, recovery, no_recovery, lanes)
    settings = load_config(find_config(config), {"input.lanes": lanes})
    options = ReplayOptions(
        tuple(files),
        warehouse,
        workers=workers,
        recovery=recovery,
        use_recovery=not no_recovery,
        addresses=tuple(address for address in addresses.split(",") if address),
        process=process,
    )
    find_files(files, reads_tabs(settings.input.format))  # what is missing is said before a warehouse is made
    if process > 0:
        run_member(options, settings)
        return
    remarks = speak_aside()
    if find_config(config) is None:
        remarks.print("no journey.toml here: Segment's format and no funnels; see docs/config.md", style="dim")
    began = read_stopwatch()
    result = run_first(options, settings, processes, _repeat_arguments(options, config, lanes))
    report(result, warehouse, read_stopwatch() - began, as_json)


def check_use(
    files: Sequence[str], processes: int, recovery: Path | None, no_recovery: bool, lanes: str | None
) -> None:
    """Raise UsageError for options that do not go together."""
    if lanes is not None and lanes not in LANES:
        raise UsageError(f"--lanes {lanes}: should be one of {', '.join(LANES)}")
    if no_recovery and recovery is not None:
        raise UsageError("--recovery and --no-recovery exclude each other", remedy="leave one of them away")
    if processes > 1 and no_recovery:
        raise UsageError("--processes needs the recovery store", remedy="leave --no-recovery away, or use --workers")
    if processes > 1 and STDIN in files:
        raise UsageError("several processes can't share standard input", remedy="use --workers, or name files")


def _repeat_arguments(options: ReplayOptions, config: Path | None, lanes: str | None) -> list[str]:
    """Write the command again for the further processes of a cluster."""
    given = {"--config": config, "--recovery": options.recovery, "--lanes": lanes}
    arguments = ["--warehouse", str(options.warehouse), "--workers", str(options.workers)]
    for name, value in given.items():
        if value is not None:
            arguments += [name, str(value)]
    return [*arguments, "--", *options.patterns]


def run_first(options: ReplayOptions, settings: Config, processes: int, arguments: list[str]) -> ReplayResult:
    """Run a replay as its only or first process, with its progress on standard error."""
    wait_for_members(Folders(options.warehouse).inner)
    cluster = Cluster(Folders(options.warehouse).inner, processes, arguments) if processes > 1 else None
    with ReplayProgress(speak_aside()) as shown, cluster or nullcontext():

        def start(start: Start) -> None:
            shown.start(start)
            if cluster is not None:
                cluster.start()

        def watch(progress: Progress, manifest: Manifest) -> None:
            shown.watch(cluster.add_up(progress) if cluster is not None else progress, manifest)

        options = replace(options, on_start=start)
        if cluster is not None:
            options = replace(options, addresses=cluster.addresses, stop=cluster.stop)
        return run_replay(options, settings, watch)


def run_member(options: ReplayOptions, settings: Config) -> None:
    """Run a further process of a cluster; what it has to say goes to the first one."""
    stop = StopFile(Folders(options.warehouse).inner / "stop")
    try:
        run_replay(replace(options, stop=stop), settings, report_to_parent())
    except JourneyError as problem:
        say_to_parent({"error": problem.problem})
        raise typer.Exit(problem.exit_code) from problem


def report(result: ReplayResult, warehouse: Path, seconds: float, as_json: bool) -> None:
    """Say how a replay ended, what the warehouse holds now, and how to go on."""
    status = read_status(Folders(warehouse))
    if as_json:
        print_json(describe_result(result, status, seconds))
        return
    out = speak_out()
    for note in result.notes:
        out.print(f"note: {escape(note)}")
    out.print(f"[bold]{_tell_outcome(result, status, seconds)}[/]")
    out.print(draw_ledger(status.ledger, status.total))
    out.print()
    if result.outcome == "stopped":
        out.print(f"To go on from here, give the same command again:\n  {escape(_quote_command())}")
    else:
        _show_next(out, warehouse)


def _tell_outcome(result: ReplayResult, status: WarehouseStatus, seconds: float) -> str:
    counts = f"{status.rows('sessions'):,} sessions of {status.rows('events'):,} events"
    lanes = f"{len(status.lanes)} lane{'s' if len(status.lanes) != 1 else ''}"
    if result.outcome == "nothing_to_do":
        return f"Nothing to do: all of these files are in {status.warehouse} already. It holds {counts}."
    if result.outcome == "stopped":
        return f"Stopped at an epoch after {seconds:.1f} s; {status.warehouse} holds {counts} so far."
    return f"Finished in {seconds:.1f} s: {counts}, from {lanes}, in {status.warehouse}."


def _show_next(out: Console, warehouse: Path) -> None:
    option = "" if warehouse == DEFAULT_WAREHOUSE else f" --warehouse {warehouse}"
    out.print("Ask it something:")
    out.print(f'  journeys sql "FROM funnel_conversion"{option}', markup=False)
    out.print(f"  journeys check{option}", markup=False)
    out.print(f"  duckdb {warehouse}/journeys.duckdb", markup=False)


def describe_result(result: ReplayResult, status: WarehouseStatus, seconds: float) -> dict[str, Any]:
    """Return how a replay ended as values for JSON."""
    return {
        "outcome": result.outcome,
        "seconds": round(seconds, 3),
        "events": status.rows("events"),
        "sessions": status.rows("sessions"),
        "notes": result.notes,
        **status.to_dict(),
    }


def _quote_command() -> str:
    return shlex.join(["journeys", *sys.argv[1:]])
