"""Pictures show the views' figures, in any width, with and without colour."""

from __future__ import annotations

import io
from collections.abc import Iterator

import duckdb
import pytest
from rich.console import Console, RenderableType

from maps.pictures import (
    draw_bar,
    draw_days,
    draw_funnel,
    draw_ledger,
    draw_paths,
    draw_status,
    draw_transitions,
    list_funnels,
)
from maps.status import LedgerRow, read_status
from sinks.catalog import open_views
from sinks.storage import Folders
from tests.sample_warehouse import get_finished


@pytest.fixture
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(get_finished(tmp_path_factory))


@pytest.fixture
def views(folders: Folders) -> Iterator[duckdb.DuckDBPyConnection]:
    connection, _ = open_views(folders)
    with connection:
        yield connection


def draw(*pictures: RenderableType, width: int = 100, colour: bool = False) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=colour, color_system="truecolor" if colour else None)
    for picture in pictures:
        console.print(picture)
    return out.getvalue()


@pytest.mark.parametrize(
    ("share", "width", "bar"),
    [(0, 4, ""), (1, 4, "████"), (0.5, 4, "██"), (1 / 32, 4, "▏"), (1e-9, 4, "▏"), (5, 2, "██"), (0.3125, 2, "▋")],
)
def test_a_bar_is_as_long_as_its_share(share: float, width: int, bar: str) -> None:
    assert draw_bar(share, width) == bar


def test_a_funnel_shows_its_steps_and_who_was_lost(views: duckdb.DuckDBPyConnection) -> None:
    picture = draw(draw_funnel(views, "purchase"))
    rows = views.execute(
        "SELECT step, persons, dropped FROM funnel_conversion WHERE funnel = 'purchase' ORDER BY step_index"
    ).fetchall()
    lines = picture.splitlines()[2:]
    assert len(lines) == len(rows) == 5
    for line, (step, persons, dropped) in zip(lines, rows, strict=True):
        assert line.startswith(step)
        assert f"{persons:,}" in line
        assert not dropped or f"{dropped:,}" in line


def test_a_funnel_that_nobody_entered_is_drawn(views: duckdb.DuckDBPyConnection) -> None:
    assert "unbegun" in list_funnels(views)
    assert "Gift Sent" in draw(draw_funnel(views, "unbegun"))


def test_shares_of_a_transition_row_add_up(views: duckdb.DuckDBPyConnection) -> None:
    picture = draw(draw_transitions(views, 100))
    home = next(line for line in picture.splitlines() if line.startswith("home"))
    shares = [int(cell.rstrip("%")) for cell in home.split()[1:] if cell != "·"]
    assert abs(sum(shares) - 100) <= 4


def test_heat_is_colour_on_a_terminal_only(views: duckdb.DuckDBPyConnection) -> None:
    assert "\x1b[" in draw(draw_transitions(views, 100), colour=True)
    assert "\x1b[" not in draw(draw_transitions(views, 100))


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_is_wider_than_the_terminal(views: duckdb.DuckDBPyConnection, folders: Folders, width: int) -> None:
    status = read_status(folders)
    pictures = (
        draw_days(views),
        draw_funnel(views, "purchase"),
        draw_paths(views),
        draw_transitions(views, width),
        draw_ledger(status.ledger, status.total),
        *draw_status(status),
    )
    assert all(len(line) <= width for line in draw(*pictures, width=width).splitlines())


def test_a_ledger_of_several_partitions_ends_with_the_sum() -> None:
    rows = [LedgerRow("lane-000", 5, 3, 1, 0, 0), LedgerRow("lane-001", 2, 1, 0, 1, 0)]
    lines = draw(draw_ledger(rows, LedgerRow("total", 7, 4, 1, 1, 0))).splitlines()
    assert lines[-1].split() == ["total", "7", "4", "1", "1", "0", "1"]
    assert lines[-3].split() == ["lane-000", "5", "3", "1", "0", "0", "1"]
