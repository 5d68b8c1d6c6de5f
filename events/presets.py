"""How source fields become canonical columns: one SQL expression per column, over the fields a record has.

The expressions run inside the JSON reader, so that a field which nobody asks for is never built.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping as Lookup
from dataclasses import dataclass
from types import MappingProxyType

from config import InputRules
from errors import ConfigError
from events.formats.base import MOBILE as _MOBILE
from events.formats.base import WEB as _WEB
from events.formats.base import Format, json_path, quote, split_path
from events.formats.base import text as _text
from events.formats.registry import FORMATS

__all__ = ["MAPPED", "Mapping", "build_mapping", "json_path", "quote", "split_path"]

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
    """`columns`: the reader's column types; `select`: canonical column -> SQL expression over them (all VARCHAR).

    `uses`: canonical column -> the reader's columns that it is made from; `tabs`: see `Format`.
    """

    columns: dict[str, str]
    select: dict[str, str]
    uses: dict[str, tuple[str, ...]]
    tabs: tuple[str, ...] = ()


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
_SEGMENT_USES = {
    "event_id": ("messageId",),
    "event_time": ("timestamp", "originalTimestamp"),
    "received_at": ("receivedAt",),
    "device_id": ("anonymousId", "previousId"),
    "user_id": ("userId",),
    "channel": ("channel", "context", "type"),
    "event_type": ("type",),
    "event_name": ("event", "name", "type"),
    "page": ("context", "type", "properties"),
    "referrer": ("context", "type", "properties"),
    "campaign": ("context",),
    "properties": ("properties", "traits"),
}
_NOTHING: Lookup[str, str] = MappingProxyType({})
Reach = Callable[[str], str]


def _reach_struct(path: str) -> str:
    return "context." + ".".join(quote(key) for key in path.split("."))


def _reach_json(path: str) -> str:
    return f"json_extract_string(context, {_text(json_path(path.split('.')))})"


def _segment_select(rules: InputRules, context: Reach = _reach_struct) -> dict[str, str]:
    """Build the preset's expressions; `context` reaches into the record's context, a struct or JSON."""
    library, view = context("library.name"), "\"type\" IN ('page', 'screen')"
    systems = [f"lower({context(path)}) IN ('ios', 'ipados', 'android')" for path in ("device.type", "os.name")]
    guess = (
        f"CASE WHEN \"type\" = 'screen' OR {' OR '.join(systems)} OR regexp_matches({library}, '{_MOBILE}', 'i')"
        f" THEN 'mobile' WHEN \"type\" = 'page' OR regexp_matches({library}, '{_WEB}', 'i') THEN 'web'"
        f" ELSE {_text(rules.channel)} END"
    )
    return {
        "event_id": "messageId",
        "event_time": 'coalesce("timestamp", originalTimestamp)',
        "received_at": "receivedAt",
        "device_id": "coalesce(anonymousId, previousId)",
        "user_id": "userId",
        "channel": f"coalesce(nullif(channel, ''), nullif({context('channel')}, ''), {guess})",
        "event_type": '"type"',
        "event_name": _name_event(rules, '"event"', "nullif(\"name\", '')", '"type"'),
        "page": f"coalesce({context('page.path')}, CASE WHEN {view} THEN coalesce(json_extract_string(properties,"
        f" '$.path'), {context('page.url')}, json_extract_string(properties, '$.url')) END)",
        "referrer": f"coalesce({context('page.referrer')}, CASE WHEN {view} THEN json_extract_string(properties,"
        " '$.referrer') END)",
        "campaign": context("campaign.name"),
        "properties": "CAST(coalesce(properties, traits) AS VARCHAR)",
    }


def _name_event(rules: InputRules, named: str, *fallbacks: str) -> str:
    terms = [f"nullif({named}, '')", *fallbacks, *([_text(rules.event_name)] if rules.event_name else [])]
    return f"coalesce({', '.join(terms)})"


def build_mapping(rules: InputRules) -> Mapping:
    """Build the mapping of a preset, with the user's own `[input.fields]` laid over it; raises ConfigError."""
    if rules.format in ("segment", "rudderstack"):
        return _lay_over(rules) if rules.fields else Mapping(_SEGMENT_COLUMNS, _segment_select(rules), _SEGMENT_USES)
    if rules.format == "fields":
        if "event_time" not in rules.fields or not {"user_id", "device_id"} & rules.fields.keys():
            raise ConfigError(
                "[input] format = 'fields' needs to know the time and the person",
                remedy="add event_time and user_id or device_id under [input.fields]",
            )
        columns = _free_columns(rules.fields, {})
        _refuse_twins(columns)
        return Mapping(columns, _free_select(rules, columns), _free_uses(rules.fields))
    if rules.format in FORMATS:
        return _map_format(FORMATS[rules.format], rules)
    remedy = f"use one of {', '.join(map(repr, ('segment', 'rudderstack', *FORMATS, 'fields')))}"
    raise ConfigError(f"[input] format = {rules.format!r} is unknown", remedy=remedy)


