"""What one source partition accepts: its watermark moves row by row, and only forward."""

from __future__ import annotations

from datetime import date

import polars as pl

from events.canonical import Decoded
from events.raw import RawBlock
from events.schema import DEAD_LETTERS, LATE_EVENTS
from operators.accept import Accepted, accept_events
from operators.columns import BEGINNING
from tests.support.frames import SECOND, T0, make_events, texts

LATENESS = 10 * SECOND


def accept(*seconds: float, latest: int = BEGINNING, dead_at: tuple[int, ...] = ()) -> Accepted:
    """Accept one person's events at these seconds after T0; `dead_at`: lines between them that are dead letters."""
    total = len(seconds) + len(dead_at)
    lines = [line for line in range(total) if line not in dead_at]
    events = make_events([("u", at, "a") for at in seconds])
    events = events.with_columns(pl.Series("source_position", lines, dtype=pl.Int64))
    dead = pl.DataFrame(
        [("not_json", "", "p.ndjson", "p", line, b"?") for line in dead_at], schema=DEAD_LETTERS, orient="row"
    )
    payload = b"".join(b"line %d\r\n" % line for line in range(total))
    block = RawBlock("ndjson", "p.ndjson", "p", 0, payload)
    return accept_events(Decoded(block, events, pl.Series(lines, dtype=pl.Int64), dead, total), latest, LATENESS)


def test_event_at_the_watermark_is_accepted_and_one_microsecond_older_is_late() -> None:
    accepted = accept(20, 10, 9.999999)
    assert accepted.events["source_position"].to_list() == [0, 1]
    assert accepted.late["source_position"].to_list() == [2]
    assert accepted.latest == T0 + 20 * SECOND


def test_watermark_is_that_of_the_rows_before_not_of_the_block() -> None:
    """An old event in front of a young one is in time, although both lie in one block."""
    assert accept(0, 100).late.height == 0
    assert accept(100, 0).late.height == 1


def test_watermark_goes_on_from_block_to_block_and_late_events_do_not_move_it() -> None:
    first = accept(100)
    second = accept(50, 89, 90, latest=first.latest)
    assert second.late["source_position"].to_list() == [0, 1]
    assert second.events["source_position"].to_list() == [2]
    assert second.latest == T0 + 100 * SECOND
    assert second.watermark(LATENESS) == T0 + 90 * SECOND


def test_late_row_names_watermark_reason_place_day_and_raw_line() -> None:
    late = accept(100, 50).late
    assert late.schema == {**LATE_EVENTS, "dt": pl.Date} or late.schema["source"] == pl.Categorical()
    assert texts(late, "event_id", "reason", "source", "source_partition", "source_position", "raw", "dt") == [
        ("p1", "late", "p.ndjson", "p", 1, b"line 1", date(2023, 11, 14))
    ]
    assert late["event_time"].to_physical().to_list() == [T0 + 50 * SECOND]
    assert late["watermark"].to_physical().to_list() == [T0 + 90 * SECOND]


def test_late_row_behind_a_dead_one_carries_its_own_raw_line() -> None:
    late = accept(100, 50, dead_at=(1,)).late
    assert late.select("source_position", "raw").rows() == [(2, b"line 2")]


def test_received_is_accepted_and_late_and_dead() -> None:
    accepted = accept(0, 100, 50, dead_at=(0, 3))
    assert (accepted.received, accepted.events.height, accepted.late.height, accepted.dead.height) == (5, 2, 1, 2)


def test_dead_letter_is_filed_under_the_day_that_the_partition_had_reached() -> None:
    """Before any event that is 1970-01-01; afterwards the day of the latest event before it."""
    day = 24 * 3600
    accepted = accept(0, 3 * day, dead_at=(0, 2, 4))
    assert accepted.dead["dt"].to_list() == [date(1970, 1, 1), date(2023, 11, 14), date(2023, 11, 17)]


def test_block_without_events_moves_nothing() -> None:
    accepted = accept(dead_at=(0, 1), latest=T0)
    assert (accepted.events.height, accepted.late.height, accepted.latest) == (0, 0, T0)
    fresh = accept(dead_at=(0,))
    assert fresh.latest == fresh.watermark(LATENESS) == BEGINNING
