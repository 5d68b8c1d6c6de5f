"""Why a record can't be read as an event, and the limit on how many may be so."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import numpy as np
import polars as pl

from config import DeadLetterLimit
from errors import DeadLetterLimitError
from events.engine import Engine
from events.hashing import read_first_bytes

REASONS = {
    "not_json": "the line is not JSON",
    "bad_utf8": "the record is not UTF-8 text",
    "not_an_object": "the line is JSON, but not an object",
    "bad_row": "the row has another number of columns than its header or format, or a quote that does not end",
    "too_large": "the record is longer than max_record_bytes",
    "no_time": "there is no event time",
    "bad_time": "the event time can't be read",
    "time_out_of_range": "the event time is before 1970 or after 9998",
    "future": "the event time is further ahead of its receipt than max_future",
    "no_person": "there is neither a user id nor a device id",
    "bad_person": "the id is a JSON object or array",
    "no_name": "there is no event name",
    "bad_name": "the event name is a JSON object or array",
    "reserved_name": "the event is named (start) or (end), which stand for a session's beginning and end",
}
TYPE_NAMES = {list: "array", str: "string", bool: "boolean", float: "number", type(None): "null"}
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_TYPED = re.compile(r'\{\s*["}]|\[\s*(?:["{\[\]\-\d]|true|false|null)')


_checker = Engine()


def explain_unreadable(raw: bytes) -> tuple[str, str]:
    """Say why a line gave no event time: reason and detail."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        return "bad_utf8", f"byte {problem.start}"
    try:
        # A whole number of thousands of digits is no fault of the line.
        value = json.loads(text, parse_int=float)
    except RecursionError:
        return _explain_deep(text)
    except ValueError as problem:
        return "not_json", str(problem)
    if not isinstance(value, dict):
        return "not_an_object", TYPE_NAMES[type(value)]
    if _SURROGATE.search(text) and not _is_text(value):
        return "bad_utf8", "half of a surrogate pair"
    return "no_time", ""


def find_nested(text: pl.Series) -> pl.Series:
    """Tell which values are the JSON text of an object or array, where an id or a name should be; n -> n Boolean.

    `{6F9619FF-8B86}` and `[Amplitude] Page Viewed` are not JSON, and so no objects.
    """
    first = read_first_bytes(text)
    suspected = (first == ord("{")) | (first == ord("["))
    rows = np.flatnonzero(suspected)
    if rows.size:
        suspected[rows] = [_is_nested(value) for value in text.gather(rows)]
    return pl.Series(suspected)


def _is_nested(value: str) -> bool:
    if not _TYPED.match(value):
        return False
    try:
        json.loads(value, parse_int=float)
    except RecursionError:
        return True
    except ValueError:
        return False
    return True


def _is_text(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    except RecursionError:
        return True
    return True


def _explain_deep(text: str) -> tuple[str, str]:
    # Python's parser is recursive, DuckDB's is not.
    if not _ask("SELECT json_valid($1)", text):
        return "not_json", "deeply nested"
    kind = _ask("SELECT json_type($1)", text)
    return ("no_time", "deeply nested") if kind == "OBJECT" else ("not_an_object", "array")


def _ask(question: str, text: str) -> object:
    row = _checker.connection.execute(question, [text]).fetchone()
    return row[0] if row else None


def check_limit(limit: DeadLetterLimit, received: int, dead: int, latest: pl.DataFrame) -> None:
    """Raise DeadLetterLimitError once `count` records are dead and they are more than `share` of all."""
    if dead < limit.count or dead <= limit.share * received:
        return
    raise DeadLetterLimitError(
        f"{dead:,} of {received:,} records could not be read; the latest: {_describe(latest.tail(3).rows(named=True))}",
        remedy="check [input] format and fields; to go on all the same, raise count or share under [dead_letters]",
    )


def _describe(rows: Sequence[dict[str, object]]) -> str:
    return "; ".join(
        f"{row['source']} record {int(str(row['source_position'])) % (1 << 40)}: {row['reason']}"
        f"{' (' + str(row['detail']) + ')' if row['detail'] else ''}"
        for row in rows
    )
