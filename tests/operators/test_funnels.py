"""Funnels: ordered, re-anchored on the latest entry, the same whether events come at once or in batches."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np
import polars as pl
import pytest

from config import HOUR, FunnelRules, SessionRules
from operators.chains import CHAINS, start_chains
from operators.columns import BEGINNING, FOREVER
from operators.funnels import REACHED, fold_funnel
from operators.sessionize import sessionize, start_sessions
from tests.support.frames import SECOND, T0, make_events, order_events
from tests.support.hashing_reference import hash_text, make_id

Row = tuple[str, float, str]
Arrival = tuple[str, int, float, float]
GAP = SessionRules(gap=HOUR, max_session=24 * HOUR)


def funnel(steps: str, within: float = 10, scope: str = "person") -> FunnelRules:
    return FunnelRules("f", tuple(steps), round(within * SECOND), scope)


def fold(
    rules: FunnelRules,
    *batches: Sequence[Row] | pl.DataFrame,
    gap: SessionRules = GAP,
    watermark: int = BEGINNING,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Fold batches one after another; return all rows that were written and the chains that remain."""
    state, chains, reached = start_sessions(), start_chains(), []
    for number, batch in enumerate(batches):
        frame = batch if isinstance(batch, pl.DataFrame) else make_events(batch, first_position=100 * number)
        ordered, starts = order_events(frame)
        done = sessionize(ordered, starts, state, gap, T0)
        folded = fold_funnel(done.events, starts, chains, rules, watermark)
        state, chains = done.open, folded.chains
        reached.append(folded.reached)
    return pl.concat(reached), chains


def arrivals(reached: pl.DataFrame) -> list[Arrival]:
    """Return (person, step index, entry, arrival in seconds after T0) in order of arrival."""
    times = pl.col("entered_at", "reached_at").to_physical() - T0
    rows = reached.sort("person_id", "reached_at", "step_index", "entered_at").select("person_id", "step_index", times)
    return [(person, index, entry / SECOND, arrival / SECOND) for person, index, entry, arrival in rows.rows()]


def walk(rules: FunnelRules, *batches: Sequence[Row]) -> list[Arrival]:
    return arrivals(fold(rules, *batches)[0])


@pytest.mark.parametrize("split", [False, True])
def test_window_is_inclusive_and_counts_from_the_entry(split: bool) -> None:
    """One microsecond more is too late."""
    inside, outside = [("u", 0, "a"), ("u", 6, "b"), ("u", 10, "c")], ("u", 10.000001, "c")
    entered = [("u", 0, 0, 0), ("u", 1, 0, 6)]
    assert walk(funnel("abc"), *([[row] for row in inside] if split else [inside])) == [*entered, ("u", 2, 0, 10)]
    late = [*inside[:2], outside]
    assert walk(funnel("abc"), *([[row] for row in late] if split else [late])) == entered


@pytest.mark.parametrize("cut", range(7))
def test_newer_entry_takes_over_and_the_older_chain_goes_on_further_up(cut: int) -> None:
    """The second entry needs its own b; until then c belongs to the first."""
    rows: list[Row] = [("u", 0, "a"), ("u", 1, "b"), ("u", 5, "a"), ("u", 6, "c"), ("u", 7, "b"), ("u", 8, "c")]
    batches = [part for part in (rows[:cut], rows[cut:]) if part]
    assert walk(funnel("abc"), *batches) == [
        ("u", 0, 0, 0),
        ("u", 1, 0, 1),
        ("u", 0, 5, 5),
        ("u", 2, 0, 6),
        ("u", 1, 5, 7),
        ("u", 2, 5, 8),
    ]


