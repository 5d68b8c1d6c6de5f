"""`journeys parity`: compare a live job's warehouse with that of a replay."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import typer

from clock import to_us
from errors import UsageError
from flows.cli_common import AsJson, print_json, speak_out
from sinks.storage import Folders

THE_END = "end"


def parity(
    left: Annotated[Path, typer.Argument(metavar="LEFT", help="A warehouse: the live job's.", show_default=False)],
    right: Annotated[Path, typer.Argument(metavar="RIGHT", help="Another: the replay's.", show_default=False)],
    until: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help="Compare what had settled by this time; end: everything, settled or not.",
            show_default="what has settled",
        ),
    ] = "",
    strict: Annotated[bool, typer.Option("--strict", help="Names of files, topics and positions too.")] = False,
    rows: Annotated[int, typer.Option(min=0, metavar="N", help="Differing rows shown of each side and table.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Compare two warehouses table by table, row by row; exit 1 on a difference."""
    from maps.parity import SETTLED, compare_warehouses
    from maps.pictures import draw_parity

    moment = SETTLED if not until else None if until == THE_END else _read_time(until)
    report = compare_warehouses(Folders(left), Folders(right), moment, strict, rows)
    if as_json:
        print_json(report.to_json())
    else:
        out = speak_out()
        out.print(draw_parity(report))
        for table in report.tables:
            for line in table.describe():
                out.print(f"{table.table}: {line}", markup=False, soft_wrap=True)
        for note in report.notes:
            out.print(f"note: {note}", markup=False, soft_wrap=True)
        out.print("the same" if report.same else "NOT the same")
    if not report.same:
        raise typer.Exit(1)


def _read_time(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise UsageError(f"--until {text}: is not a time", remedy="for instance 2026-01-31T06:00:00Z, or end") from None
    return to_us(moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc))