def _lay_over(rules: InputRules) -> Mapping:
    """Put the user's own fields over the preset's; what the preset alone needed of a replaced column is dropped."""
    own_uses = _free_uses(rules.fields)
    uses = _SEGMENT_USES | {name: own_uses[name] for name in rules.fields}
    uses["event_name"] += () if uses["event_name"] == _SEGMENT_USES["event_name"] else ("type",)
    needed = {column for use in uses.values() for column in use}
    preset = {name: kind for name, kind in _SEGMENT_COLUMNS.items() if name in needed}
    deep = any("context" in use for use in own_uses.values())
    if deep:
        preset["context"] = "JSON"
    columns = _free_columns(rules.fields, preset)
    _refuse_twins(columns)
    select = _segment_select(rules, _reach_json if deep else _reach_struct) | _map_fields(rules, columns)
    if "event_type" in rules.fields and "event_name" not in rules.fields:
        select["event_name"] = _name_event(rules, '"event"', "nullif(\"name\", '')", select["event_type"])
        uses["event_name"] = ("event", "name", *uses["event_type"])
    return Mapping(columns, select, uses)


def _map_format(form: Format, rules: InputRules) -> Mapping:
    """Build the mapping of a format, with the user's own fields over it, as `_lay_over` does it for Segment's."""
    select, uses = form.select(rules), dict(form.uses)
    if not rules.fields:
        return Mapping(form.columns, select, uses, form.tabs)
    own_uses = _free_uses(rules.fields)
    uses |= {name: own_uses[name] for name in rules.fields}
    needed = {column for use in uses.values() for column in use}
    columns = _free_columns(rules.fields, {name: kind for name, kind in form.columns.items() if name in needed})
    _refuse_twins(columns)
    return Mapping(columns, select | _map_fields(rules, columns, form.inside, select["event_type"]), uses, form.tabs)


def _free_uses(fields: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(split_path(path)[0] for path in fields.get(name, ())) for name in MAPPED}


def _free_columns(fields: dict[str, tuple[str, ...]], preset: dict[str, str]) -> dict[str, str]:
    """Return the columns to read; one that a field reads whole and another one reaches into is JSON for both."""
    columns = dict(preset)
    for canonical, paths in fields.items():
        for head, *below in map(split_path, paths):
            nested = bool(below) or canonical == "properties"
            if head not in preset:
                columns[head] = "JSON" if nested or columns.get(head) == "JSON" else "VARCHAR"
    return columns


def _refuse_twins(columns: dict[str, str]) -> None:
    # The reader tells keys of a record by case, but not its own columns.
    seen: dict[str, str] = {}
    for name in columns:
        twin = seen.setdefault(name.lower(), name)
        if twin != name:
            raise ConfigError(
                f"[input.fields] {twin!r} and {name!r} differ only in upper and lower case, and can't both be read",
                remedy="map one of them",
            )


def _free_select(rules: InputRules, columns: dict[str, str]) -> dict[str, str]:
    nothing = dict.fromkeys(MAPPED, "CAST(NULL AS VARCHAR)")
    select = nothing | {"channel": _text(rules.channel)} | _map_fields(rules, columns)
    if "event_name" not in rules.fields:
        select["event_name"] = _name_event(rules, select["event_type"])
    return select


def _map_fields(
    rules: InputRules, columns: dict[str, str], inside: Lookup[str, str] = _NOTHING, kind: str = '"type"'
) -> dict[str, str]:
    """Build the expressions of the columns that the user maps; `kind`: the preset's expression of the event's type."""
    select = {name: _coalesce(paths, columns, name, inside) for name, paths in rules.fields.items()}
    if "channel" in select:
        select["channel"] = f"coalesce(nullif({select['channel']}, ''), {_text(rules.channel)})"
    if "event_name" in select:
        kind = select.get("event_type", kind if rules.format != "fields" else "NULL")
        select["event_name"] = _name_event(rules, select["event_name"], kind)
    return select


def _coalesce(paths: tuple[str, ...], columns: dict[str, str], canonical: str, inside: Lookup[str, str]) -> str:
    terms = [_read_path(split_path(path), columns, canonical, inside) for path in paths]
    if canonical != "properties":
        # An empty text is no value: the next place is asked, and the last one is taken as it is.
        terms = [*(f"nullif({term}, '')" for term in terms[:-1]), terms[-1]]
    return f"coalesce({', '.join(terms)})" if len(terms) > 1 else terms[0]


def _read_path(keys: list[str], columns: dict[str, str], canonical: str, inside: Lookup[str, str]) -> str:
    head, *below = keys
    name, path = quote(head), _text(json_path(below))
    if columns[head] == "JSON":
        name = inside.get(head, name)
        if canonical == "properties":
            return f"CAST(json_extract({name}, {path}) AS VARCHAR)" if below else f"CAST({name} AS VARCHAR)"
        return f"json_extract_string({name}, {path})"
    if below:
        # The preset reads this key as text, which may hold an object's JSON or anything else.
        return f"CASE WHEN json_valid({name}) THEN json_extract_string({name}, {path}) END"
    return name
