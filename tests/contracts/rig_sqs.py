"""Amazon SQS, as moto imitates it, for the contract."""

from __future__ import annotations

import time
from collections.abc import Sequence

from config import SourceRules
from tests.brokers.aws import REGION, FakeAws
from tests.brokers.relay import Relay
from tests.contracts.rig import Rig


class SqsRig(Rig):
    """An ordered queue (FIFO), with one group of messages, by a way that can be cut: moto would forget the queue."""

    keeps_order = (
        False  # moto hands out later messages of a group while earlier ones, whose answer was cut off, are invisible
    )

    def __init__(self, server: FakeAws) -> None:
        self.server, self.relay = server, Relay(server.port)
        self.queue = server.make_queue(is_ordered=True, visible_after=2)
        self.rules = SourceRules("s", "sqs", queues=(self.queue,), region=REGION, endpoint=self.relay.endpoint)

    def send(self, records: Sequence[bytes | None]) -> None:
        self.server.send(self.queue, [(record or b" ").decode() for record in records])

    def restart(self) -> None:
        self.relay.stop()
        time.sleep(0.5)
        self.relay.start()

    def send_poison(self, records: Sequence[bytes]) -> list[bytes]:
        """Send what is text: SQS takes nothing else."""
        taken = [record for record in records if b"\x00" not in record]
        self.send(taken)
        return taken
