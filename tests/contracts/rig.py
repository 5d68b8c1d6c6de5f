"""What the contract needs of a kind of source: somewhere to send to, and a way to make it go away."""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from clock import read_system_clock
from config import Config, SourceRules
from events.raw import RawBlock
from flows.live_sources import Surroundings, find_sources
from sources.live import Feed, LivePart
from sources.receiving import receiving

PATIENCE_S = 60.0
LIMIT = 1 << 20
# What a kind of source puts in front of a record's own members, written without blanks.
ADDED = {"collector": re.compile(rb'^\{"receivedAt":"[^"]+",(?:"(?:messageId|timestamp)":"[^"]+",)*')}


class Rig(ABC):
    """One source with one partition on a real server, or on the nearest thing to one."""

    rules: SourceRules
    keeps_order = True  # Whether what was under way when the other side went away comes first when it is back.
    keeps = True  # Whether the other side keeps what is sent while nobody receives; over HTTP it is refused instead.

    @abstractmethod
    def send(self, records: Sequence[bytes | None]) -> None:
        """Send the records in order; return when the other side has them."""

    @abstractmethod
    def restart(self) -> None:
        """Let the other side go away and come back."""

    def send_poison(self, records: Sequence[bytes]) -> list[bytes]:
        """Send records of which some are no JSON; return those that were taken, the others having been refused."""
        self.send(records)
        return list(records)

    def send_until_refused(self, records: Sequence[bytes]) -> int:
        """Send records until the other side is told to wait; return how many it took."""
        self.send(records)
        return len(records)


@dataclass
class Collected:
    """What a feed gave: `lines` with their positions, and the offset behind them."""

    feed: Feed
    kind: str
    lines: list[bytes] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    received: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)  # offsets at which a later run may go on

    def take(self, blocks: Sequence[RawBlock]) -> None:
        for block in blocks:
            assert isinstance(block.payload, bytes)
            lines = block.payload.split(b"\n")
            assert block.lines == len(lines)
            assert block.received is not None
            assert block.received.dtype == np.int64
            self.lines += [ADDED[self.kind].sub(b"{", line) if self.kind in ADDED else line for line in lines]
            self.positions += range(block.first_position, block.first_position + len(lines))
            self.received += block.received.tolist()
        if blocks:
            self.ends.append(self.feed.tell_next())

    def read(self, count: int) -> list[bytes]:
        """Read until so many lines are there."""
        until = time.monotonic() + PATIENCE_S
        while len(self.lines) < count:
            assert time.monotonic() < until, f"{len(self.lines)} of {count} came"
            self.take(self.feed.fetch())
        return self.lines

    def read_to_end(self, seconds: float = 1.5) -> list[bytes]:
        """Read until nothing has come for some seconds."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            blocks = self.feed.fetch()
            if blocks:
                until = time.monotonic() + seconds
            self.take(blocks)
        return self.lines


@dataclass
class Opened:
    """A source at work: its one partition, and what its receivers failed with."""

    part: LivePart
    failures: list[Exception]

    @contextmanager
    def reading(self, offset: int | None = None) -> Iterator[Collected]:
        feed = self.part.open(offset)
        try:
            yield Collected(feed, self.part.rules.kind)
        finally:
            feed.close()


@contextmanager
def open_source(rules: SourceRules, folder: Path) -> Iterator[Opened]:
    """Let a source's receivers run, with its inbox in a folder; what fails in them fails the test."""
    failures: list[Exception] = []
    around = Surroundings(LIMIT, read_system_clock, folder / "inbox")
    found = find_sources(Config(sources=(rules,)), {}, around)
    (part,) = found.parts
    with receiving(found.receivers, failures.append):
        yield Opened(part, failures)
    if failures:
        raise failures[0]


def now_us() -> int:
    """Return the time, to compare with times of receipt."""
    return int(datetime.now(timezone.utc).timestamp() * 1e6)
