"""Which answers of RabbitMQ end a job, and which call for another try."""

from __future__ import annotations

import pytest
from pika.exceptions import ChannelClosedByBroker

from config import SourceRules
from errors import ReceiverError
from sources.rabbit import explain

RULES = SourceRules("shop", "rabbitmq", url="amqp://localhost", streams=("clicks",))


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        (406, "PRECONDITION_FAILED - queue 'clicks' does not have a replica on the local node", ConnectionError),
        (404, "NOT_FOUND - home node of durable queue 'clicks' is down or inaccessible", ConnectionError),
        (404, "NOT_FOUND - no queue 'clicks' in vhost '/'", ReceiverError),
        (406, "PRECONDITION_FAILED - x-stream-offset not supported", ReceiverError),
        (403, "ACCESS_REFUSED - access to queue 'clicks' refused", ReceiverError),
    ],
)
def test_stream_that_is_not_back_yet_is_waited_for(code: int, text: str, kind: type[Exception]) -> None:
    assert isinstance(explain(RULES, "clicks", ChannelClosedByBroker(code, text)), kind)
