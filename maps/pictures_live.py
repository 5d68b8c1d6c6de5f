"""Pictures for the terminal of a live job: how it stands, and each of its partitions."""

from __future__ import annotations

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from clock import from_us
from maps.standing import Standing, find_age, find_state
from maps.status import WarehouseStatus

UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def describe_live(status: WarehouseStatus, live: Standing) -> dict[str, str]:
    """Say in words how the live job stands: name to value."""
    ago = f"{describe_age(find_age(live.at, status.asked_at))} ago"
    state = {
        "stopped": f"stopped {ago}; the same command goes on",
        "failed": f"failed {ago}: {live.problem}",
        "lost": f"ended without a stop; last heard of {ago}; the same command goes on",
    }.get(find_state(live, status.job), f"{live.state}; said so {ago}")
    committed = "none yet"
    if live.committed_at is not None:
        age = describe_age(find_age(live.committed_at, status.asked_at))
        committed = f"{age} ago, made visible in {live.commit_s:.2f} s"
    lag = "not known" if live.lag is None else f"{live.lag:,} records"
    return {
        "live job": state,
        "last commit": committed,
        "watermark": show_watermark(live.watermark),
        "lag": lag,
        "open sessions": f"{live.open_sessions:,}; {live.waiting:,} events wait for the watermark",
    }


def draw_partitions(status: WarehouseStatus, live: Standing) -> RenderableType:
    """Draw each partition: what it handed on in this run, how far it came, and what waits at its source."""
    ago = describe_age(find_age(live.at, status.asked_at))
    table = Table(title=f"Partitions, {ago} ago", title_justify="left", title_style="bold", box=None, padding=(0, 1))
    table.pad_edge = False
    for name in ("partition", "read in this run", "watermark", "lag", ""):
        table.add_column(
            name, justify="left" if name in ("partition", "") else "right", header_style="dim", no_wrap=True
        )
    for part in live.partitions:
        lag = "?" if part.lag is None else f"{part.lag:,}"
        idle = Text("idle" if part.idle else "", style="dim")
        table.add_row(part.partition, f"{part.records:,}", show_watermark(part.watermark), lag, idle)
    return table


def show_watermark(at: int | None) -> str:
    """Write an event time to the second."""
    return "nothing yet" if at is None else from_us(at).strftime("%Y-%m-%d %H:%M:%S UTC")


def describe_age(seconds: float) -> str:
    """Write an age in its largest unit."""
    for length, unit in UNITS:
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
