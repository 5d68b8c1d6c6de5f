"""The reorder buffer: what the watermark passed leaves it ordered, once, persons side by side."""

from __future__ import annotations

import numpy as np
import polars as pl

from operators.columns import FOREVER
from operators.order import Released, count_origins, find_later_copies, release_events, sort_persons
from tests.support.frames import SECOND, T0, make_events, texts

SAME_HASH = {"u": 7, "v": 7, "w": 7, "x": 3}


def release(*frames: pl.DataFrame, until: float | None = None) -> Released:
    """Release frames, buffered by their partition, up to a second after T0."""
    buffer: dict[str, list[pl.DataFrame]] = {}
    for frame in frames:
        buffer.setdefault(str(frame["source_partition"][0]), []).append(frame)
    return release_events(buffer, FOREVER if until is None else T0 + round(until * SECOND))


def ids(frame: pl.DataFrame) -> list[str]:
    return frame["event_id"].to_list()


def test_event_at_the_watermark_waits_and_one_microsecond_older_leaves() -> None:
    released = release(make_events([("u", 10, "a"), ("u", 9.999999, "b")]), until=10)
    assert ids(released.events) == ["p1"]
    assert ids(released.waiting["p"]) == ["p0"]


def test_events_leave_by_time_then_partition_then_position() -> None:
    """Whatever the order in which partitions came."""
    late_partition = make_events([("u", 1, "a"), ("u", 0, "b"), ("u", 1, "c")], partition="q")
    early_partition = make_events([("u", 1, "d"), ("u", 1, "e")], partition="p")
    released = release(late_partition, early_partition)
    assert ids(released.events) == ["q1", "p0", "p1", "q0", "q2"]
    assert released.starts.tolist() == [0]


def test_waiting_events_keep_their_order_of_arrival_over_several_releases() -> None:
    """A tie is resolved by position, also between what waited and what came later."""
    first = release(make_events([("u", 5, "a"), ("u", 5, "b")]), until=5)
    assert first.events.height == 0
    later = make_events([("u", 5, "c")], first_position=2)
    assert ids(release(first.waiting["p"], later).events) == ["p0", "p1", "p2"]


def test_persons_are_contiguous_and_starts_point_to_their_first_rows() -> None:
    ordered, starts = sort_persons(make_events([("u", 2, "a"), ("v", 1, "b"), ("u", 0, "c"), ("v", 3, "d")]))
    persons = ordered["person_id"].to_list()
    assert persons in (["u", "u", "v", "v"], ["v", "v", "u", "u"])
    assert starts.tolist() == [0, 2]
    assert ordered.filter(pl.col("person_id") == "u")["event_id"].to_list() == ["p2", "p0"]


def test_persons_with_one_hash_stay_apart_however_their_events_alternate() -> None:
    rows = [("u", 0, "a"), ("v", 1, "b"), ("u", 2, "c"), ("w", 3, "d"), ("x", 4, "e"), ("v", 5, "f")]
    ordered, starts = sort_persons(make_events(rows, hashes=SAME_HASH))
    assert texts(ordered, "person_id", "step") == [
        ("x", "e"),
        ("u", "a"),
        ("u", "c"),
        ("v", "b"),
        ("v", "f"),
        ("w", "d"),
    ]
    assert starts.tolist() == [0, 1, 3, 5]


def test_first_copy_is_kept_by_partition_then_position() -> None:
    copies = [
        make_events([("u", 1, "q0")], partition="q", event_id=["1"]),
        make_events([("u", 1, "p0"), ("u", 1, "p1"), ("u", 1, "p2")], event_id=["0", "1", "1"]),
    ]
    released = release(*copies)
    assert released.events["step"].cast(pl.String).to_list() == ["p0", "p1"]
    assert released.duplicates == {("p.ndjson", "p"): 1, ("q.ndjson", "q"): 1}
    assert released.accepted == {("p.ndjson", "p"): 2}


def test_same_id_at_another_time_or_of_another_person_is_no_copy() -> None:
    frame = make_events([("u", 1, "a"), ("u", 2, "b"), ("v", 1, "c")], event_id=["1", "1", "1"])
    assert release(frame).duplicates == {}


def test_persons_with_one_hash_share_no_copies() -> None:
    frame = make_events([("u", 1, "a"), ("v", 1, "b"), ("u", 1, "c")], event_id=["1"] * 3, hashes=SAME_HASH)
    released = release(frame)
    assert texts(released.events, "person_id", "step") == [("u", "a"), ("v", "b")]
    assert released.starts.tolist() == [0, 1]


def test_copies_are_found_between_other_events_of_the_same_moment() -> None:
    ordered, _ = sort_persons(make_events([("u", 1, s) for s in "abcde"], event_id=["1", "2", "1", "3", "2"]))
    assert find_later_copies(ordered, np.arange(5)).tolist() == [2, 4]


def test_starts_move_up_when_copies_go_away() -> None:
    rows = [("u", 0, "a"), ("u", 0, "a"), ("v", 0, "b"), ("v", 0, "b"), ("w", 0, "c")]
    released = release(make_events(rows, event_id=["1", "1", "1", "1", "1"], hashes={"u": 1, "v": 2, "w": 3}))
    assert released.events["person_id"].to_list() == ["u", "v", "w"]
    assert released.starts.tolist() == [0, 1, 2]


def test_columns_that_one_partition_lacks_are_null_there() -> None:
    bare = make_events([("u", 1, "a")], partition="q").drop("device_id", "channel")
    released = release(make_events([("u", 0, "b")], device_id=["d"]), bare)
    assert texts(released.events, "event_id", "device_id", "channel") == [("p0", "d", "web"), ("q0", None, None)]


def test_nothing_due_leaves_the_buffer_as_it_is() -> None:
    released = release(make_events([("u", 5, "a")]), until=0)
    assert (released.events.height, released.starts.tolist(), released.accepted) == (0, [], {})
    assert ids(released.waiting["p"]) == ["p0"]
    assert release_events({}, FOREVER).waiting == {}


def test_origins_are_counted_by_source_and_partition() -> None:
    frame = make_events([("u", 0, "a")] * 3, source=["one", "two", "one"])
    assert count_origins(frame) == {("one", "p"): 2, ("two", "p"): 1}
    assert count_origins(frame.clear()) == {}
