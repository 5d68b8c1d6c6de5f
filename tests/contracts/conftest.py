"""Every kind of source, as the fixture `rig`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.contracts.rig import Rig
from tests.contracts.rig_http import CollectorRig, WebhookRig
from tests.contracts.rig_kafka import KafkaRig

RIGS: dict[str, Callable[[pytest.FixtureRequest], Rig]] = {
    "collector": lambda _: CollectorRig(),
    "kafka": lambda request: KafkaRig(request.getfixturevalue("kafka")),
    "webhook": lambda _: WebhookRig(),
}


@pytest.fixture(params=sorted(RIGS))
def rig(request: pytest.FixtureRequest) -> Rig:
    """One source of each kind in turn."""
    return RIGS[request.param](request)
