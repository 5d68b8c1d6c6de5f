"""SQL over the views reads everything, writes nothing, and gives its rows as JSON and CSV that others can read."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from errors import FormatError, UsageError
from maps.shell import Answer, check_reading
from sinks.storage import Folders
from tests.sample_warehouse import get_finished


@pytest.fixture
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(get_finished(tmp_path_factory))


def ask_json(folders: Folders, query: str) -> Any:
    out = io.StringIO()
    with Answer(folders, query) as answer:
        answer.write_json(out)
    return json.loads(out.getvalue())


def ask_csv(folders: Folders, query: str) -> list[list[str]]:
    out = io.StringIO()
    with Answer(folders, query) as answer:
        answer.write_csv(out)
    return list(csv.reader(io.StringIO(out.getvalue())))


def test_json_keeps_types_and_times_are_iso_utc(folders: Folders) -> None:
    query = """SELECT 1 AS n, 'x"y' AS t, [1, NULL] AS l, {'a': 1.5} AS s, NULL AS z,
               TIMESTAMPTZ '2026-01-02 03:04:05.5+01' AS at, DATE '2026-01-02' AS d"""
    assert ask_json(folders, query) == [
        {
            "n": 1,
            "t": 'x"y',
            "l": [1, None],
            "s": {"a": 1.5},
            "z": None,
            "at": "2026-01-02T02:04:05.500000Z",
            "d": "2026-01-02",
        }
    ]


def test_what_json_can_not_say_is_null(folders: Folders) -> None:
    query = "SELECT 'nan'::DOUBLE AS a, ['inf'::DOUBLE, 1] AS b, 'NaN' AS c"
    assert ask_json(folders, query) == [{"a": None, "b": [None, 1.0], "c": "NaN"}]


def test_no_rows_are_an_empty_list_and_a_header(folders: Folders) -> None:
    assert ask_json(folders, "SELECT 1 AS a WHERE false") == []
    assert ask_csv(folders, "SELECT 1 AS a WHERE false") == [["a"]]


def test_csv_quotes_and_leaves_null_empty(folders: Folders) -> None:
    assert ask_csv(folders, "SELECT 'a,\"b\"' AS x, NULL AS y") == [["x", "y"], ['a,"b"', ""]]


def test_two_columns_may_have_one_name(folders: Folders) -> None:
    assert ask_csv(folders, "SELECT 1 AS a, 2 AS a") == [["a", "a"], ["1", "2"]]


def test_many_rows_arrive_whole(folders: Folders) -> None:
    assert [row["n"] for row in ask_json(folders, "SELECT range AS n FROM range(25000)")] == list(range(25_000))


@pytest.mark.parametrize(
    "query",
    [
        "FROM sessions",
        "DESCRIBE sessions",
        "SUMMARIZE SELECT 1 AS x",
        "SHOW TABLES",
        "EXPLAIN SELECT 1",
        "explain analyze select 1",
        "PIVOT (SELECT 1 AS a, 2 AS b) ON a",
        '-- a comment\nSELECT lower(\'(copy\'), "copy" FROM (SELECT 1 AS "copy") -- (delete',
        "SELECT 1;",
    ],
)
def test_queries_that_read_are_answered(folders: Folders, query: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert len(ask_csv(folders, query)) > 1
    with Answer(folders, query) as answer:
        answer.show(100)
    assert capfd.readouterr().out


@pytest.mark.parametrize(
    "query",
    [
        "CREATE TABLE t (a INT)",
        "COPY (SELECT 1) TO 'x.csv'",
        "WITH x AS (COPY (SELECT 1) TO 'x.csv') SELECT * FROM x",
        "WITH x AS MATERIALIZED ( /* hm */ COPY (SELECT 1) TO 'x.csv') SELECT * FROM x",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO 'x.csv'",
        "ATTACH 'x.duckdb'",
        "SET threads = 1",
        "SELECT 1; SELECT 2",
        "",
    ],
)
def test_queries_that_write_are_refused(query: str) -> None:
    with pytest.raises(UsageError):
        check_reading(query)


@pytest.mark.parametrize("query", ["selct", "SELECT * FROM nowhere", "SELECT nothing FROM sessions"])
def test_a_wrong_query_is_wrong_use(folders: Folders, query: str) -> None:
    with pytest.raises(UsageError, match="Error"):
        Answer(folders, query)


def test_a_file_that_is_missing_is_a_failure(folders: Folders) -> None:
    with pytest.raises(FormatError, match="can't be read"):
        ask_csv(folders, "SELECT * FROM read_parquet('/nowhere/x.parquet')")
