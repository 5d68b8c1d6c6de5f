"""Small pieces of input, decoded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import Any

import polars as pl

from clock import to_us
from config import InputRules
from events.canonical import Decoded
from events.decode import make_decoder
from events.raw import RawBlock

NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)
Row = dict[str, Any]


def track(**changes: Any) -> Row:
    """Make a good record, with changes; a field that is changed to `...` is left out."""
    record = {"type": "track", "event": "E", "userId": "u", "timestamp": "2026-01-05T10:11:12Z"} | changes
    return {name: value for name, value in record.items() if value is not ...}


def decode(payload: bytes | pl.DataFrame, rules: InputRules | None = None, **block: Any) -> Decoded:
    """Decode one block of a file called `f` in the partition `lane-000`."""
    given = rules or InputRules()
    kind = block.pop("kind", "ndjson" if isinstance(payload, bytes) else "parquet")
    place = {"source": "f", "partition": "lane-000", "first_position": 0, "limit": given.max_record_bytes} | block
    return make_decoder(given, (), to_us(NOW))(RawBlock(kind=kind, payload=payload, **place))


def decode_records(records: Iterable[Row], rules: InputRules | None = None) -> Decoded:
    """Decode records that are written as JSON lines."""
    return decode(b"".join(json.dumps(record).encode() + b"\n" for record in records), rules)


def read_events(decoded: Decoded) -> list[Row]:
    """Return the events as rows of text; a column that is left out is null."""
    columns = ("event_id", "person_id", "device_id", "user_id", "channel", "event_type", "event_name", "step", "page")
    rows = decoded.events.with_columns(pl.col(pl.Categorical).cast(pl.String)).rows(named=True)
    return [dict.fromkeys((*columns, "referrer", "campaign", "properties", "received_at")) | row for row in rows]


def read_event(record: Row, rules: InputRules | None = None) -> Row:
    """Return the one event of a record; fails if it became a dead letter."""
    decoded = decode_records([record], rules)
    assert decoded.dead.height == 0, decoded.dead.rows(named=True)
    (row,) = read_events(decoded)
    return row


def read_reasons(decoded: Decoded) -> list[str]:
    """Return the reasons of the dead letters, in order."""
    return decoded.dead["reason"].to_list()


def free(columns: Sequence[str] = (), **fields: str | Sequence[str]) -> InputRules:
    """Make a free mapping; `columns` are mapped to columns of their own names."""
    paths = {name: name for name in columns} | fields
    return InputRules(format="fields", fields={k: (v,) if isinstance(v, str) else tuple(v) for k, v in paths.items()})
