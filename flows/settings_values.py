"""One value of journey.toml at a time: what is accepted, and what the writer probably meant."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import cast

from config import DAY, HOUR, MINUTE, SECOND, split_address
from events.presets import split_path
from events.schema import END, START, TABLES

Reader = Callable[[object], object]

DURATION_UNITS = {"us": 1, "ms": 1_000, "s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}
SIZE_UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}
LONGEST = 36_500 * DAY
_UNIT_WORDS = {
    "us": ("micros", "microseconds"),
    "ms": ("msec", "millis", "milliseconds"),
    "s": ("sec", "secs", "seconds"),
    "m": ("min", "mins", "minutes"),
    "h": ("hr", "hrs", "hours"),
    "d": ("days",),
    "w": ("weeks",),
}
_SPOKEN_UNITS = {word: unit for unit, words in _UNIT_WORDS.items() for word in (unit, *words)}
_AMOUNT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([^\W\d]+)")
_PATH = re.compile(r"(?:`[^`]+`|[^`.]+)(?:\.(?:`[^`]+`|[^`.]+))*")


class BadValueError(ValueError):
    """A value that is not accepted: `expected` is a noun phrase, `nearest` TOML text or empty, `at` the element."""

    def __init__(self, expected: str, nearest: str = "", at: int | None = None) -> None:
        super().__init__(expected)
        self.expected = expected
        self.nearest = nearest
        self.at = at


def show_value(value: object) -> str:
    """Write a value about as TOML does, on one line, cut where it is long."""
    if isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
    elif isinstance(value, Mapping):
        text = "{" + ", ".join(f"{key} = {show_value(inner)}" for key, inner in value.items()) + "}"
    elif isinstance(value, list | tuple):
        text = "[" + ", ".join(show_value(inner) for inner in value) + "]"
    else:
        text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def read_duration(least: int = 0) -> Reader:
    """Return a reader of texts such as "30m" or "1h30m" as microseconds."""

    def read(value: object) -> int:
        amounts = _split_amounts(value, DURATION_UNITS)
        if amounts is None:
            raise BadValueError('a duration such as "30m", "24h", "7d", "90s" or "500ms"', _guess_duration(value))
        micros = sum((number * DURATION_UNITS[unit] for number, unit in amounts), Decimal(0))
        if micros != int(micros):
            raise BadValueError("a duration of whole microseconds")
        if not least <= micros <= LONGEST:
            bound = "longer than 0" if least and micros < least else "of at most 36500d"
            raise BadValueError(f"a duration {bound}", "" if micros < least else '"36500d"')
        return int(micros)

    return read


def read_size(least: int, most: int) -> Reader:
    """Return a reader of a number of bytes, or of texts such as "8MiB"."""

    def read(value: object) -> int:
        expected = 'a size such as "8MB", "512KiB" or a number of bytes'
        if isinstance(value, int) and not isinstance(value, bool):
            size = Decimal(value)
        else:
            amounts = _split_amounts(value, SIZE_UNITS)
            if amounts is None or len(amounts) != 1:
                raise BadValueError(expected, _guess_size(value))
            size = amounts[0][0] * SIZE_UNITS[amounts[0][1]]
        if not least <= size <= most or size != int(size):
            raise BadValueError(f"a size of {least} to {most} bytes", str(least if size < least else most))
        return int(size)

    return read


def read_integer(least: int, most: int) -> Reader:
    """Return a reader of whole numbers within bounds."""

    def read(value: object) -> int:
        expected = f"a whole number from {least} to {most}"
        if isinstance(value, int) and not isinstance(value, bool):
            if least <= value <= most:
                return value
            raise BadValueError(expected, str(least if value < least else most))
        plain = str(value).strip().replace("_", "").removesuffix(".0")
        fits = re.fullmatch(r"\d{1,18}", plain) and least <= int(plain) <= most
        raise BadValueError(expected, plain if fits else "")

    return read


def read_flag(value: object) -> bool:
    """Read a truth value."""
    if isinstance(value, bool):
        return value
    guess = {"yes": "true", "on": "true", "no": "false", "off": "false", "1": "true", "0": "false"}
    word = str(value).strip().lower()
    raise BadValueError("true or false", guess.get(word, word if word in ("true", "false") else ""))


def read_share(value: object) -> float:
    """Read a number from 0 to 1."""
    expected = "a number from 0 to 1"
    if not isinstance(value, int | float) or isinstance(value, bool):
        percent = re.fullmatch(r"\s*(\d{1,3}(?:\.\d+)?)\s*%\s*", value) if isinstance(value, str) else None
        raise BadValueError(expected, str(float(percent[1]) / 100) if percent and float(percent[1]) <= 100 else "")
    if not 0 <= value <= 1:
        raise BadValueError(expected, str(value / 100) if 1 < value <= 100 else "")
    return float(value)


def read_choice(*choices: str, same: Mapping[str, str] | None = None) -> Reader:
    """Return a reader of one of some words; `same` gives the word that another one stands for."""

    def read(value: object) -> str:
        if isinstance(value, str) and value in choices:
            return (same or {}).get(value, value)
        near = difflib.get_close_matches(str(value).lower(), choices, n=1, cutoff=0.4)
        raise BadValueError(f"one of {', '.join(map(show_value, choices))}", show_value(near[0]) if near else "")

    return read


def read_text(value: object) -> str:
    """Read a text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        nearest = show_value(str(value)) if isinstance(value, int | float) and not isinstance(value, bool) else ""
        raise BadValueError("a text that is not empty", nearest)
    return value


