"""Every kind of damage mixed into good records: nothing crashes, everything is counted, no neighbour notices."""

from __future__ import annotations

from pathlib import Path

import pytest

from events.rejects import REASONS
from tests.support.damage import BLANK_LINE, DEAD, KEPT, ODD
from tests.support.mixing import Tables, count_ledger, find_differences, list_dead, mix, replay_lines

MIXTURE = mix(6_000, seed=1)
LARGE, SMALL = 8 << 20, 256 << 10


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """Return the tables of the damaged file."""
    return replay_lines(MIXTURE.lines, tmp_path_factory.mktemp("bad") / "damaged", LARGE)


def test_kinds_are_many_and_all_are_there() -> None:
    assert len(DEAD) >= 70
    assert len({damage.name for damage in [*DEAD, *ODD]}) == len(DEAD) + len(ODD)
    assert {damage.name for damage in MIXTURE.damages if damage} == {damage.name for damage in [*DEAD, *ODD]}
    assert {damage.fate for damage in DEAD} <= set(REASONS)
    assert {damage.fate for damage in ODD} == {KEPT, BLANK_LINE}


@pytest.mark.slow
def test_everything_is_counted_once(tables: Tables) -> None:
    ledger = count_ledger(tables)
    assert ledger["received"] == MIXTURE.count_records()
    assert ledger["received"] == ledger["accepted"] + ledger["duplicate"] + ledger["late"] + ledger["dead"]
    assert ledger["dead"] == len(MIXTURE.expect_dead())
    assert (ledger["late"], ledger["duplicate"]) == (0, 0)


@pytest.mark.slow
def test_every_dead_letter_has_its_reason_place_and_bytes(tables: Tables) -> None:
    assert list_dead(tables) == MIXTURE.expect_dead()


@pytest.mark.slow
def test_good_records_give_the_tables_that_they_give_alone(tables: Tables, tmp_path: Path) -> None:
    alone = replay_lines(MIXTURE.without_dead(), tmp_path / "alone", LARGE)
    assert find_differences(tables, alone) == []
    assert count_ledger(alone)["dead"] == 0


@pytest.mark.slow
def test_dead_letters_do_not_depend_on_how_the_file_is_cut(tables: Tables, tmp_path: Path) -> None:
    others = replay_lines(MIXTURE.lines, tmp_path / "small", SMALL)
    assert find_differences(tables, others) == []
    assert list_dead(others) == list_dead(tables)
    assert sorted(map(repr, others["dead_letters"].rows())) == sorted(map(repr, tables["dead_letters"].rows()))
