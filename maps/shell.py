"""SQL over the views of a warehouse, read only, with the result as text, JSON or CSV."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import TextIO

import duckdb

from errors import FormatError, UsageError
from maps.status import check_warehouse_exists
from sinks.catalog import open_views
from sinks.storage import Folders

WRITING = frozenset({"copy", "insert", "update", "delete", "merge", "create", "drop", "attach", "install", "load"})
READING = (duckdb.StatementType.SELECT, duckdb.StatementType.MULTI)  # MULTI: a PIVOT
EXPLAIN = re.compile(r"\s*explain\s+(analyze\s+)?", re.IGNORECASE)
NOT_JSON = re.compile(r"NaN|Infinity")
UTC_TEXT = "%Y-%m-%dT%H:%M:%S.%fZ"
FETCHED = 10_000
SHOWN = 60  # rows of a box
READ_ONLY = "one SELECT, DESCRIBE, SUMMARIZE, SHOW or EXPLAIN; open journeys.duckdb with DuckDB for anything else"


class Answer:
    """The result of a query that can be written in several ways; a context."""

    def __init__(self, folders: Folders, query: str) -> None:
        check_warehouse_exists(folders)
        self.connection, self.manifest = open_views(folders)
        self.connection.execute("SET TimeZone = 'UTC'")
        try:
            check_reading(query)
            self.relation = self.connection.sql(query)
        except duckdb.Error as problem:
            self.connection.close()
            raise explain_problem(problem) from problem
        if self.relation is None:
            raise UsageError("the query has no result", remedy=READ_ONLY)

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def show(self, width: int) -> None:
        """Print the rows as a box, the middle left out where there are many."""
        with _explained():
            if self.relation.columns == ["explain_key", "explain_value"]:
                sys.stdout.writelines(f"{text}\n" for _, text in self.relation.fetchall())
            else:
                self.relation.show(max_width=width, max_rows=SHOWN)

    def write_json(self, out: TextIO) -> None:
        """Write the rows as a JSON list of objects; times are ISO 8601, UTC."""
        names = self.relation.columns
        separator = "[\n"
        for row in self._fetch([f"CAST(to_json({self._plain(n)}) AS VARCHAR)" for n in range(len(names))]):
            values = (f"{json.dumps(name)}:{_mend(value)}" for name, value in zip(names, row, strict=True))
            out.write(separator + "{" + ",".join(values) + "}")
            separator = ",\n"
        out.write("[]\n" if separator == "[\n" else "\n]\n")

    def write_csv(self, out: TextIO) -> None:
        """Write a header and the rows as CSV; null is empty."""
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(self.relation.columns)
        writer.writerows(self._fetch([f"CAST({self._plain(n)} AS VARCHAR)" for n in range(len(self.relation.columns))]))

    def _plain(self, number: int) -> str:
        name = f"c{number}"
        timed = str(self.relation.types[number]) == "TIMESTAMP WITH TIME ZONE"
        return f"strftime({name}, '{UTC_TEXT}')" if timed else name

    def _fetch(self, columns: list[str]) -> Iterator[tuple[str | None, ...]]:
        # Numbered names, as a query may give two columns one name.
        names = ", ".join(f"c{number}" for number in range(len(columns)))
        with _explained():
            answer_of_query = self.relation  # found by DuckDB under this name
            self.connection.execute(f"SELECT {', '.join(columns)} FROM answer_of_query AS a({names})")
            del answer_of_query
            while rows := self.connection.fetchmany(FETCHED):
                yield from rows


@contextmanager
def _explained() -> Iterator[None]:
    """Turn DuckDB's errors into ours."""
    try:
        yield
    except duckdb.Error as problem:
        raise explain_problem(problem) from problem


def check_reading(query: str) -> None:
    """Raise UsageError unless the query is one statement that only reads."""
    with _explained():
        kinds = _list_kinds(query)
        if len(kinds) != 1:
            raise UsageError(f"the query has {len(kinds)} statements", remedy=READ_ONLY)
        if kinds == [duckdb.StatementType.EXPLAIN] and (match := EXPLAIN.match(query)):
            kinds = _list_kinds(query[match.end() :])
        if kinds[0] not in READING or _writes_inside(query):
            raise UsageError("`journeys sql` only reads", remedy=READ_ONLY)


def _list_kinds(query: str) -> list[duckdb.StatementType]:
    kinds = [statement.type for statement in duckdb.extract_statements(query)]
    # DuckDB 1 makes two of a PIVOT: one for a type of its own, one that selects.
    pivot = [duckdb.StatementType.CREATE, duckdb.StatementType.SELECT]
    return pivot[1:] if kinds == pivot and "create" not in _list_keywords(query) else kinds


def _list_keywords(query: str) -> list[str]:
    """List keywords in lower case, and other tokens as what they begin with; comments are left out."""
    words = []
    for start, kind in duckdb.tokenize(query):
        if kind != duckdb.token_type.comment:
            word = re.match(r"\w+|\S", query[start:])
            text = word[0].lower() if word else ""
            words.append(text if kind == duckdb.token_type.keyword or not text.isalnum() else "")
    return words


def _writes_inside(query: str) -> bool:
    # DuckDB 2 takes `WITH x AS (COPY … TO …) SELECT` for a SELECT.
    words = _list_keywords(query)
    return any(before == "(" and word in WRITING for before, word in pairwise(words))


def explain_problem(problem: duckdb.Error) -> UsageError | FormatError:
    """Make DuckDB's error one of ours: the query is wrong, or a file is."""
    text = str(problem).strip()
    if isinstance(problem, duckdb.IOException):
        return FormatError(f"a data file can't be read: {text}", remedy="was a file removed? see `journeys check`")
    return UsageError(text, remedy='`journeys sql "SHOW TABLES"` lists the views; docs/tables.md describes them')


def _mend(value: str | None) -> str:
    if value is None:
        return "null"
    # DuckDB writes NaN and infinities as bare words, which JSON does not have.
    return json.dumps(json.loads(value, parse_constant=lambda _: None)) if NOT_JSON.search(value) else value
