"""`journeys check`, `compact`, `forget` and `backfill`: keep a warehouse right and in shape."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from flows.cli_common import (
    DEFAULT_WAREHOUSE,
    AsJson,
    ConfigFile,
    Recovery,
    Warehouse,
    find_config,
    print_json,
    speak_out,
)
from maps.status import check_warehouse_exists
from sinks.storage import Folders

if TYPE_CHECKING:
    from maps.check_report import Finding


class Report(Protocol):
    """What a command hands back: words for people, values for JSON."""

    def to_json(self) -> dict[str, Any]: ...


def check(warehouse: Warehouse = DEFAULT_WAREHOUSE, as_json: AsJson = False) -> None:
    """Recompute sessions, transitions, paths and funnels from the events, and the ledger; exit 1 on a difference."""
    from maps.check import check_warehouse

    found = check_warehouse(_open(warehouse))
    if as_json:
        print_json(found.to_json())
    else:
        out = speak_out()
        for finding in found.findings:
            out.print(_tell_finding(finding), markup=False, soft_wrap=True)
        out.print(f"version {found.version}, epoch {found.epoch}: {'all agree' if found.ok else 'NOT right'}")
    if not found.ok:
        raise typer.Exit(1)


def compact(
    warehouse: Warehouse = DEFAULT_WAREHOUSE,
    small: Annotated[
        int | None,
        typer.Option(min=0, metavar="BYTES", help="Files smaller than this are merged.", show_default="64 MiB"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Merge small data files; safe beside a running job and readers."""
    from sinks.compaction import compact as compact_folders

    folders = _open(warehouse)
    _tell(compact_folders(folders) if small is None else compact_folders(folders, small_bytes=small), as_json)


def forget(
    person: Annotated[str, typer.Argument(metavar="PERSON", help="Id of the person.", show_default=False)],
    warehouse: Warehouse = DEFAULT_WAREHOUSE,
    recovery: Recovery = None,
    as_json: AsJson = False,
) -> None:
    """Remove a person's rows from every table and file, and print a receipt."""
    from flows.forgetting import forget_person

    receipt = forget_person(_open(warehouse), person, store=recovery)
    _tell(receipt, as_json)
    if not receipt.verified:
        raise typer.Exit(1)


def backfill(
    config: ConfigFile = None,
    warehouse: Warehouse = DEFAULT_WAREHOUSE,
    recovery: Recovery = None,
    as_json: AsJson = False,
) -> None:
    """Recompute the funnels from the events for a changed config."""
    from flows.backfill import backfill_funnels
    from flows.settings import load_config

    _tell(backfill_funnels(_open(warehouse), load_config(find_config(config)), store=recovery), as_json)


def _open(warehouse: Path) -> Folders:
    folders = Folders(warehouse)
    check_warehouse_exists(folders)
    return folders


def _tell(report: Report, as_json: bool) -> None:
    if as_json:
        print_json(report.to_json())
    else:
        speak_out().print(str(report), markup=False, soft_wrap=True)


def _tell_finding(finding: Finding) -> str:
    if finding.ok:
        return f"ok      {finding.name}"
    about = [finding.note] if finding.note else []
    details = [f"        {line}" for line in (*about, *finding.examples)]
    return "\n".join([f"DIFFERS {finding.name}: {finding.differing:,} rows", *details])
