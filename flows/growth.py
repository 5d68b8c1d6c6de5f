"""Partitions that a source gains while a job runs: found by asking now and then, read from their first message on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace

from errors import JourneyError
from sources.kafka import KafkaPart, choose_batch
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


def prepare_parts(parts: Collection[LivePart], known: Collection[str]) -> list[LivePart]:
    """Share out what may be fetched at once, and let a partition that its topic gained begin at its first message.

    So it does whatever `start` says. `known`: names of the partitions that the job goes on in; a topic of which none is
    known is new as a whole.
    """
    topics, batch = {name.rpartition("/")[0] for name in known}, choose_batch(len(parts))
    return [_prepare(part, batch, part.name not in known and part.source in topics) for part in parts]


def _prepare(part: LivePart, batch: int, gained: bool) -> LivePart:
    if not isinstance(part, KafkaPart):
        return part
    return replace(part, batch=batch, rules=replace(part.rules, start="earliest") if gained else part.rules)
