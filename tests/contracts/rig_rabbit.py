"""RabbitMQ for the contract: a quorum queue, by way of the inbox, and a stream."""

from __future__ import annotations

from collections.abc import Sequence

from tests.brokers.rabbit import RabbitBroker
from tests.contracts.rig import Rig
from tests.live.rabbit_support import make_rules, publish


class RabbitQueueRig(Rig):
    """A quorum queue."""

    kind = "quorum"

    def __init__(self, broker: RabbitBroker) -> None:
        self.broker, self.queue = broker, broker.make_queue(self.kind)
        self.rules = make_rules(broker, self.queue)
        self.sent = 0

    def send(self, records: Sequence[bytes | None]) -> None:
        publish(self.broker, self.queue, records, self.sent)
        self.sent += len(records)

    def restart(self) -> None:
        self.broker.restart()


class RabbitStreamRig(RabbitQueueRig):
    """A stream."""

    kind = "stream"
