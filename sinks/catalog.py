"""`journeys.duckdb`: a file of views over one manifest, replaced whole at every commit."""

from __future__ import annotations

import os
import threading
from typing import Any

import duckdb

from config import FunnelRules
from errors import WarehouseError
from sinks.manifest import Manifest, read_manifest
from sinks.storage import Folders, pass_point, read_json
from sinks.views import Declared, build_views

READABLE = {"storage_compatibility_version": "v1.0.0"}  # clients of DuckDB 1 open the catalog too


def read_declared(folders: Folders) -> Declared:
    """Read the declared stages and funnels that the warehouse's metadata hold."""
    path = folders.inner / "warehouse.json"
    body: dict[str, Any] = read_json(path) if path.exists() else {}
    funnels = [FunnelRules(**rules) for rules in body.get("funnel_rules", [])]
    return Declared(body.get("stages", {}), funnels)


def create_views(connection: duckdb.DuckDBPyConnection, folders: Folders, manifest: Manifest) -> None:
    """Create every view of one manifest on a connection; paths in them are absolute."""
    connection.execute("BEGIN")
    for name, select in build_views(folders.root.resolve(), manifest, read_declared(folders)).items():
        connection.execute(f'CREATE OR REPLACE VIEW "{name}" AS {select}')
    connection.execute("COMMIT")


def write_catalog(folders: Folders, manifest: Manifest) -> None:
    """Replace `journeys.duckdb`: who has the old one open goes on reading the old epoch, whole.

    The caller holds the publish lock, so that no older catalog can take the place of a newer one.
    """
    beside = folders.inner / f"catalog-{os.getpid()}-{threading.get_ident()}.duckdb"
    beside.unlink(missing_ok=True)
    pass_point("before_catalog")
    try:
        with duckdb.connect(str(beside), config={"threads": 1, **READABLE}) as connection:
            create_views(connection, folders, manifest)
            connection.execute("CHECKPOINT")
    except duckdb.Error as problem:
        raise WarehouseError(
            f"{folders.catalog}: can't be written ({problem})",
            remedy="give it space and permission, then run the same command again: it goes on at the last commit",
        ) from problem
    pass_point("before_catalog_rename")
    os.replace(beside, folders.catalog)
    pass_point("after_catalog")
    # A log that a client left beside the old catalog does not belong to the new one.
    folders.catalog.with_name(folders.catalog.name + ".wal").unlink(missing_ok=True)


def open_views(folders: Folders, *, threads: int = 0) -> tuple[duckdb.DuckDBPyConnection, Manifest]:
    """Open an in-memory DuckDB with the views of the newest manifest, wherever the folder was moved to."""
    manifest = read_manifest(folders)
    connection = duckdb.connect(config={"threads": threads} if threads else {})
    create_views(connection, folders, manifest)
    return connection, manifest