def test_entry_renewed_lets_a_late_step_count() -> None:
    """0 s to 18 s is past the window, 8 s to 18 s is within it."""
    assert walk(funnel("ab"), [("u", 0, "a"), ("u", 8, "a"), ("u", 18, "b")])[-1] == ("u", 1, 8, 18)


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_step_taken_again_by_one_chain_gives_no_second_row_and_keeps_the_first_time(cut: int) -> None:
    rows: list[Row] = [("u", 0, "a"), ("u", 2, "b"), ("u", 5, "b"), ("u", 9, "c")]
    reached, _ = fold(funnel("abc"), rows[:cut], rows[cut:])
    assert arrivals(reached) == [("u", 0, 0, 0), ("u", 1, 0, 2), ("u", 2, 0, 9)]
    assert reached.sort("step_index")["seconds_from_previous"].to_list() == [0.0, 2.0, 7.0]


def test_events_of_one_moment_go_by_the_funnels_order() -> None:
    """ClickHouse's rule: not by arrival."""
    reversed_ties = [("u", 3, "c"), ("u", 3, "b"), ("u", 3, "a")]
    assert walk(funnel("abc", within=0), reversed_ties) == [("u", 0, 3, 3), ("u", 1, 3, 3), ("u", 2, 3, 3)]


def test_event_fills_every_index_at_which_its_step_stands() -> None:
    assert walk(funnel("aa"), [("u", 0, "a")]) == [("u", 0, 0, 0), ("u", 1, 0, 0)]
    assert walk(funnel("aba"), [("u", 0, "a")], [("u", 1, "b"), ("u", 2, "a")]) == [
        ("u", 0, 0, 0),
        ("u", 1, 0, 1),
        ("u", 0, 2, 2),
        ("u", 2, 0, 2),
    ]


def test_steps_before_an_entry_and_skipped_steps_count_for_nothing() -> None:
    assert walk(funnel("abc"), [("u", 0, "b"), ("u", 1, "c"), ("u", 2, "a"), ("u", 3, "c")]) == [("u", 0, 2, 2)]


def test_row_holds_attempt_times_channel_and_day_of_arrival() -> None:
    """A literal attempt id: it must never change."""
    frame = make_events([("u", 6399, "a"), ("u", 6401, "b")], channel=["web", "store"])  # around midnight
    reached, _ = fold(FunnelRules("purchase", ("a", "b"), HOUR), frame)
    assert dict(reached.schema) == REACHED
    attempt = make_id(hash_text("purchase"), hash_text("u"), T0 + 6399 * SECOND, hash_text("p0"), seeds=(5, 6))
    assert attempt == "2581c2bb5edb0d4c2364ccfdca8bebdf"
    columns = ("funnel", "attempt_id", "person_id", "step_index", "step", "channel", "dt")
    assert reached.select(columns).rows() == [
        ("purchase", attempt, "u", 0, "a", "web", date(2023, 11, 14)),
        ("purchase", attempt, "u", 1, "b", "store", date(2023, 11, 15)),
    ]
    assert reached.select("seconds_from_entry", "seconds_from_previous").rows() == [(0.0, 0.0), (2.0, 2.0)]


def test_attempt_keeps_its_id_over_batches_and_entries_of_one_moment_are_two_attempts() -> None:
    reached, _ = fold(funnel("ab"), [("u", 0, "a"), ("u", 0, "a")], [("u", 1, "b")], [("u", 2, "b")])
    assert reached["step_index"].to_list() == [0, 0, 1]
    ids = reached["attempt_id"].to_list()
    assert ids[0] != ids[1] == ids[2]


def test_persons_keep_to_themselves() -> None:
    rows: list[Row] = [("u", 0, "a"), ("v", 1, "b"), ("w", 2, "a"), ("v", 3, "a"), ("w", 4, "b")]
    assert walk(funnel("ab"), rows) == [("u", 0, 0, 0), ("v", 0, 3, 3), ("w", 0, 2, 2), ("w", 1, 2, 4)]


