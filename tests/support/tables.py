"""Tables as they are written, brought into the form of the oracle, and compared with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import polars as pl

from events.schema import TABLES, Schema
from sinks.catalog import open_views
from sinks.manifest import read_manifest
from sinks.storage import Folders
from tests.oracle.oracle import OUTPUTS

Frames = dict[str, pl.DataFrame]
KEYS = {
    "events": ["source_partition", "source_position"],
    "sessions": ["person_id", "started_at", "first_event_id"],
    "transitions": ["hour", "channel", "from_step", "to_step"],
    "paths": ["dt", "steps"],
    "late": ["source_partition", "source_position"],
    "ledger": ["source_partition"],
}
SUMMED = {
    "paths": ["sessions", "events", "micros"],
    "ledger": ["received", "accepted", "duplicate", "late"],
}
SECONDS = ("duration_s", "total_seconds", "seconds_from_entry", "seconds_from_previous")
US = pl.col("total_seconds").mul(1e6).round().cast(pl.Int64).alias("micros")


def read_warehouse(root: Path) -> Frames:
    """Read the rows of every table that the newest manifest names, with `dt`; additive tables as they lie there."""
    manifest = read_manifest(Folders(root))
    tables = {}
    for table, schema in TABLES.items():
        parts = [
            pl.read_parquet(root / file.path, hive_partitioning=False).with_columns(
                pl.lit(file.dt).str.to_date().alias("dt")
            )
            for file in manifest.visible(table)
        ]
        tables[table] = fill_columns(parts, schema)
    return tables


def read_views(root: Path, names: Iterable[str] = tuple(TABLES)) -> Frames:
    """Read views as a DuckDB client sees them, additive tables summed; times come as UTC microseconds."""
    connection, _ = open_views(Folders(root), threads=1)
    with connection:
        connection.execute("SET TimeZone = 'UTC'")
        return {name: pl.DataFrame(connection.sql(f'SELECT * FROM "{name}"').to_arrow_table()) for name in names}


def fill_columns(parts: list[pl.DataFrame], schema: Schema) -> pl.DataFrame:
    """Join frames that may lack columns or hold categories for text; the result is of `schema`, and `dt`."""
    empty = pl.DataFrame(schema={**schema, "dt": pl.Date})
    texts = [part.with_columns(pl.col(pl.Categorical).cast(pl.String)) for part in parts]
    return pl.concat([empty, *texts], how="diagonal").select(empty.columns)


def to_oracle_form(tables: Mapping[str, pl.DataFrame]) -> Frames:
    """Bring rows of the tables (or views) into the columns, types and order of `compute_tables`.

    Ids are hashes: a session's is replaced by its start and first event, and must name one session only.
    `duplicates` has no table, and attempts are compared by `collect_attempts`.
    """
    events = _to_micros(tables["events"])
    firsts = events.filter(pl.col("session_index") == 0).select(
        "session_id", pl.col("event_time").alias("started_at"), pl.col("event_id").alias("first_event_id")
    )
    assert not firsts["session_id"].is_duplicated().any(), "two sessions have one id"
    named = events.join(firsts, on="session_id", how="left")
    sessions = _to_micros(tables["sessions"]).join(
        firsts.drop("started_at"), on="session_id", how="left", maintain_order="left"
    )
    ledger = tables["ledger"].group_by("source_partition").agg(pl.col(SUMMED["ledger"]).sum())
    found = {
        "events": named,
        "sessions": sessions,
        "transitions": _sum_transitions(_to_micros(tables["transitions"])),
        "paths": _sum_paths(tables["paths"]),
        "late": _to_micros(tables["late_events"]),
        "ledger": ledger.filter(pl.col("received") > 0),
    }
    return {name: _settle(frame, name) for name, frame in found.items()}


def collect_attempts(steps: pl.DataFrame, key: list[str]) -> Counter[tuple[object, ...]]:
    """Count attempts by everything in their rows but the id; `key`: the columns that name an attempt."""
    columns = [name for name in (*TABLES["funnel_steps"], "dt") if name != "attempt_id"]
    assert not steps.select(*key, "step_index").is_duplicated().any(), "an attempt takes a step twice"
    rows: dict[tuple[object, ...], list[tuple[object, ...]]] = {}
    ordered = _to_micros(steps).sort("step_index")
    for name, row in zip(ordered.select(key).rows(), _round_seconds(ordered.select(columns)).rows(), strict=True):
        rows.setdefault(name, []).append(row)
    return Counter(tuple(attempt) for attempt in rows.values())


def assert_equal_to_oracle(tables: Mapping[str, pl.DataFrame], expected: Mapping[str, pl.DataFrame]) -> None:
    """Compare every table with the oracle's, row by row; an AssertionError names the table and its differing rows."""
    found = to_oracle_form(tables)
    for name, frame in found.items():
        wanted = _settle(expected[name], name)
        if not frame.equals(wanted):
            raise AssertionError(f"{name}: {_describe_difference(frame, wanted)}")
    attempts = collect_attempts(tables["funnel_steps"], ["attempt_id"])
    wanted_attempts = collect_attempts(
        expected["funnel_steps"], ["funnel", "person_id", "entered_at", "entry_event_id"]
    )
    assert attempts == wanted_attempts, (attempts - wanted_attempts, wanted_attempts - attempts)
    _check_path_hashes(tables["paths"])


