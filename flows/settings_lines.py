"""Where each key of a TOML text stands: the standard reader gives values, but no line numbers."""

from __future__ import annotations

import re
import sys
from bisect import bisect_right
from contextlib import suppress

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

KeyPath = tuple[str | int, ...]

_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}(?!")' r"|'''.*?'{3,5}(?!')" r'|"(?:\\.|[^"\\\n])*"' r"|'[^'\n]*'",
    re.DOTALL,
)
_BARE_KEY = re.compile(r"[^\s.=\[\]{},#\"']+")
_BARE_VALUE = re.compile(r"[^,\]}\n#]+")
_SPACES = re.compile(r"[ \t]*")
_GAP = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")


def locate_keys(text: str) -> dict[KeyPath, int]:
    """Return the line (from 1) of every table, key and array element of a TOML text that the reader accepted.

    A path holds table and key names, and the position of an element in an array or array of tables. Where
    the text is not understood the lines found so far are returned: a missing line costs a worse message only.
    """
    scanner = _Scanner(text)
    with suppress(ValueError, RecursionError):
        scanner.scan()
    return scanner.lines


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[KeyPath, int] = {}
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self._counts: dict[KeyPath, int] = {}

    def scan(self) -> None:
        table: KeyPath = ()
        self._skip(_GAP)
        while self.at < len(self.text):
            if self.text[self.at] == "[":
                table = self._scan_header()
            else:
                self._scan_pair(table)
            self._skip(_GAP)

    def _scan_header(self) -> KeyPath:
        start = self.at
        many = self.text.startswith("[[", self.at)
        self.at += 2 if many else 1
        names = self._scan_key()
        self._expect("]]" if many else "]")
        path: KeyPath = ()
        for name in names[:-1]:
            path = self._enter((*path, name))
        path = (*path, names[-1])
        self._note(path, start)
        if not many:
            return self._enter(path)
        self._counts[path] = self._counts.get(path, 0) + 1
        path = self._enter(path)
        self._note(path, start)
        return path

    def _enter(self, path: KeyPath) -> KeyPath:
        """Step into the last element where the path is an array of tables."""
        return (*path, self._counts[path] - 1) if path in self._counts else path

    def _scan_pair(self, table: KeyPath) -> None:
        start = self.at
        path = table
        for name in self._scan_key():
            path = (*path, name)
            self._note(path, start)
        self._expect("=")
        self._skip(_SPACES)
        self._scan_value(path)

    def _scan_key(self) -> list[str]:
        names = []
        while True:
            self._skip(_SPACES)
            if self.text[self.at : self.at + 1] in ('"', "'"):
                names.append(str(tomllib.loads(f"key = {self._take(_STRING)}")["key"]))
            else:
                names.append(self._take(_BARE_KEY))
            self._skip(_SPACES)
            if self.text[self.at : self.at + 1] != ".":
                return names
            self.at += 1

    def _scan_value(self, path: KeyPath) -> None:
        first = self.text[self.at : self.at + 1]
        if first == "[":
            self._scan_members(path, "]")
        elif first == "{":
            self._scan_members(path, "}")
        else:
            self._take(_STRING if first in ('"', "'") else _BARE_VALUE)

    def _scan_members(self, path: KeyPath, close: str) -> None:
        self.at += 1
        number = 0
        self._skip(_GAP)
        while not self.text.startswith(close, self.at):
            if close == "}":
                self._scan_pair(path)
            else:
                self._note((*path, number), self.at)
                self._scan_value((*path, number))
            number += 1
            self._skip(_GAP)
            if self.text.startswith(",", self.at):
                self.at += 1
                self._skip(_GAP)
            elif not self.text.startswith(close, self.at):
                raise ValueError("neither a comma nor the end")
        self.at += 1

    def _note(self, path: KeyPath, at: int) -> None:
        self.lines.setdefault(path, bisect_right(self._starts, at))

    def _expect(self, mark: str) -> None:
        self._skip(_SPACES)
        if not self.text.startswith(mark, self.at):
            raise ValueError(f"no {mark}")
        self.at += len(mark)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self.text, self.at)
        self.at = match.end() if match else self.at

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.at)
        if not match:
            raise ValueError("not a key or value")
        self.at = match.end()
        return match.group()
