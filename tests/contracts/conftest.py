"""Every kind of source, as the fixture `rig`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.contracts.rig import Rig
from tests.contracts.rig_eventgrid import EventGridRig
from tests.contracts.rig_http import CollectorRig, WebhookRig
from tests.contracts.rig_kafka import KafkaRig
from tests.contracts.rig_rabbit import RabbitQueueRig, RabbitStreamRig
from tests.contracts.rig_sqs import SqsRig

RIGS: dict[str, Callable[[pytest.FixtureRequest], Rig]] = {
    "collector": lambda _: CollectorRig(),
    "eventgrid": lambda request: EventGridRig(request.getfixturevalue("event_grid")),
    "kafka": lambda request: KafkaRig(request.getfixturevalue("kafka")),
    "sqs": lambda request: SqsRig(request.getfixturevalue("aws")),
    "rabbit_queue": lambda request: RabbitQueueRig(request.getfixturevalue("rabbit")),
    "rabbit_stream": lambda request: RabbitStreamRig(request.getfixturevalue("rabbit")),
    "webhook": lambda _: WebhookRig(),
}


@pytest.fixture(params=sorted(RIGS))
def rig(request: pytest.FixtureRequest) -> Rig:
    """One source of each kind in turn."""
    return RIGS[request.param](request)
