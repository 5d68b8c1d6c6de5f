"""`journeys sql`, `status` and `show`: what a warehouse holds."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from errors import UsageError
from flows.cli_common import DEFAULT_WAREHOUSE, AsJson, Warehouse, print_json, speak_out
from flows.demo import print_pictures
from maps.pictures import draw_ledger, draw_status
from maps.shell import Answer
from maps.status import check_warehouse_exists, read_status
from sinks.storage import Folders

READ_ALOUD = "-"


def sql(
    query: Annotated[
        str, typer.Argument(metavar="QUERY", help="One SELECT; - reads it from standard input.", show_default=False)
    ],
    warehouse: Warehouse = DEFAULT_WAREHOUSE,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a header.")] = False,
) -> None:
    """Ask the warehouse in SQL, read only; `SHOW TABLES` lists the views."""
    if as_json and as_csv:
        raise UsageError("--json and --csv exclude each other", remedy="leave one of them away")
    with Answer(Folders(warehouse), sys.stdin.read() if query == READ_ALOUD else query) as answer:
        if as_json:
            answer.write_json(sys.stdout)
        elif as_csv:
            answer.write_csv(sys.stdout)
        else:
            answer.show(speak_out().width)


def status(warehouse: Warehouse = DEFAULT_WAREHOUSE, as_json: AsJson = False) -> None:
    """Tell what the warehouse holds, how far the job has come, and what became of every record."""
    found = read_status(Folders(warehouse))
    if as_json:
        print_json(found.to_dict())
        return
    out = speak_out()
    for part in draw_status(found):
        out.print(part)
    out.print(draw_ledger(found.ledger, found.total))


def show(warehouse: Warehouse = DEFAULT_WAREHOUSE) -> None:
    """Draw what was found: sessions by day, funnels, top paths, transitions and the ledger."""
    folders = Folders(warehouse)
    check_warehouse_exists(folders)
    print_pictures(folders, speak_out())
