"""CSV: records and cells by the rules of the page, and the fast way equal to the plain one."""

from __future__ import annotations

import csv
import io

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from events.csvrows import find_record_ends, name_columns, read_rows, split_cells, split_records

LIMIT = 1 << 20
PIECES = [b"a", b"bc", b",", b",", b"\n", b"\n", b'"', b'""', b'"x"', b'"x,y"', b'"x\ny"', b"\r", b"\r\n", b"\0"]
TEXTS = st.lists(st.sampled_from([*PIECES, b"\xff", "é".encode(), b" ", b'"a""b"']), max_size=25).map(b"".join)


@pytest.mark.parametrize(
    ("record", "cells"),
    [
        (b"a,b", [b"a", b"b"]),
        (b"", [b""]),
        (b",", [b"", b""]),
        (b'"a,b",c', [b"a,b", b"c"]),
        (b'"a\nb"', [b"a\nb"]),
        (b'"a""b"', [b'a"b']),
        (b'""', [b""]),
        (b'""""', [b'"']),
        (b'5" pipe,x', [b'5" pipe', b"x"]),
        (b'a"b,c"d', [b'a"b', b'c"d']),
        (b'"a"b,c', [b"ab", b"c"]),
        (b' "a",b', [b' "a"', b"b"]),
        (b"a\rb,c", [b"a\rb", b"c"]),
        (b'"open', None),
        (b'a,"open""', None),
    ],
)
def test_cells_of_a_record(record: bytes, cells: list[bytes] | None) -> None:
    assert split_cells(record) == cells


@pytest.mark.parametrize(
    ("text", "records"),
    [
        (b"a\nb\n", [b"a", b"b"]),
        (b"a\r\nb", [b"a", b"b"]),
        (b"a\n\nb\n", [b"a", b"", b"b"]),
        (b'"a\nb"\nc\n', [b'"a\nb"', b"c"]),
        (b'5" pipe\nb"\nc', [b'5" pipe', b'b"', b"c"]),
        (b'x,"open\nb,c\nd,e\n', [b'x,"open', b"b,c", b"d,e"]),
        (b'x,"open\nb,"c"\nd,e\n', [b'x,"open', b'b,"c"', b"d,e"]),
        (b'x,"two\nlines"\r\nd,e\n', [b'x,"two\nlines"', b"d,e"]),
        (b'"a\r\nb"\r\n', [b'"a\r\nb"']),
        (b"", []),
    ],
)
def test_records_of_a_text(text: bytes, records: list[bytes]) -> None:
    assert split_records(text, LIMIT) == records


def test_record_longer_than_the_limit_ends_with_its_first_line() -> None:
    text = b'"' + b"a" * 10 + b"\n" + b"b" * 20 + b'"\nc\n'
    assert split_records(text, 100) == [text[:-3], b"c"]
    assert split_records(text, 20) == [b'"' + b"a" * 10, b"b" * 20 + b'"', b"c"]


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.integers(1, 3), st.sampled_from([5, 12, 1000]))
@example(b'"a"\n"b', 2, 1000)
def test_fast_and_plain_way_read_the_same_rows(text: bytes, width: int, limit: int) -> None:
    header = ("a", "b", "c")[:width]
    rows, lines, bad = [], [], []
    ends = [0, *find_record_ends(text, limit, final=True).tolist()]
    for number, record in enumerate(split_records(text, limit)):
        cells = split_cells(record)
        if len(text[ends[number] : ends[number + 1]].removesuffix(b"\n")) > limit:
            bad.append((number, "too_large"))
        elif not record.strip(b" \t\r\n\v\f"):
            continue
        elif cells is None or len(cells) != width:
            bad.append((number, "bad_row"))
        elif b"\xff" in record:
            bad.append((number, "bad_utf8"))
        else:
            rows.append(tuple(cell.decode() for cell in cells))
            lines.append(number)
    found = read_rows(text, header, limit)
    assert found.frame.rows() == rows
    assert (found.lines if found.lines is not None else list(range(found.frame.height))) == lines
    assert [(number, reason) for number, reason, _ in found.bad] == bad


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.integers(0, 60), st.sampled_from([5, 12, 1000]))
def test_what_is_decided_early_is_never_taken_back(text: bytes, at: int, limit: int) -> None:
    early = find_record_ends(text[:at], limit, final=False).tolist()
    assert find_record_ends(text, limit, final=True).tolist()[: len(early)] == early


def test_many_rows_with_quotes_and_newlines_equal_the_csv_module() -> None:
    rows = [
        (
            f"id{i}",
            "name, with comma" if i % 7 == 0 else "x",
            "two\nlines" if i % 11 == 0 else 'q"q' if i % 13 == 0 else "",
        )
        for i in range(60_000)
    ]
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    found = read_rows(text.getvalue().encode(), ("a", "b", "c"), LIMIT)
    assert found.lines is None
    assert found.bad == []
    assert found.frame.equals(pl.DataFrame(rows, schema=["a", "b", "c"], orient="row"))


def test_one_bad_row_does_not_cost_its_neighbours() -> None:
    lines = [b"a,1", b"b", b'c,"x', b"d,4,5", b"", b"e,\xff", b"f,6", b'g,"7"', b"h,8"]
    found = read_rows(b"\n".join(lines), ("k", "v"), LIMIT)
    assert found.frame.rows() == [("a", "1"), ("f", "6"), ("g", "7"), ("h", "8")]
    assert found.lines == [0, 6, 7, 8]
    assert found.bad == [
        (1, "bad_row", "1 columns, the header has 2"),
        (2, "bad_row", "a quote does not end"),
        (3, "bad_row", "3 columns, the header has 2"),
        (5, "bad_utf8", "byte 2"),
    ]


def test_columns_get_names_of_their_own() -> None:
    assert name_columns(["", "a", " a ", "a_2", "", "A"]) == ("column_1", "a", "a_2", "a_2_2", "column_5", "A")


def test_ends_are_offsets_after_the_newline() -> None:
    assert np.array_equal(find_record_ends(b"ab\nc\nd", LIMIT, final=False), [3, 5])
    assert np.array_equal(find_record_ends(b"ab\nc\nd", LIMIT, final=True), [3, 5, 6])
