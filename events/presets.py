"""How source fields become canonical columns: one SQL expression per column, over the fields a record has.

The expressions run inside the JSON reader, so that a field which nobody asks for is never built.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from config import InputRules
from errors import ConfigError

MAPPED = (
    "event_id",
    "event_time",
    "received_at",
    "device_id",
    "user_id",
    "channel",
    "event_type",
    "event_name",
    "page",
    "referrer",
    "campaign",
    "properties",
)


@dataclass(frozen=True)
class Mapping:
    """`columns`: the reader's column types; `select`: canonical column -> SQL expression over them (all VARCHAR)."""

    columns: dict[str, str]
    select: dict[str, str]


_SEGMENT_COLUMNS = {
    "messageId": "VARCHAR",
    "type": "VARCHAR",
    "event": "VARCHAR",
    "name": "VARCHAR",
    "anonymousId": "VARCHAR",
    "userId": "VARCHAR",
    "previousId": "VARCHAR",
    "timestamp": "VARCHAR",
    "originalTimestamp": "VARCHAR",
    "receivedAt": "VARCHAR",
    "channel": "VARCHAR",
    "properties": "JSON",
    "traits": "JSON",
    "context": "STRUCT(channel VARCHAR, page STRUCT(path VARCHAR, url VARCHAR, referrer VARCHAR),"
    ' campaign STRUCT("name" VARCHAR), device STRUCT("type" VARCHAR), os STRUCT("name" VARCHAR),'
    ' library STRUCT("name" VARCHAR))',
}
_IS_VIEW = "\"type\" IN ('page', 'screen')"


def _segment_select(rules: InputRules) -> dict[str, str]:
    guess = (
        "CASE WHEN \"type\" = 'screen' OR lower(context.device.type) IN ('ios', 'android')"
        " OR lower(context.os.name) IN ('ios', 'android') OR context.library.name ILIKE '%android%'"
        " OR context.library.name ILIKE '%ios%' THEN 'mobile'"
        " WHEN \"type\" = 'page' OR context.library.name ILIKE '%.js' THEN 'web' ELSE " + _text(rules.channel) + " END"
    )
    return {
        "event_id": "messageId",
        "event_time": 'coalesce("timestamp", originalTimestamp)',
        "received_at": "receivedAt",
        "device_id": "coalesce(anonymousId, previousId)",
        "user_id": "userId",
        "channel": f"coalesce(nullif(channel, ''), nullif(context.channel, ''), {guess})",
        "event_type": '"type"',
        "event_name": "coalesce(nullif(\"event\", ''), nullif(\"name\", ''), " + _default_name(rules, '"type"') + ")",
        "page": f"coalesce(context.page.path, CASE WHEN {_IS_VIEW} THEN coalesce(json_extract_string(properties,"
        " '$.path'), context.page.url, json_extract_string(properties, '$.url')) END)",
        "referrer": f"coalesce(context.page.referrer, CASE WHEN {_IS_VIEW} THEN json_extract_string(properties,"
        " '$.referrer') END)",
        "campaign": "context.campaign.name",
        "properties": "CAST(coalesce(properties, traits) AS VARCHAR)",
    }


def build_mapping(rules: InputRules) -> Mapping:
    """Build the mapping of a preset, with the user's own `[input.fields]` laid over it; raises ConfigError."""
    if rules.format in ("segment", "rudderstack"):
        columns, select = dict(_SEGMENT_COLUMNS), _segment_select(rules)
        if rules.fields:
            extra, own = _free_select(rules, dict(rules.fields))
            for name, kind in extra.items():
                columns.setdefault(name, kind)
            select |= {canonical: own[canonical] for canonical in rules.fields}
        return Mapping(columns, select)
    if rules.format == "fields":
        if "event_time" not in rules.fields or not {"user_id", "device_id"} & rules.fields.keys():
            raise ConfigError(
                "[input] format = 'fields' needs to know the time and the person",
                remedy="add event_time and user_id or device_id under [input.fields]",
            )
        columns, select = _free_select(rules, dict(rules.fields))
        return Mapping(columns, select)
    raise ConfigError(f"[input] format = {rules.format!r} is unknown", remedy="use 'segment', 'rudderstack' or 'fields'")


def split_path(path: str) -> list[str]:
    """Split `a.b.c` at its dots; a key that holds a dot stands in backticks: `a.`b.c``."""
    return [part[1:-1] if part.startswith("`") else part for part in re.findall(r"`[^`]+`|[^.`]+", path)]


def _free_select(rules: InputRules, fields: dict[str, tuple[str, ...]]) -> tuple[dict[str, str], dict[str, str]]:
    columns: dict[str, str] = {}
    select: dict[str, str] = {}
    for canonical in MAPPED:
        options = []
        for path in fields.get(canonical, ()):
            head, *below = split_path(path)
            columns[head] = "JSON" if below or canonical == "properties" or columns.get(head) == "JSON" else "VARCHAR"
            options.append((head, below))
        select[canonical] = _coalesce(options, columns, canonical)
    # A column that one field reads whole and another one reaches into is JSON for both.
    for canonical in MAPPED:
        options = [(split_path(path)[0], split_path(path)[1:]) for path in fields.get(canonical, ())]
        select[canonical] = _coalesce(options, columns, canonical)
    if "channel" not in fields:
        select["channel"] = _text(rules.channel)
    else:
        select["channel"] = f"coalesce(nullif({select['channel']}, ''), {_text(rules.channel)})"
    named = select["event_name"] if "event_name" in fields else "NULL"
    kind = select["event_type"] if "event_type" in fields else "NULL"
    select["event_name"] = f"coalesce(nullif({named}, ''), {_default_name(rules, kind)})"
    return columns, select


def _coalesce(options: list[tuple[str, list[str]]], columns: dict[str, str], canonical: str) -> str:
    terms = []
    for head, below in options:
        name = quote(head)
        if below:
            terms.append(f"json_extract_string({name}, {_text(json_path(below))})")
        elif columns[head] == "JSON" and canonical != "properties":
            terms.append(f"json_extract_string({name}, '$')")
        else:
            terms.append(f"CAST({name} AS VARCHAR)")
    return f"coalesce({', '.join(terms)})" if len(terms) > 1 else (terms[0] if terms else "CAST(NULL AS VARCHAR)")


def json_path(keys: list[str]) -> str:
    """Write keys as a JSON path with every key quoted."""
    return "$" + "".join('."' + key.replace('"', '\\"') + '"' for key in keys)


def quote(name: str) -> str:
    """Quote an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _default_name(rules: InputRules, kind: str) -> str:
    return f"coalesce({kind}, {_text(rules.event_name)})" if rules.event_name else kind
