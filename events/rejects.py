"""Why a record can't be read as an event, and the limit on how many may be so."""

from __future__ import annotations

import json
from collections.abc import Sequence

import polars as pl

from config import DeadLetterLimit
from errors import DeadLetterLimitError

REASONS = {
    "not_json": "the line is not JSON",
    "bad_utf8": "the line is not UTF-8 text",
    "not_an_object": "the line is JSON, but not an object",
    "bad_row": "the CSV row has another number of columns than the header",
    "too_large": "the record is longer than max_record_bytes",
    "no_time": "there is no event time",
    "bad_time": "the event time can't be read",
    "time_out_of_range": "the event time is before 1970 or after 9998",
    "future": "the event time is further ahead of its receipt than max_future",
    "no_person": "there is neither a user id nor a device id",
    "bad_person": "the id is a JSON object or list",
    "no_name": "there is no event name",
}


def explain_unreadable(raw: bytes) -> tuple[str, str]:
    """Say why a line gave no fields at all: reason and detail."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as problem:
        return "bad_utf8", f"byte {problem.start}"
    try:
        value = json.loads(text)
    except RecursionError:
        return "no_time", "the nesting is too deep to look into"
    except ValueError as problem:
        return "not_json", str(problem)
    if not isinstance(value, dict):
        return "not_an_object", type(value).__name__
    return "no_time", ""


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