def read_any_text(value: object) -> str:
    """Read a text, which may be empty."""
    return value if value == "" and isinstance(value, str) else read_text(value)


def read_address(value: object) -> str:
    """Read an address to listen on, as HOST:PORT; empty for none."""
    if value == "" and isinstance(value, str):
        return value
    text = str(value)
    try:
        split_address(text if isinstance(value, str) else "")
    except ValueError:
        port = re.fullmatch(r"(?:(?:https?://)?([^\s:/]+))??:?(\d{1,5})/?", text.strip())
        nearest = f"{port[1] or '127.0.0.1'}:{port[2]}" if port and int(port[2]) <= 65_535 else ""
        expected = 'an address to listen on such as "127.0.0.1:9600"'
        raise BadValueError(expected, show_value(nearest) if nearest else "") from None
    return text


def read_name(value: object) -> str:
    """Read the name of a source, which becomes part of its partitions' names."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value):
        raise BadValueError("a name of letters, digits, - and _")
    return value


def read_start(value: object) -> str:
    """Read where a source begins: earliest, latest, or an ISO time."""
    if isinstance(value, datetime):
        return value.isoformat()
    if value in ("earliest", "latest"):
        return str(value)
    try:
        datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError:
        raise BadValueError('"earliest", "latest" or a time such as "2026-01-31T06:00:00Z"') from None
    return str(value)


def read_settings(value: object) -> dict[str, str]:
    """Read settings that are passed on: names to texts, numbers or truth values."""
    if not isinstance(value, dict):
        raise BadValueError('a table such as { "security.protocol" = "SASL_SSL" }')
    found = {}
    for name, one in value.items():
        if not isinstance(one, str | int | float):
            raise BadValueError(f"a table of texts and numbers ({name} is neither)")
        found[str(name)] = str(one).lower() if isinstance(one, bool) else str(one)
    return found


def read_step_name(value: object) -> str:
    """Read the name a step rule gives: any but the two that stand for a session's ends."""
    if value in (START, END):
        raise BadValueError(
            f"another name: {START} and {END} stand for the ends of a session", show_value(str(value)[1:-1])
        )
    return read_text(value)


def read_texts(least: int = 1) -> Reader:
    """Return a reader of a list of at least so many texts, as a tuple."""

    def read(value: object) -> tuple[str, ...]:
        if isinstance(value, str):
            parts = [part.strip() for part in re.split(r",|->", value) if part.strip()]
            raise BadValueError("a list of texts", show_value(parts) if len(parts) >= least else "")
        if not isinstance(value, list | tuple):
            raise BadValueError("a list of texts")
        if len(value) < least:
            raise BadValueError(f"a list of at least {least} text{'s' if least > 1 else ''}")
        return tuple(_read_element(read_text, element, at) for at, element in enumerate(value))

    return read


def read_tables(value: object) -> tuple[str, ...]:
    """Read names of tables, each once."""
    names = cast("tuple[str, ...]", read_texts(1)(value))
    for at, name in enumerate(names):
        if name not in TABLES:
            near = difflib.get_close_matches(name, TABLES, n=1, cutoff=0.4)
            raise BadValueError(f"one of {', '.join(TABLES)}", show_value(near[0]) if near else "", at)
    return tuple(dict.fromkeys(names))


def read_source_paths(value: object) -> tuple[str, ...]:
    """Read a path, or a list of them, into a source record: keys joined by dots, in backticks if they hold dots."""
    if isinstance(value, str):
        return (_read_path(value),)
    if not isinstance(value, list | tuple) or not value:
        raise BadValueError("a source path or a list of them")
    return tuple(_read_element(_read_path, element, at) for at, element in enumerate(value))


def _read_path(value: object) -> str:
    text = read_text(value)
    if not _PATH.fullmatch(text):
        keys = [key for key in split_path(text) if key]
        nearest = ".".join(f"`{key}`" if "." in key else key for key in keys)
        raise BadValueError(
            "keys joined by single dots, in backticks where a key holds a dot itself",
            show_value(nearest) if keys else "",
        )
    return text


def _read_element(read: Callable[[object], str], element: object, at: int) -> str:
    try:
        return read(element)
    except BadValueError as error:
        raise BadValueError(error.expected, error.nearest, at) from None


def _split_amounts(value: object, units: Mapping[str, int]) -> list[tuple[Decimal, str]] | None:
    """Split "1h30m" into numbers and units; None where anything else is in the way."""
    if not isinstance(value, str) or len(value) > 60 or not re.fullmatch(f"(?:{_AMOUNT.pattern})+", value.strip()):
        return None
    case = str.lower if units is SIZE_UNITS else str
    amounts = [(Decimal(number), case(unit)) for number, unit in _AMOUNT.findall(value)]
    return amounts if all(unit in units for _, unit in amounts) else None


def _guess_duration(value: object) -> str:
    match = _AMOUNT.fullmatch(value.strip()) if isinstance(value, str) else None
    near = difflib.get_close_matches(match[2].lower(), _SPOKEN_UNITS, n=1, cutoff=0.5) if match else []
    if match and near:
        return show_value(f"{match[1]}{_SPOKEN_UNITS[near[0]]}")
    return show_value(f"{value}s") if re.fullmatch(r"\d{1,9}", str(value)) else ""


def _guess_size(value: object) -> str:
    match = _AMOUNT.fullmatch(value.strip()) if isinstance(value, str) else None
    if match:
        unit = {"k": "KB", "m": "MB", "g": "GB"}.get(match[2].lower()[0], "B")
        return show_value(f"{match[1]}{unit}")
    return str(value) if isinstance(value, str) and re.fullmatch(r"\d{1,15}", value) else ""
