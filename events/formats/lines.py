"""Text of a format whose records come as tab-separated lines or as lines of JSON, even side by side."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass

import polars as pl

from events.formats.snowplow import SELF_DESCRIBING
from events.ndjson import BLANK, MARK, read_ndjson
from events.presets import Mapping
from events.tabular import select_text

_SELF_DESCRIBING = re.compile(rb'"(' + SELF_DESCRIBING.encode() + rb'[a-z0-9_]+)"(?=\s*:)')
Bad = tuple[int, str, str]


@dataclass(frozen=True)
class TextRows:
    """Rows of a block of lines: `lines` is each row's line number, None where that is 0, 1, 2, …

    `bad` holds (line number, reason, detail) of what is no row; blank lines are in neither.
    """

    frame: pl.DataFrame
    lines: list[int] | None
    bad: list[Bad]


def read_lines(payload: bytes, mapping: Mapping, limit: int) -> TextRows:
    """Read lines into text columns named as `mapping.select`; a line is JSON, or tab-separated if it holds a tab."""
    payload = _rename_keys(payload, mapping)
    if b"\t" not in payload:
        return TextRows(*read_ndjson(payload, mapping, limit), [])
    json: dict[int, bytes] = {}
    tabbed: dict[int, bytes] = {}
    bad: list[Bad] = []
    for number, line in enumerate(payload.split(b"\n")):
        if not line.strip(BLANK):
            continue
        if b"\t" not in line or line.removeprefix(MARK).lstrip()[:1] in (b"{", b"["):
            json[number] = line
            continue
        row, reason, detail = _check(line, len(mapping.tabs))
        if reason:
            bad.append((number, reason, detail))
        else:
            tabbed[number] = row
    table, lines, untimed = _read_tabbed(tabbed, mapping)
    text, _ = read_ndjson(b"\n".join(json.values()), mapping, limit)
    numbers = pl.Series([*lines, *json], dtype=pl.Int64)
    order = numbers.arg_sort()
    return TextRows(pl.concat([table, text])[order], numbers.gather(order).to_list(), bad + untimed)


def _rename_keys(payload: bytes, mapping: Mapping) -> bytes:
    """Give a self-describing event's key, which holds its schema, one name; what the user maps by name stays."""
    if SELF_DESCRIBING.encode() not in payload:
        return payload
    kept = {name.encode() for name in mapping.columns if name.startswith(SELF_DESCRIBING)}
    bare = SELF_DESCRIBING.removesuffix("_").encode()
    return _SELF_DESCRIBING.sub(lambda key: key[0] if key[1] in kept else b'"' + bare + b'"', payload)


def _check(line: bytes, width: int) -> tuple[bytes, str, str]:
    row = line.removeprefix(MARK).removesuffix(b"\r")
    cells = row.count(b"\t") + 1
    if cells != width:
        return row, "bad_row", f"{cells} columns, the format has {width}"
    try:
        row.decode()
    except UnicodeDecodeError as problem:
        return row, "bad_utf8", f"byte {problem.start}"
    return row, "", ""


def _read_tabbed(rows: dict[int, bytes], mapping: Mapping) -> tuple[pl.DataFrame, list[int], list[Bad]]:
    wanted = [at for at, name in enumerate(mapping.tabs) if name in mapping.columns]
    if not rows or not wanted:
        return pl.DataFrame(schema=dict.fromkeys(mapping.select, pl.String)), [], [(i, "no_time", "") for i in rows]
    schema = dict.fromkeys(mapping.tabs, pl.String)
    payload = io.BytesIO(b"\n".join(rows.values()))
    frame = pl.read_csv(payload, separator="\t", quote_char=None, has_header=False, schema=schema, columns=wanted)
    text = select_text(frame, mapping)
    # Told here: of a line that has no time, the JSON reader's side would say that it is no JSON.
    timed = (text["event_time"].str.strip_chars() != "").fill_null(False)
    numbers = pl.Series(list(rows), dtype=pl.Int64)
    untimed = [(line, "no_time", "") for line in numbers.filter(~timed).to_list()]
    return text.filter(timed), numbers.filter(timed).to_list(), untimed