def _to_micros(frame: pl.DataFrame) -> pl.DataFrame:
    times = [name for name, dtype in frame.schema.items() if isinstance(dtype, pl.Datetime)]
    assert all(frame.schema[name] == pl.Datetime("us", "UTC") for name in times), frame.schema
    return frame.with_columns(pl.col(times).to_physical())


def _settle(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    schema = OUTPUTS[name]
    if name in ("transitions", "paths"):
        if "micros" not in frame.columns:
            frame = frame.with_columns(US)
        schema = {("micros" if column == "total_seconds" else column): kind for column, kind in schema.items()}
        schema["micros"] = pl.Int64
    return _round_seconds(frame.select(list(schema)).cast(schema)).sort(KEYS[name])  # type: ignore[arg-type]


def _round_seconds(frame: pl.DataFrame) -> pl.DataFrame:
    # Sums of seconds over commits differ in the last bit; whole microseconds don't.
    return frame.with_columns(pl.col(name).mul(1e6).round().cast(pl.Int64) for name in SECONDS if name in frame.columns)


def _sum_transitions(transitions: pl.DataFrame) -> pl.DataFrame:
    keys = [*KEYS["transitions"], "dt"]
    sums = transitions.with_columns(US).group_by(keys).agg(pl.col("transitions", "micros").sum())
    bars = (
        transitions.select(*keys, "seconds_histogram")
        .explode("seconds_histogram", empty_as_null=False, keep_nulls=False)
        .unnest("seconds_histogram")
        .group_by(*keys, "bucket")
        .agg(pl.col("n").sum())
        .group_by(keys)
        .agg(pl.struct("bucket", "n").sort_by("bucket").alias("seconds_histogram"))
    )
    empty = pl.lit([], dtype=OUTPUTS["transitions"]["seconds_histogram"])
    return sums.join(bars, on=keys, how="left").with_columns(pl.col("seconds_histogram").fill_null(empty))


def _sum_paths(paths: pl.DataFrame) -> pl.DataFrame:
    summed = (
        paths.with_columns(US).group_by("dt", "path_hash").agg(pl.col("steps").first(), pl.col(SUMMED["paths"]).sum())
    )
    return summed.drop("path_hash")


def _check_path_hashes(paths: pl.DataFrame) -> None:
    pairs = paths.select("steps", "path_hash").unique()
    assert not pairs["steps"].is_duplicated().any(), "one path has two hashes"
    assert not pairs["path_hash"].is_duplicated().any(), "two paths have one hash"


def _describe_difference(found: pl.DataFrame, wanted: pl.DataFrame) -> str:
    extra, missing = set(map(repr, found.rows())), set(map(repr, wanted.rows()))
    lines = [f"{found.height} rows for {wanted.height}"]
    lines += [f"found  {row}" for row in sorted(extra - missing)[:5]]
    lines += [f"wanted {row}" for row in sorted(missing - extra)[:5]]
    return "\n".join(lines)
