"""Azure Event Grid's stand-in for the contract."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from config import SourceRules
from tests.brokers.eventgrid import KEY, FakeEventGrid
from tests.contracts.rig import Rig

BROKEN = b'{"broken"}'  # for what is no JSON and could not even be handed out within an answer


class EventGridRig(Rig):
    """A topic with one subscription. The contract's records are no CloudEvents, so they are put in unchecked."""

    def __init__(self, grid: FakeEventGrid) -> None:
        self.grid = grid
        grid.subscribe("clicks", "journeys", lock_s=2)
        self.rules = SourceRules("s", "eventgrid", endpoint=grid.endpoint, key=KEY, subscriptions=("clicks/journeys",))

    def send(self, records: Sequence[bytes | None]) -> None:
        self.grid.put("clicks", *(record if _is_json(record) else BROKEN for record in records))

    def restart(self) -> None:
        self.grid.stop()
        time.sleep(0.5)
        self.grid.start()

    def send_poison(self, records: Sequence[bytes]) -> list[bytes]:
        """Send what is JSON: an event is part of an answer that is."""
        taken = [record for record in records if _is_json(record)]
        self.send(taken)
        return taken


def _is_json(record: bytes | None) -> bool:
    try:
        json.loads(record or b"")
    except ValueError:
        return False
    return True
