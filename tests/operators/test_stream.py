"""The logics that Bytewax calls, called as Bytewax calls them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from config import Config, DeadLetterLimit, JobRules, SessionRules
from errors import DeadLetterLimitError
from events.canonical import Decoded
from events.hashing import key_groups
from events.raw import EpochEnd, LaneEnd, RawBlock
from events.schema import DEAD_LETTERS
from operators.journey import GroupBatch
from operators.stream import AcceptLogic, Delivery, GroupLogic, Output
from tests.support.frames import SECOND, T0, make_events, texts

CONFIG = Config(
    sessions=SessionRules(gap=10 * SECOND, max_session=60 * SECOND, allowed_lateness=0),
    job=JobRules(key_groups=3, release_rows=2),
)
PERSONS = [f"user-{number}" for number in range(30)]


def block(*rows: tuple[str, float, str], dead: int = 0, first_position: int = 0) -> Decoded:
    """Make a decoded block of partition p, with dead letters behind its events."""
    events = make_events(rows, first_position=first_position)
    places = range(first_position + len(rows), first_position + len(rows) + dead)
    letters = [("not_json", "", "p.ndjson", "p", place, b"?") for place in places]
    payload = b"x\n" * (len(rows) + dead)
    return Decoded(
        RawBlock("ndjson", "p.ndjson", "p", first_position, payload),
        events,
        pl.Series(range(len(rows)), dtype=pl.Int64),
        pl.DataFrame(letters, schema=DEAD_LETTERS, orient="row"),
        len(rows) + dead,
    )


def accept(logic: AcceptLogic, *values: Decoded | LaneEnd | EpochEnd) -> list[Delivery]:
    deliveries, is_over = logic.on_batch(list(values))
    assert not is_over
    return list(deliveries)


def group(release_rows: int = 2, stopping: bool = False, state: bytes | None = None, lanes: str = "p") -> GroupLogic:
    job = replace(CONFIG.job, release_rows=release_rows)
    return GroupLogic(replace(CONFIG, job=job), frozenset(lanes), lambda: stopping, state)


def feed(logic: GroupLogic, *rows: tuple[str, float, str], flush: bool = False, active: bool = True) -> list[Output]:
    """Give a key group events of partition p; the partition is as far as the last of them."""
    latest = T0 + round(rows[-1][1] * SECOND) if rows else logic.state.progress["p"][0]
    events = make_events(rows) if rows else None
    return list(logic.on_batch([GroupBatch("p", latest, active, events, flush)])[0])


def ids(outputs: list[Output], table: str = "events", column: str = "event_id") -> list[Any]:
    return [row[0] for output in outputs for frame in output.tables.get(table, []) for row in texts(frame, column)]


def test_every_key_group_hears_of_every_block_and_each_event_goes_to_its_own() -> None:
    rows = [(person, at, "a") for at, person in enumerate(PERSONS)]
    (delivery,) = accept(AcceptLogic(CONFIG, None), block(*rows))
    assert [number for number, _ in delivery.batches] == [0, 1, 2]
    assert {(batch.latest, batch.active) for _, batch in delivery.batches} == {(T0 + 29 * SECOND, True)}
    found = []
    for number, batch in delivery.batches:
        assert batch.events is not None
        assert set(key_groups(batch.events["person_hash"].to_numpy(), 3)) == {number}
        assert batch.events["source_position"].is_sorted()
        found += batch.events["person_id"].to_list()
    assert sorted(found) == sorted(PERSONS)


def test_lane_end_and_epoch_end_reach_every_group_and_ask_for_a_flush() -> None:
    logic = AcceptLogic(CONFIG, None)
    _, epoch, lane = accept(logic, block(("u", 7, "a")), EpochEnd("p"), LaneEnd("p"))
    assert [(batch.active, batch.flush) for _, batch in epoch.batches] == [(True, True)] * 3
    assert [(batch.active, batch.flush) for _, batch in lane.batches] == [(False, True)] * 3
    assert {batch.latest for _, batch in (*epoch.batches, *lane.batches)} == {T0 + 7 * SECOND}
    assert epoch.output is None and lane.output is None


def test_receipt_counts_received_late_and_dead_once() -> None:
    (delivery,) = accept(AcceptLogic(CONFIG, None), block(("u", 9, "a"), ("u", 0, "b"), dead=2))
    assert delivery.output is not None and not delivery.output.tail
    columns = ("source", "source_partition", "received", "accepted", "late", "dead")
    assert texts(delivery.output.tables["ledger"][0], *columns) == [("p.ndjson", "p", 4, 0, 1, 2)]
    assert delivery.output.tables["late_events"][0].height == 1
    assert delivery.output.tables["dead_letters"][0].height == 2
    (clean,) = accept(AcceptLogic(CONFIG, None), block(("u", 9, "a")))
    assert clean.output is not None and clean.output.tables.keys() == {"ledger"}


def test_partition_remembers_its_watermark_and_dead_letters_over_a_restart() -> None:
    limited = replace(CONFIG, dead_letters=DeadLetterLimit(count=4, share=0.4))
    before = AcceptLogic(limited, None)
    accept(before, block(("u", 100, "a"), dead=3))
    logic = AcceptLogic(limited, before.snapshot())
    assert logic.snapshot() == before.snapshot()
    (delivery,) = accept(logic, block(("u", 99, "b"), first_position=4))
    assert delivery.output is not None and "late_events" in delivery.output.tables
    with pytest.raises(DeadLetterLimitError, match="4 of 6 records"):
        accept(logic, block(dead=1, first_position=5))


def test_dead_letters_within_the_limit_stop_nothing() -> None:
    limited = replace(CONFIG, dead_letters=DeadLetterLimit(count=2, share=0.5))
    logic = AcceptLogic(limited, None)
    accept(logic, block(("u", 0, "a"), dead=1))
    accept(logic, block(("u", 0, "a"), dead=1, first_position=2))


def test_group_waits_until_enough_rows_are_there() -> None:
    logic = group(release_rows=3)
    assert feed(logic, ("u", 0, "a"), ("u", 1, "b")) == []
    assert sorted(ids(feed(logic, ("v", 2, "c"), ("v", 3, "d")))) == ["p0", "p0", "p1"]
    assert logic.waiting == logic.state.waiting() == 1


def test_group_releases_what_it_can_when_a_flush_is_asked_for() -> None:
    logic = group(release_rows=1000)
    assert feed(logic, ("u", 0, "a"), ("u", 1, "b")) == []
    assert ids(feed(logic, flush=True)) == ["p0"]
    assert feed(logic, flush=True) == []


def test_group_waits_for_partitions_that_have_not_spoken() -> None:
    logic = group(release_rows=1, lanes="pq")
    assert feed(logic, ("u", 0, "a"), ("u", 50, "b")) == []
    logic.on_batch([GroupBatch("q", T0 + 40 * SECOND, True, None)])
    assert logic.state.released == T0 + 40 * SECOND


def test_end_of_input_gives_rows_for_good_and_a_tail() -> None:
    """For good: what the last watermark passed. The tail: what waits, and the sessions that are open."""
    logic = group(release_rows=1000)
    feed(logic, ("u", 0, "a"), ("u", 5, "b"), active=False)
    base, tail = logic.on_eof()[0]
    assert (base.tail, tail.tail) == (False, True)
    assert (ids([base]), ids([tail])) == (["p0"], ["p1"])
    assert ids([tail], "sessions", "steps") == [["a", "b"]]
    assert ids([base], "sessions", "steps") == []


def test_stop_gives_nothing_and_a_later_run_goes_on() -> None:
    logic = group(release_rows=1000, stopping=True)
    feed(logic, ("u", 0, "a"), ("u", 5, "b"))
    assert list(logic.on_eof()[0]) == []
    later = group(release_rows=1000, state=logic.snapshot())
    assert later.waiting == 2
    feed(later, ("u", 6, "c"), active=False)
    outputs = list(later.on_eof()[0])
    assert ids(outputs, "sessions", "steps") == [["a", "b", "c"]]


def test_end_that_is_taken_back_leaves_a_state_that_goes_on() -> None:
    """A second run over added events gives the tail anew, with them in it."""
    first = group()
    feed(first, ("u", 0, "a"), ("u", 5, "b"), active=False)
    list(first.on_eof()[0])
    later = group(release_rows=1000, state=first.snapshot())
    feed(later, ("u", 6, "c"), active=False)
    base, tail = later.on_eof()[0]
    assert (ids([base]), ids([tail])) == (["p1"], ["p0"])
    assert ids([tail], "sessions", "steps") == [["a", "b", "c"]]


def test_ended_partition_is_waited_for_again_in_the_next_run() -> None:
    """Else the first words of the other one would be released past what this one may still bring."""
    before = group(lanes="pq")
    before.on_batch([GroupBatch("q", T0 + 3 * SECOND, False, None)])
    feed(before, ("u", 5, "a"))
    later = group(lanes="pq", release_rows=1, state=before.snapshot())
    feed(later, ("u", 100, "b"), ("u", 101, "c"))
    assert later.state.released == T0 + 3 * SECOND
