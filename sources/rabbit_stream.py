"""A stream of RabbitMQ as a feed: messages have offsets, and stay when they were read.

Acknowledgements only ask for more. Offsets follow one another but for records that RabbitMQ puts in for itself: where one
is missing, it is asked what the stream begins with, to tell those from messages that retention has deleted.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise

import numpy as np

from clock import read_moment, read_stopwatch, to_us
from config import SourceRules
from errors import InputError
from events.raw import RawBlock
from sources.live import make_block
from sources.rabbit import Delivery, RabbitConsumer
from sources.rabbit_messages import Reading, find_sent, make_line

OFFSET = "x-stream-offset"
MOST = 20_000
WAIT_S, GATHER_S = 0.25, 0.03
CONNECT_S = 5.0
SILENCE_S = 30.0  # of a connection, where at least one message is known to be there


@dataclass(frozen=True)
class StreamPart:
    """A stream of a source; `limit`: the largest size of a record."""

    rules: SourceRules
    stream: str
    limit: int
    reading: Reading

    @property
    def source(self) -> str:
        """The source and stream, as the tables name them."""
        return f"{self.rules.name}/{self.stream}"

    @property
    def name(self) -> str:
        """The partition, as the tables and the recovery store name it."""
        return f"{self.source}/0"

    def open(self, offset: int | None) -> StreamFeed:
        """Read from an offset on, or from where the source's `start` lies; raises ConfigError, ReceiverError."""
        return StreamFeed(self, find_start(self.rules, self.stream) if offset is None else offset)


class StreamFeed:
    """A consumer of one stream, made anew when its connection is lost."""

    def __init__(self, part: StreamPart, offset: int) -> None:
        self.part, self.offset = part, offset
        self.most = max(1, min(MOST, part.rules.prefetch // 2))  # half: the next ones are under way meanwhile
        self.consumer: RabbitConsumer | None = None
        self.connected = 0.0
        self.heard = False
        self.lag: int | None = None  # RabbitMQ does not tell; but where nothing comes there is nothing

    def tell_next(self) -> int:
        return self.offset

    def tell_lag(self) -> int | None:
        return self.lag

    def fetch(self) -> list[RawBlock]:
        self.lag = None
        try:
            found = self._receive()
        except ConnectionError:
            self.close()
            time.sleep(WAIT_S)
            return []
        self.lag = None if found else 0
        fresh = [(offset, one) for offset, one in found if offset >= self.offset]
        if not fresh:
            return []
        self.offset = fresh[-1][0] + 1
        places = np.array([offset for offset, _ in fresh], dtype=np.int64)
        cuts = [0, *(np.flatnonzero(np.diff(places) != 1) + 1).tolist(), len(fresh)]
        return [self._make_block([one for _, one in fresh[a:b]], int(places[a])) for a, b in pairwise(cuts)]

    def _receive(self) -> list[tuple[int, Delivery]]:
        if self.consumer is None:
            # From the message before, which shows that the stream is the one that was read.
            self.consumer = connect(self.part.rules, self.part.stream, max(0, self.offset - 1))
            self.connected, self.heard = read_stopwatch(), False
        found = [(read_offset(one), one) for one in self.consumer.gather(self.most, WAIT_S, GATHER_S)]
        if found:
            self._check_gaps([offset for offset, _ in found])
            self.heard = True
            self.consumer.acknowledge(found[-1][1].tag)
        elif self.offset and not self.heard and read_stopwatch() - self.connected > SILENCE_S:
            raise InputError(
                f"{self.part.name}: ends before message {self.offset - 1:,}, which was read already",
                remedy="the stream was made anew or restored: begin a new warehouse",
            )
        return found

    def _check_gaps(self, offsets: list[int]) -> None:
        """Raise InputError where messages are missing; raises ConnectionError."""
        steps = pairwise([self.offset - 1, *(offset for offset in offsets if offset >= self.offset)])
        # A single one is RabbitMQ's own, at the begin of a segment: retention deletes whole segments.
        missing = [before + 1 for before, offset in steps if offset - before > 2]
        if not missing:
            return
        first = find_first(self.part.rules, self.part.stream, "first")
        if first is not None and first > missing[0] + 1:
            raise InputError(
                f"{self.part.name}: message {missing[0]:,}, the next to be read, is no longer there;"
                f" the stream begins with {first:,}",
                remedy="the stream's retention has deleted it: begin a new warehouse, or restore the stream",
            )

    def _make_block(self, deliveries: list[Delivery], first: int) -> RawBlock:
        now = to_us(self.part.reading.clock())
        lines = [make_line(one, self.part.reading) for one in deliveries]
        received = np.array([find_sent(one.properties, now) for one in deliveries], dtype=np.int64)
        return make_block(self.part, first, b"\n".join(lines), received)

    def note_durable(self, offset: int) -> None:
        """Nothing to tell: RabbitMQ keeps a stream's messages whoever has read them."""

    def close(self) -> None:
        if self.consumer is not None:
            self.consumer.close()
        self.consumer = None


def find_start(rules: SourceRules, stream: str) -> int:
    """Ask RabbitMQ for the offset at which the source's `start` lies; raises ReceiverError, InputError."""
    try:
        found = None
        if rules.start != "latest":
            found = find_first(rules, stream, "first" if rules.start == "earliest" else read_moment(rules.start))
        return find_end(rules, stream) if found is None else found
    except ConnectionError as problem:
        raise InputError(
            f"{rules.name}/{stream}: the connection was lost while the start was looked for ({problem})",
            remedy="check that the broker runs, and run the same command again",
        ) from problem


def find_first(rules: SourceRules, stream: str, place: str | datetime) -> int | None:
    """Return the offset of the first message from a place on, or none where there is nothing yet."""
    with closing(connect(replace(rules, prefetch=1), stream, place)) as consumer:
        found = consumer.gather(1, CONNECT_S)
        return read_offset(found[0]) if found else None


def find_end(rules: SourceRules, stream: str) -> int:
    """Return the offset behind the last message."""
    with closing(connect(rules, stream, "last")) as consumer:
        found = consumer.gather(rules.prefetch, CONNECT_S, WAIT_S)
        return read_offset(found[-1]) + 1 if found else 0


def connect(rules: SourceRules, stream: str, place: int | str | datetime) -> RabbitConsumer:
    """Make a consumer from a place on; raises ConnectionError, ReceiverError."""
    until = read_stopwatch() + CONNECT_S
    return RabbitConsumer(rules, stream, {OFFSET: place}, lambda: read_stopwatch() > until)


def read_offset(delivery: Delivery) -> int:
    """Return a message's offset in its stream."""
    return int(delivery.properties.headers[OFFSET])
