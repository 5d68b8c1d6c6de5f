"""The hashes that ids and key groups are made of: equal to a plain reference, and never changing."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.hashing import hash_strings, key_groups, mix, to_hex
from tests.support.hashing_reference import hash_text, make_id, mix_words

SEEDS = st.sampled_from([0, 1, 2, 2**63])
TEXTS = st.one_of(
    st.none(), st.text(max_size=6), st.text(max_size=40), st.sampled_from(["", "ü" * 6, "x" * 8, "x" * 12])
)
VECTORS = {
    "": 0x0000000000000000,
    "a": 0xEF84DBA91E6652DF,
    "user-42": 0xDBF51737FF31EA95,
    "8 bytes!": 0xB4FF56D6C73A2AB8,
    "twelve bytes": 0x9E331C6B6DFAC09B,
    "thirteen byte": 0x34468772F31B3906,
    "anonymous-7f3c9b2e-aaaa-bbbb-cccc-0123456789ab": 0xD99031B018951469,
    "Käufer Ünïcode 客户": 0xA52E8F4C7847C5D5,
    "\0": 0xFDC71BA11F1623D2,
}


def hash_list(column: pl.Series, seed: int = 0) -> list[int]:
    return [int(value) for value in hash_strings(column, seed)]


@settings(max_examples=150, deadline=None)
@given(texts=st.lists(TEXTS, max_size=30), seed=SEEDS, cut=st.integers(0, 30), parts=st.integers(1, 4))
def test_hash_is_the_reference_for_any_text_slice_and_chunks(
    texts: list[str | None], seed: int, cut: int, parts: int
) -> None:
    """Short, long, empty, null and non-ASCII strings; whole, sliced, and in several chunks."""
    column = pl.Series(texts, dtype=pl.String)
    expected = [hash_text(text, seed) for text in texts]
    assert hash_list(column, seed) == expected
    assert hash_list(column.slice(cut), seed) == expected[cut:]
    assert hash_list(column.slice(0, cut), seed) == expected[:cut]
    chunked = pl.concat([column[start::parts] for start in range(parts)], rechunk=False)
    assert hash_list(chunked, seed) == [value for start in range(parts) for value in expected[start::parts]]
    reversed_rows = column.gather(list(range(len(texts)))[::-1]) if texts else column
    assert hash_list(reversed_rows, seed) == expected[::-1]


@pytest.mark.parametrize("text", VECTORS)
def test_hash_never_changes(text: str) -> None:
    """A warehouse of an older version keeps its ids and key groups."""
    assert hash_list(pl.Series([text])) == [VECTORS[text]]
    assert hash_text(text) == VECTORS[text]


def test_length_counts_beside_the_padded_bytes() -> None:
    """Zero padding makes no two strings equal."""
    texts = ["", "\0", "\0\0", "a", "a\0", "a" * 8, "a" * 8 + "\0"]
    assert len(set(hash_list(pl.Series(texts)))) == len(texts)


def test_null_has_a_hash_of_its_own() -> None:
    assert hash_list(pl.Series(["", None], dtype=pl.String))[1] == 0xD6E8FEB86659FD93
    assert hash_list(pl.Series([None], dtype=pl.String), seed=5) == [0xD6E8FEB86659FD93 ^ 5]
    assert hash_list(pl.Series([], dtype=pl.String)) == []


def test_long_strings_at_the_very_end_of_their_buffer() -> None:
    """Words that would reach past the last byte of the text are read all the same, for every remainder of eight."""
    for length in range(1, 40):
        texts = ["z" * 100, "y" * length]
        assert hash_list(pl.Series(texts)) == [hash_text(text) for text in texts], length
        assert hash_list(pl.Series(texts[1:])) == [hash_text(texts[1])], length


def test_many_buffers_of_long_strings_are_told_apart() -> None:
    """Strings gathered from frames that were read apart lie in different buffers."""
    parts = [pl.Series([f"part {part} row {row} of a longer text" for row in range(50)]) for part in range(5)]
    column = pl.concat(parts, rechunk=False).gather([249, 0, 50, 199, 100, 1])
    assert hash_list(column) == [hash_text(text) for text in column]


@given(words=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4), seed=SEEDS)
def test_mix_is_the_reference(words: list[int], seed: int) -> None:
    columns = [np.array([word], dtype=np.uint64) for word in words]
    assert int(mix(*columns, seed=seed)[0]) == mix_words(*words, seed=seed)


def test_ids_are_the_two_mixes_in_hex_and_the_order_of_parts_counts() -> None:
    one, two = np.array([1, 3], dtype=np.uint64), np.array([2, 2**64 - 1], dtype=np.uint64)
    ids = to_hex(mix(one, two, seed=1), mix(one, two, seed=2)).to_list()
    assert ids == [make_id(1, 2, seeds=(1, 2)), make_id(3, -1, seeds=(1, 2))]
    assert ids[0] != make_id(2, 1, seeds=(1, 2))
    assert to_hex(np.array([1], dtype=np.uint64), np.array([0xABC], dtype=np.uint64)).to_list() == [
        "00000000000000010000000000000abc"
    ]
    assert to_hex(one[:0], two[:0]).dtype == pl.String


@pytest.mark.parametrize("groups", [1, 2, 3, 8, 64])
def test_key_groups_are_in_range_and_balanced(groups: int) -> None:
    """20,000 numbered persons spread over the groups with no group off by more than a fifth."""
    persons = pl.Series([f"user-{number}" for number in range(20_000)])
    found = key_groups(hash_strings(persons), groups)
    counts = np.bincount(found, minlength=groups)
    assert len(counts) == groups
    assert counts.min() > 0.8 * 20_000 / groups
    assert counts.max() < 1.2 * 20_000 / groups


def test_key_group_is_the_upper_half_of_the_hash_scaled() -> None:
    hashes = np.array([0, 2**63 - 1, 2**63, 2**64 - 1], dtype=np.uint64)
    assert key_groups(hashes, 2).tolist() == [0, 0, 1, 1]
    assert key_groups(hashes, 64).tolist() == [0, 31, 32, 63]
