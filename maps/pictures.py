"""Pictures for the terminal of what a warehouse holds: each function takes its views and returns something to print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from events.schema import END, START
from maps.parity_report import ParityReport, tell_time
from maps.pictures_live import describe_live, draw_partitions
from maps.status import LedgerRow, WarehouseStatus

DAYS = 31
PATHS = 8
STEPS = 11
BAR = 22
CELLS, GAP, LABEL = (6, 4), 1, 14
FILL = "█"
PARTS = " ▏▎▍▌▋▊▉"
HEAT = (
    (0.50, "bold white on dark_red"),
    (0.30, "white on red3"),
    (0.15, "black on orange3"),
    (0.05, "black on khaki1"),
)


def draw_bar(share: float, width: int) -> str:
    """Draw a share of 0 to 1 as blocks, in eighths of a character; what is more than nothing shows."""
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    if share > 0:
        eighths = max(1, eighths)
    return FILL * (eighths // 8) + (PARTS[eighths % 8] if eighths % 8 else "")


def draw_days(views: duckdb.DuckDBPyConnection) -> RenderableType:
    """Draw sessions by day, the newest days if there are many."""
    rows = _fetch(views, "SELECT CAST(dt AS VARCHAR), sessions, persons, bounce_share FROM daily_sessions ORDER BY dt")
    most = max((row[1] for row in rows), default=0)
    left_out = f" (the last {DAYS} of {len(rows)} days)" if len(rows) > DAYS else ""
    table = _table(f"Sessions by day{left_out}", "day", "", "sessions", "persons", "one event only")
    for day, sessions, persons, bounces in rows[-DAYS:]:
        bar = Text(draw_bar(sessions / most, BAR), style="cyan")
        table.add_row(day, bar, f"{sessions:,}", f"{persons:,}", f"{bounces:.0%}")
    return table


def draw_funnel(views: duckdb.DuckDBPyConnection, funnel: str) -> RenderableType:
    """Draw how many people reached each step of a funnel, the share of all and of the step before, and who dropped."""
    query = (
        "SELECT step, persons, conversion_from_start, conversion_from_previous, dropped"
        " FROM funnel_conversion WHERE funnel = ? ORDER BY step_index"
    )
    table = _table(f"Funnel {funnel}", "step", "", "persons", "of all", "of previous", "lost")
    for step, persons, whole, previous, dropped in _fetch(views, query, [funnel]):
        bar = Text(draw_bar(whole or 0.0, BAR), style="green")
        lost = f"{dropped:,}" if dropped else ""
        table.add_row(step, bar, f"{persons:,}", _percent(whole), _percent(previous), Text(lost, style="red"))
    return table


def list_funnels(views: duckdb.DuckDBPyConnection) -> list[str]:
    """List the funnels that the warehouse knows, in the config's order."""
    return [row[0] for row in _fetch(views, "SELECT funnel FROM funnel_conversion GROUP BY funnel ORDER BY funnel")]


def draw_paths(views: duckdb.DuckDBPyConnection) -> RenderableType:
    """Draw the paths that most sessions took."""
    rows = _fetch(views, f"SELECT path, sessions, share FROM top_paths LIMIT {PATHS}")
    most = max((row[2] for row in rows), default=1.0)
    table = _table("Top paths", "path", "", "sessions", "share")
    table.columns[0].overflow = "ellipsis"
    for path, sessions, share in rows:
        table.add_row(path, Text(draw_bar(share / most, 14), style="magenta"), f"{sessions:,}", f"{share:.1%}")
    return table


def draw_transitions(views: duckdb.DuckDBPyConnection, width: int = 100) -> RenderableType:
    """Draw where people go from each step: shares of all that left it, as a matrix coloured by heat."""
    shares = {
        (origin, target): share
        for origin, target, share in _fetch(views, "SELECT from_step, to_step, share_of_exits FROM step_transitions")
    }
    every = _order_steps(views)
    label = min(LABEL, max(len(step) for step in (START, *every)))
    cell, steps = _fit_steps(every, width - label)
    table = _table("Transitions: where people go from the row's step", "from")
    table.collapse_padding = True
    for name in (*steps, END):
        table.add_column(Text(name.strip("()")[:cell]), justify="right", min_width=cell, max_width=cell, no_wrap=True)
    for origin in (START, *steps):
        cells = [_draw_share(shares.get((origin, target), 0.0), cell) for target in (*steps, END)]
        table.add_row(Text(origin[:LABEL]), *cells)
    return table


