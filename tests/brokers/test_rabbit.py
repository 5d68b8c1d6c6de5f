"""The RabbitMQ that tests get: quorum queues with confirms, streams from any offset, restarts and kills."""

from __future__ import annotations

import socket

import pika
import pytest

from tests.brokers.rabbit import RabbitBroker
from tests.brokers.server import HOST

pytestmark = pytest.mark.slow
WAIT_S = 30


def publish(broker: RabbitBroker, queue: str, values: range) -> None:
    """Write numbers and wait for the confirm of each."""
    durable = pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent)
    with broker.open_channel() as channel:
        channel.confirm_delivery()
        for value in values:
            channel.basic_publish("", queue, str(value).encode(), durable, mandatory=True)


def consume(broker: RabbitBroker, queue: str, count: int, offset: int | str | None = None) -> list[int]:
    """Read and acknowledge so many messages, of a stream from an offset on."""
    arguments = {} if offset is None else {"x-stream-offset": offset}
    found: list[int] = []
    with broker.open_channel() as channel:
        channel.basic_qos(prefetch_count=20)
        for method, _, body in channel.consume(queue, arguments=arguments, inactivity_timeout=WAIT_S):
            assert method is not None, "RabbitMQ is silent"
            found.append(int(body))
            channel.basic_ack(method.delivery_tag)
            if len(found) == count:
                break
    return found


def count_ready(broker: RabbitBroker, queue: str) -> int:
    with broker.open_channel() as channel:
        return int(channel.queue_declare(queue, passive=True).method.message_count)


def test_a_quorum_queue_keeps_confirmed_messages_over_a_restart_until_they_are_acknowledged(
    rabbit: RabbitBroker,
) -> None:
    queue, address = rabbit.make_queue(), rabbit.amqp_url
    publish(rabbit, queue, range(50))
    assert consume(rabbit, queue, 20) == list(range(20))
    rabbit.restart()
    assert rabbit.amqp_url == address
    publish(rabbit, queue, range(50, 60))
    # What was on its way to the first reader when it closed is put at the end of a quorum queue.
    assert sorted(consume(rabbit, queue, 40)) == list(range(20, 60))
    assert count_ready(rabbit, queue) == 0


def test_a_stream_is_read_again_from_any_offset_also_after_a_kill(rabbit: RabbitBroker) -> None:
    stream = rabbit.make_queue("stream", {"x-max-length-bytes": 1_000_000})
    publish(rabbit, stream, range(50))
    assert consume(rabbit, stream, 50, "first") == list(range(50))
    rabbit.kill()
    assert not rabbit.is_running
    rabbit.start()
    assert consume(rabbit, stream, 50, "first") == list(range(50))
    assert consume(rabbit, stream, 10, 40) == list(range(40, 50))


def test_the_stream_plugin_listens_at_its_port(rabbit: RabbitBroker) -> None:
    with socket.create_connection((HOST, rabbit.stream_port), timeout=WAIT_S):
        pass
