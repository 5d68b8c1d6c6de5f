"""`journeys check`: is the warehouse right? Everything is computed once more from `events` and compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import duckdb

from config import FunnelRules, SessionRules
from errors import FormatError, WarehouseError
from maps.check_counts import check_paths, check_transitions
from maps.check_files import check_files
from maps.check_funnels import check_funnels
from maps.check_ledger import check_ledger, check_sums
from maps.check_report import CheckReport, Finding
from maps.check_sessions import check_events, check_sessions, rebuild_sessions
from maps.check_work import Work, read_allowance
from maps.scratch import open_scratch
from sinks.catalog import create_views
from sinks.manifest import Manifest, read_manifest
from sinks.storage import Folders, read_json

__all__ = ["CheckReport", "Finding", "check_warehouse"]


@dataclass(frozen=True)
class _Settings:
    """What the warehouse's metadata say about how its numbers were made."""

    sessions: SessionRules
    funnels: tuple[FunnelRules, ...]
    unfinished: bool


def check_warehouse(folders: Folders) -> CheckReport:
    """Recompute the newest manifest's tables from `events` in DuckDB and compare them row by row.

    Also the ledger, the sums that must agree, and the data files themselves. Safe beside a running job; raises
    WarehouseError where there is nothing to check.
    """
    manifest = read_manifest(folders) if folders.manifests.exists() else Manifest()
    if not manifest.version:
        raise WarehouseError(f"{folders.root}: holds no tables", remedy="name the --warehouse that a replay wrote")
    settings = _read_settings(folders)
    files = check_files(folders, manifest)
    if files.is_unreadable:
        return CheckReport(manifest.version, manifest.epoch, bool(manifest.complete), (files.finding,))
    with open_scratch() as connection:
        _show(connection, folders, manifest)
        work = Work(connection, settings.sessions, bool(manifest.complete), read_allowance(manifest))
        findings = (files.finding, *_run(work, settings))
    return CheckReport(manifest.version, manifest.epoch, bool(manifest.complete), findings)


def _show(connection: duckdb.DuckDBPyConnection, folders: Folders, manifest: Manifest) -> None:
    create_views(connection, folders, manifest)
    # Tables of the recomputation have a schema of their own, as views may bear the same names.
    connection.execute("CREATE SCHEMA recomputed")
    connection.execute("SET search_path = 'recomputed,main'")


def _run(work: Work, settings: _Settings) -> list[Finding]:
    rebuild_sessions(work)
    findings = [*check_events(work), *check_sessions(work), check_transitions(work), *check_paths(work)]
    if settings.unfinished:
        note = "a backfill was interrupted: run `journeys backfill` again"
        findings.append(Finding("funnel_steps", False, 0, (), note))
    else:
        findings += check_funnels(work, settings.funnels)
    return [*findings, *check_ledger(work), check_sums(work)]


def _read_settings(folders: Folders) -> _Settings:
    body: dict[str, Any] = read_json(folders.inner / "warehouse.json")
    try:
        funnels = tuple(FunnelRules(**{**rules, "steps": tuple(rules["steps"])}) for rules in body["funnel_rules"])
        return _Settings(SessionRules(**body["sessions"]), funnels, bool(body.get("backfill")))
    except (KeyError, TypeError) as problem:
        raise FormatError(
            f"{folders.inner / 'warehouse.json'}: is damaged ({problem})", remedy="replay into a new warehouse"
        ) from problem
