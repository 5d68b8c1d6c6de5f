"""journey.toml as read, with the place of every key, so that an error can point at it."""

from __future__ import annotations

import copy
import difflib
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from errors import ConfigError
from events.presets import split_path
from flows.settings_lines import KeyPath, locate_keys
from flows.settings_values import show_value

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass
class Document:
    """Values of the file with the options of the command line laid over it; `lines` is by key path."""

    name: str
    values: dict[str, Any] = field(default_factory=dict)
    lines: dict[KeyPath, int] = field(default_factory=dict)
    options: dict[KeyPath, str] = field(default_factory=dict)

    def get(self, path: KeyPath) -> Any:
        """Return the value at the path, None where there is none."""
        value: Any = self.values
        for part in path:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def fail(self, path: KeyPath, problem: str, remedy: str = "") -> ConfigError:
        """Make the error for the key or value at the path: file, line, key, value, what is wrong with it."""
        key = show_path(path)
        value = self.get(path)
        shown = f"{key} = {show_value(value)}" if value is not None else key
        return ConfigError(f"{self._place(path)}: {shown}: {problem}", remedy=remedy)

    def _place(self, path: KeyPath) -> str:
        for end in range(len(path), -1, -1):
            if path[:end] in self.options:
                return f"option {self.options[path[:end]]}"
            if path[:end] in self.lines:
                return f"{self.name}:{self.lines[path[:end]]}"
            for option in self.options if end == len(path) else ():
                if option[:end] == path:
                    return f"option {self.options[option]}"
        return self.name


def read_document(path: Path | None, options: Mapping[str, object]) -> Document:
    """Read the file, if there is one, and lay the options over it; raises ConfigError."""
    document = Document("settings") if path is None else _parse(str(path), _read_text(path))
    for name, value in options.items():
        if value is not None:
            _lay_over(document, name, value)
    return document


def show_path(path: KeyPath) -> str:
    """Write a key path as `steps[2].where`, quoting names that TOML would have in quotes."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if re.fullmatch(r"[\w-]+", part) else show_value(part))
    return text


def suggest(name: str, names: Iterable[str]) -> str:
    """Return the nearest of the names, or all of them, as a sentence."""
    known = list(names)
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"


def _read_text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        near = _near_files(path)
        raise ConfigError(
            f"{path}: there is no such file", remedy=near or "give the path of a journey.toml, or none for the defaults"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"{path}: can't be read: {error.strerror or error}", remedy="give a readable TOML file"
        ) from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: the text is not UTF-8", remedy="save the file as UTF-8") from None


def _near_files(path: Path) -> str:
    try:
        names = [other.name for other in path.parent.iterdir() if other.suffix == ".toml"]
    except OSError:
        return ""
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.3)
    return f"did you mean {str(path.with_name(near[0]))!r}?" if near else ""


def _parse(name: str, text: str) -> Document:
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        match = re.search(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)$", str(error))
        line = int(match[1]) if match and match[1] else text.count("\n") + 1
        problem = str(error)[: match.start()] if match else str(error)
        column = f":{match[2]}" if match and match[2] else ""
        raise ConfigError(f"{name}:{line}{column}: not TOML: {problem}", remedy=_hint_toml(text, line)) from None
    except (ValueError, RecursionError):
        raise ConfigError(f"{name}: holds a number or a nesting past all use", remedy="see docs/config.md") from None
    return Document(name, values, locate_keys(text.replace("\r\n", "\n")))


def _hint_toml(text: str, line: int) -> str:
    lines = text.splitlines()
    match = re.match(r"\s*([\w.-]+)\s*=\s*([^\s\"'\[{#][^#\n]*)", lines[line - 1]) if line <= len(lines) else None
    if match:
        return f"text stands in quotes: {match[1]} = {show_value(match[2].strip())}"
    return "see docs/config.md for an example of every key"


def _lay_over(document: Document, name: str, value: object) -> None:
    *tables, last = split_path(name) or [name]
    table = document.values
    for part in tables:
        inner = table.setdefault(part, {})
        if not isinstance(inner, dict):
            return  # The file has no table here; that is reported as the file's own mistake.
        table = inner
    table[last] = copy.deepcopy(value)
    path = (*tables, last)
    document.options[path] = name
    document.lines = {known: line for known, line in document.lines.items() if known[: len(path)] != path}
