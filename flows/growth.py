"""Partitions that a source gains while a job runs: found by asking now and then, read from their first message on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace

from errors import JourneyError
from sources.kafka import KafkaPart
from sources.live import LivePart

Look = Callable[[], Iterable[LivePart]]


class Growth:
    """All partitions that are known; runs as a receiver does. `found` is set while some are not taken up yet."""

    name = "growth"

    def __init__(self, parts: Iterable[LivePart], looks: Sequence[Look], every_s: float) -> None:
        """`looks` ask the other side which partitions there are now; they may raise JourneyError."""
        self.parts = {part.name: part for part in parts}
        self.looks, self.every_s = looks, every_s
        self.found = threading.Event()

    def run(self, stop: threading.Event) -> None:
        """Ask every so often until told to stop; who does not answer is asked again."""
        while self.looks and not stop.wait(self.every_s):
            for look in self.looks:
                with suppress(JourneyError):
                    self._add(look())

    def _add(self, parts: Iterable[LivePart]) -> None:
        new = {part.name: part for part in parts if part.name not in self.parts}
        for part in new.values():
            part.open(None).close()  # a partition is listed before it can be read: then it waits for the next time
        if new:
            self.parts = {**self.parts, **new}
            self.found.set()

    def take(self) -> list[LivePart]:
        """Return all partitions; those that are not among them set `found` again."""
        self.found.clear()
        return list(self.parts.values())


def begin_at_first(parts: Iterable[LivePart], known: Collection[str]) -> list[LivePart]:
    """Let a partition that its topic gained since the job began start at its first message, whatever `start` says.

    `known`: names of the partitions that the job goes on in. A topic of which none is known is new as a whole.
    """
    topics = {name.rpartition("/")[0] for name in known}
    return [
        replace(part, rules=replace(part.rules, start="earliest"))
        if isinstance(part, KafkaPart) and part.name not in known and part.source in topics
        else part
        for part in parts
    ]
