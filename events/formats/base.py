"""What a format says about its records, and the SQL that formats are written in."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from config import InputRules

# Names of the libraries that send: analytics-ios, com.rudderstack.android.sdk.core, analytics.js, a JavaScript SDK.
MOBILE = r"\b(?:ios|android|swift|kotlin|flutter|react-native)\b"
WEB = r"\.js$|javascript|analytics-next"
NULL = "CAST(NULL AS VARCHAR)"
PLATFORMS = {"web": "web", "ios": "mobile", "android": "mobile"}


@dataclass(frozen=True)
class Format:
    """A preset: the reader's `columns`, what each canonical column `uses` of them, and the expressions to `select`.

    `inside`: for columns whose JSON is not what people mean, the expression that a place of the user's reaches into;
    `tabs`: the columns of records that come as tab-separated lines, empty where there are none.
    """

    columns: dict[str, str]
    uses: dict[str, tuple[str, ...]]
    select: Callable[[InputRules], dict[str, str]]
    inside: Mapping[str, str] = field(default_factory=dict)
    tabs: tuple[str, ...] = ()


def quote(name: str) -> str:
    """Quote an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """Quote an SQL text."""
    return "'" + value.replace("'", "''") + "'"


def json_path(keys: list[str]) -> str:
    """Write keys as a JSON path with every key quoted."""
    return "$" + "".join('."' + key.replace('"', '\\"') + '"' for key in keys)


def split_path(path: str) -> list[str]:
    """Split `a.b.c` at its dots; a key that holds a dot stands in backticks: `a.`b.c``."""
    return [part[1:-1] if part.startswith("`") else part for part in re.findall(r"`[^`]+`|[^.`]+", path)]


def reach(json: str, *keys: str) -> str:
    """Return the text at some keys within a JSON expression."""
    return f"json_extract_string({json}, {text(json_path(list(keys)))})"


def reach_json(json: str, *keys: str) -> str:
    """Return the JSON text at some keys within a JSON expression, null where JSON says null."""
    return f"nullif(CAST(json_extract({json}, {text(json_path(list(keys)))}) AS VARCHAR), 'null')"


def first(*terms: str) -> str:
    """Return the first of the terms that is neither null nor empty."""
    filled = [f"nullif({term}, '')" for term in terms]
    return f"coalesce({', '.join(filled)})"


def name_event(rules: InputRules, *terms: str) -> str:
    """Return the first of the terms that gives a name, else the one that is set for events without any."""
    return first(*terms, *([text(rules.event_name)] if rules.event_name else []))


def guess_channel(library: str, browser: str, rules: InputRules) -> str:
    """Guess the channel by the name of the library that sent: an expression, and the pattern of browsers' names."""
    return (
        f"CASE WHEN regexp_matches({library}, '{MOBILE}', 'i') THEN 'mobile'"
        f" WHEN regexp_matches({library}, '{browser}', 'i') THEN 'web' ELSE {text(rules.channel)} END"
    )


def choose(value: str, channels: Mapping[str, str], default: str) -> str:
    """Return the text that belongs to the lower case of a value, else the default expression."""
    cases = " ".join(f"WHEN {text(key)} THEN {text(channel)}" for key, channel in channels.items())
    return f"CASE lower({value}) {cases} ELSE {default} END"
