"""The one table of the keys that journey.toml may hold; docs/config.md is tested against it."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from events.formats.registry import FORMATS
from events.presets import MAPPED
from events.schema import TABLES
from flows.settings_values import (
    Reader,
    read_address,
    read_any_text,
    read_choice,
    read_duration,
    read_flag,
    read_integer,
    read_name,
    read_settings,
    read_share,
    read_size,
    read_source_paths,
    read_start,
    read_step_name,
    read_tables,
    read_text,
    read_texts,
)


@dataclass(frozen=True)
class Key:
    """How a key is read and which field of the section's dataclass it fills."""

    read: Reader
    field: str = ""
    required: bool = False


Keys = dict[str, Key]
COLUMNS = tuple(dict.fromkeys(name for table in TABLES.values() for name, kind in table.items() if kind == pl.String))

SESSIONS: Keys = {
    "gap": Key(read_duration(1)),
    "max_session": Key(read_duration(1)),
    "allowed_lateness": Key(read_duration()),
    "max_path_steps": Key(read_integer(1, 10_000)),
}
INPUT: Keys = {
    "format": Key(read_choice("segment", "rudderstack", *FORMATS, "fields", same={"rudderstack": "segment"})),
    "time_unit": Key(read_choice("auto", "s", "ms", "us", "iso")),
    "channel": Key(read_text),
    "event_name": Key(read_any_text),
    "max_record_bytes": Key(read_size(1, 1 << 30)),
    "max_future": Key(read_duration()),
    "lanes": Key(read_choice("auto", "each", "one")),
}
FIELDS: Keys = {name: Key(read_source_paths) for name in MAPPED}
STEPS: Keys = {
    "name": Key(read_step_name, required=True),
    "where": Key(read_text, required=True),
}
FUNNEL: Keys = {
    "steps": Key(read_texts(2), required=True),
    "within": Key(read_duration(1)),
    "scope": Key(read_choice("person", "session")),
}
DEAD_LETTERS: Keys = {
    "count": Key(read_integer(0, 10**15)),
    "share": Key(read_share),
}
JOB: Keys = {
    "key_groups": Key(read_integer(1, 64)),
    "writers": Key(read_integer(1, 64)),
    "snapshot": Key(read_duration(1)),
    "block": Key(read_size(1 << 10, 1 << 30), field="block_bytes"),
    "release_rows": Key(read_integer(1, 10**9)),
    "idle_after": Key(read_duration(1)),
    "archive": Key(read_flag),
    "compact_every": Key(read_duration()),
}
SERVE: Keys = {"listen": Key(read_address)}
LOG: Keys = {"format": Key(read_choice("text", "json"))}
SOURCE: Keys = {
    "name": Key(read_name, required=True),
    "kind": Key(read_choice("kafka", "rabbitmq", "sqs", "eventgrid", "webhook", "collector")),
    **{name: INPUT[name] for name in ("format", "time_unit", "channel")},
    "event_name": Key(read_text),
    "servers": Key(read_text),
    "topics": Key(read_texts(1)),
    "group": Key(read_text),
    "start": Key(read_start),
    "settings": Key(read_settings),
    "url": Key(read_text),
    "queues": Key(read_texts(1)),
    "streams": Key(read_texts(1)),
    "prefetch": Key(read_integer(1, 65_535)),
    "region": Key(read_text),
    "endpoint": Key(read_text),
    "subscriptions": Key(read_texts(1)),
    "key": Key(read_text),
    "listen": Key(read_text),
    "keys": Key(read_texts(1)),
    "origins": Key(read_texts(1)),
    "max_body": Key(read_size(1 << 10, 1 << 30)),
    "backlog": Key(read_size(1 << 20, 1 << 40)),
}
# By kind of source: what it has to be told (of several names one is enough), and what it may be told beside.
EVERY_SOURCE = ("name", "kind", "format", "fields", "time_unit", "channel", "event_name")
SOURCE_KINDS: dict[str, tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]] = {
    "kafka": ((("servers",), ("topics",)), ("group", "start", "settings")),
    "rabbitmq": ((("url",), ("queues", "streams")), ("start", "prefetch", "backlog")),
    "sqs": ((("queues",),), ("region", "endpoint", "backlog")),
    "eventgrid": ((("endpoint",), ("subscriptions",), ("key",)), ("backlog",)),
    "webhook": ((("listen",), ("keys",)), ("origins", "max_body", "backlog")),
    "collector": ((("listen",),), ("keys", "origins", "max_body", "backlog")),
}
SINK: Keys = {
    "name": Key(read_name, required=True),
    "kind": Key(read_choice("kafka")),
    "servers": Key(read_text, required=True),
    "topic": Key(read_text, required=True),
    "tables": Key(read_tables),
    "key": Key(read_choice(*COLUMNS)),
    "settings": Key(read_settings),
}
# NAME stands for any name, COLUMN for any of [input.fields].
STAGE = Key(read_texts(1))
SECTIONS: dict[str, Keys] = {
    "sessions": SESSIONS,
    "input": INPUT,
    "input.fields": FIELDS,
    "steps": STEPS,
    "stages": {"NAME": STAGE},
    "funnels.NAME": FUNNEL,
    "dead_letters": DEAD_LETTERS,
    "job": JOB,
    "serve": SERVE,
    "log": LOG,
    "source": SOURCE,
    "source.fields": {"COLUMN": Key(read_source_paths)},
    "sink": SINK,
}
TOP_LEVEL = tuple(dict.fromkeys(section.split(".")[0] for section in SECTIONS))


def list_keys() -> dict[str, Key]:
    """Return every accepted key by its dotted name, as `sessions.gap` or `funnels.NAME.within`."""
    return {f"{section}.{name}": key for section, keys in SECTIONS.items() for name, key in keys.items()}