def test_persons_with_one_hash_keep_to_themselves() -> None:
    """In a batch, and with the chains of one or both of them carried."""
    hashes = {"u": 7, "v": 7, "w": 7}
    batches = [
        make_events([("u", 0, "a"), ("v", 1, "a")], hashes=hashes),
        make_events([("v", 2, "b"), ("w", 3, "b")], hashes=hashes, first_position=2),
        make_events([("u", 4, "b"), ("w", 5, "a")], hashes=hashes, first_position=4),
        make_events([("w", 6, "b")], hashes=hashes, first_position=6),
    ]
    reached, _ = fold(funnel("ab"), *batches)
    assert arrivals(reached) == [
        ("u", 0, 0, 0),
        ("u", 1, 0, 4),
        ("v", 0, 1, 1),
        ("v", 1, 1, 2),
        ("w", 0, 5, 5),
        ("w", 1, 5, 6),
    ]


def test_chain_of_one_person_is_not_taken_by_another_of_the_same_hash() -> None:
    """The owner of the chain is silent in the batch in which the other one comes."""
    hashes = {"u": 7, "w": 7}
    batches = [
        make_events([row], hashes=hashes, first_position=n) for n, row in enumerate([("u", 0, "a"), ("w", 1, "b")])
    ]
    reached, chains = fold(funnel("ab"), *batches)
    assert arrivals(reached) == [("u", 0, 0, 0)]
    assert chains["scope_id"].to_list() == ["u"]


@pytest.mark.parametrize("cut", [1, 2, 3, 4])
def test_session_scope_forgets_chains_between_sessions(cut: int) -> None:
    """Session u: 0 to 5 s, then 50 s on; the b at 50 s finds no entry."""
    short = SessionRules(gap=20 * SECOND, max_session=HOUR)
    rows: list[Row] = [("u", 0, "a"), ("u", 5, "x"), ("u", 50, "b"), ("u", 51, "a"), ("u", 52, "b")]
    batches = (rows[:cut], rows[cut:])
    in_session, _ = fold(funnel("ab", within=100, scope="session"), *batches, gap=short)
    assert arrivals(in_session) == [("u", 0, 0, 0), ("u", 0, 51, 51), ("u", 1, 51, 52)]
    in_person, _ = fold(funnel("ab", within=100), *batches, gap=short)
    assert arrivals(in_person)[1] == ("u", 1, 0, 50)


def test_chain_is_let_go_once_the_watermark_is_past_its_window() -> None:
    """At exactly the end of the window an event could still take it further."""
    rules, rows = funnel("ab"), [[("u", 0, "a")]]
    assert fold(rules, *rows, watermark=T0 + 10 * SECOND)[1].height == 1
    assert fold(rules, *rows, watermark=T0 + 10 * SECOND + 1)[1].height == 0
    assert fold(rules, *rows, watermark=FOREVER)[1].height == 0


def test_state_is_the_newest_chain_of_each_level_and_unused_chains_stay() -> None:
    rows: list[Row] = [("u", 0, "a"), ("u", 1, "b"), ("u", 2, "a"), ("v", 3, "a"), ("v", 4, "a")]
    _, chains = fold(funnel("abc"), rows, [("w", 5, "x")], [("w", 6, "a")])
    assert dict(chains.schema) == CHAINS
    seconds = ((pl.col("entered_us", "reached_us") - T0) // SECOND).cast(pl.Int64)
    assert sorted(chains.select("scope_id", "level", seconds).rows()) == [
        ("u", 0, 2, 2),
        ("u", 1, 0, 1),
        ("v", 0, 4, 4),
        ("w", 0, 6, 6),
    ]


def test_nothing_to_fold_writes_nothing_and_still_lets_chains_go() -> None:
    _, chains = fold(funnel("ab"), [("u", 0, "a")])
    none = np.empty(0, dtype=np.int64)
    kept = fold_funnel(pl.DataFrame(), none, chains, funnel("ab"), T0)
    assert (kept.reached.height, kept.chains.height) == (0, 1)
    assert dict(kept.reached.schema) == REACHED
    assert fold_funnel(pl.DataFrame(), none, chains, funnel("ab"), FOREVER).chains.height == 0
