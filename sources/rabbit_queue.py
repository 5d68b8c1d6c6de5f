"""A queue of RabbitMQ into its inbox: a message is acknowledged once it is on disk.

An acknowledgement can be lost with the connection, this process or the broker; then its message, which is safe, is
delivered again, marked as redelivered. RabbitMQ has no more than `prefetch` messages under way unacknowledged, so what
may come back is among the last `prefetch` records of the inbox, and `prefetch` is below 65,536; `KEPT` covers also what
lost its acknowledgement twice. A message is dropped only if it is marked and one of these records has its body,
properties and origin, each record once a connection, as a connection delivers nothing twice. What is marked but not
among them was under way and never safe: it is kept.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator

from clock import to_us
from config import SourceRules
from errors import InboxFullError
from sources.inbox import Inbox, Received
from sources.rabbit import Delivery, RabbitConsumer
from sources.rabbit_messages import Reading, digest, find_sent, make_line
from sources.receiving import OpenDeliveries

KEPT = 2 * 65_535
MOST = 5_000
WAIT_S, GATHER_S = 0.25, 0.03
FULL_S = 0.2
PAUSES_S = (0.1, 5.0)
# What a consumer has anyway, but a stream refuses it, which would begin at its end and keep what is acknowledged.
USUAL = {"x-priority": 0}


class QueueReceiver:
    """Takes the messages of one queue into its inbox."""

    def __init__(self, rules: SourceRules, queue: str, inbox: Inbox, reading: Reading) -> None:
        self.rules, self.queue, self.inbox, self.reading = rules, queue, inbox, reading
        self.most = max(1, min(MOST, rules.prefetch // 2))  # half: the next ones are under way meanwhile
        self.safe: deque[str] = deque(maxlen=KEPT)

    @property
    def name(self) -> str:
        """The source and queue."""
        return f"{self.rules.name}/{self.queue}"

    def run(self, stop: threading.Event) -> None:
        """Receive until told to stop; raises ReceiverError, OSError."""
        self.safe.extend(self.inbox.list_deliveries(max(0, self.inbox.next_offset - KEPT)))
        pause, longest = PAUSES_S
        while not stop.is_set():
            try:
                consumer = RabbitConsumer(self.rules, self.queue, USUAL, stop.is_set)
            except ConnectionError:
                stop.wait(pause)
                pause = min(2 * pause, longest)
                continue
            pause = PAUSES_S[0]
            try:
                self._receive(consumer, stop)
            except ConnectionError:
                stop.wait(pause)
            finally:
                consumer.close()

    def _receive(self, consumer: RabbitConsumer, stop: threading.Event) -> None:
        suspects = OpenDeliveries(self.safe)
        while not stop.is_set():
            for batch in cut(consumer.gather(self.most, WAIT_S, GATHER_S), self.inbox.limit // 4):
                if not self._keep(batch, suspects, consumer, stop):
                    return

    def _keep(
        self, batch: list[Delivery], suspects: OpenDeliveries, consumer: RabbitConsumer, stop: threading.Event
    ) -> bool:
        """Write what is new to the inbox and acknowledge all; tell whether it came to that before the stop."""
        now = to_us(self.reading.clock())
        fresh = []
        for delivery in batch:
            name = digest(delivery)
            if not (delivery.redelivered and suspects.take(name)):
                fresh.append(Received(make_line(delivery, self.reading), find_sent(delivery.properties, now), name))
        if fresh and not self._write(consumer, fresh, stop):
            return False
        self.inbox.pass_point("acknowledging")
        consumer.acknowledge(batch[-1].tag)
        self.inbox.pass_point("acknowledged")
        return True

    def _write(self, consumer: RabbitConsumer, records: list[Received], stop: threading.Event) -> bool:
        """Append to the inbox as soon as there is room; tell whether it came to that before the stop."""
        while not stop.is_set():
            try:
                self.inbox.append(records)
            except InboxFullError:
                # Not acknowledged meanwhile: RabbitMQ keeps what is beyond `prefetch`.
                consumer.rest(FULL_S)
                if consumer.trouble is not None:
                    raise ConnectionError(str(consumer.trouble)) from consumer.trouble
            else:
                self.safe.extend(record.delivery for record in records)
                return True
        return False


def cut(deliveries: list[Delivery], size: int) -> Iterator[list[Delivery]]:
    """Yield the deliveries in pieces of not much more than so many bytes."""
    piece, held = list[Delivery](), 0
    for delivery in deliveries:
        piece.append(delivery)
        held += len(delivery.body)
        if held >= size:
            yield piece
            piece, held = [], 0
    if piece:
        yield piece