def _fit_steps(steps: list[str], width: int) -> tuple[int, list[str]]:
    """Choose the width of a cell, and the steps that there is room for."""
    for cell in CELLS:
        room = width // (cell + GAP) - 1
        if room >= len(steps):
            return cell, steps
    return CELLS[-1], steps[: max(1, room)]


def _draw_share(share: float, cell: int) -> Text:
    if share < 0.005:
        return Text("·", style="dim")
    style = next((style for least, style in HEAT if share >= least), "")
    return Text(f"{share:.0%}".rjust(cell), style=style)


def _order_steps(views: duckdb.DuckDBPyConnection) -> list[str]:
    """List the steps to show: those of stages first, in the config's order, then the most frequent."""
    frequent = _fetch(
        views,
        "SELECT from_step FROM step_transitions WHERE from_step <> ? GROUP BY from_step"
        " ORDER BY sum(transitions) DESC, from_step",
        [START],
    )
    shown = [row[0] for row in frequent][:STEPS]
    staged = [row[0] for row in _fetch(views, "SELECT step FROM stages")]
    return [step for step in staged if step in shown] + [step for step in shown if step not in staged]


def draw_ledger(rows: Sequence[LedgerRow], total: LedgerRow) -> RenderableType:
    """Draw what became of every record; a partition a row, and the sum."""
    counts = ("received", "accepted", "duplicate", "late", "dead", "waiting")
    table = _table("Ledger: what became of every record", "partition", *counts)
    for row in (*rows, total) if len(rows) > 1 else rows:
        style = "bold" if row is total else ""
        table.add_row(row.source_partition, *(f"{getattr(row, name):,}" for name in counts), style=style)
    return table


def draw_parity(report: ParityReport) -> RenderableType:
    """Draw how many rows of each table two warehouses have, and how many one of them alone."""
    scope = f"what had settled by {tell_time(report.until)}" if report.until is not None else "everything"
    table = _table(f"Parity, {scope}", "table", "rows left", "rows right", "only left", "only right")
    for one in report.tables:
        counts = (one.rows_left, one.rows_right, one.only_left, one.only_right)
        table.add_row(one.table, *(f"{count:,}" for count in counts), style="red" if one.differs else "")
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 1), pad_edge=False)
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number == 0 or not name else "right", header_style="dim", no_wrap=True)
    return table


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _fetch(views: duckdb.DuckDBPyConnection, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    return views.execute(query, list(values)).fetchall()


def draw_status(status: WarehouseStatus) -> list[RenderableType]:
    """Draw a warehouse's status, the ledger aside."""
    words = Table(box=None, show_header=False, padding=(0, 1), pad_edge=False)
    words.add_column(style="dim", no_wrap=True)
    words.add_column()
    reached = status.ordered_until.strftime("%Y-%m-%d %H:%M:%S UTC") if status.ordered_until else "no event yet"
    for name, value in {
        "warehouse": f"{status.warehouse}, {status.bytes_on_disk / 1e6:,.1f} MB on disk",
        "version": f"{status.version}, epoch {status.epoch}, run {status.run}",
        "job": f"running: {status.job}" if status.job else "none is running",
        "newest event": reached if status.complete else f"{reached}; the watermark is at or past it",
        **(describe_live(status, status.live) if status.live else _describe_input(status)),
    }.items():
        words.add_row(name, Text(value))
    tables = _table("Tables", "table", "rows", "files", "MB")
    for size in status.tables:
        tables.add_row(size.table, f"{size.rows:,}", f"{size.files:,}", f"{size.bytes / 1e6:,.1f}")
    lanes = _table("Lanes", "lane", "files", "MB", "")
    for column in lanes.columns[:3]:
        column.min_width = 6
    lanes.columns[0].min_width = 8
    for lane in status.lanes:
        few = ", ".join(lane.files[:2]) + (f", … {lane.files[-1]}" if len(lane.files) > 2 else "")
        lanes.add_row(lane.name, str(len(lane.files)), f"{lane.bytes / 1e6:,.1f}", few)
    parts: list[RenderableType] = [words, "", tables, ""]
    if status.live is not None:
        parts += [draw_partitions(status, status.live), ""]
    return [*parts, lanes, ""] if status.lanes else parts


def _describe_input(status: WarehouseStatus) -> dict[str, str]:
    files = sum(len(lane.files) for lane in status.lanes)
    return {
        "input": "read to its end" if status.complete else "not read to its end: the same replay command goes on",
        "lanes": f"{len(status.lanes)} of {files} file{'s' if files != 1 else ''}",
    }
