"""Messages for RabbitMQ, and the config of jobs that read them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pika

from config import SECOND, Config, JobRules, SourceRules
from tests.brokers.rabbit import RabbitBroker
from tests.live.support import FUNNELS

DURABLE = pika.DeliveryMode.Persistent


def publish(broker: RabbitBroker, queue: str, records: Sequence[bytes | None], begin: int = 0, **told: Any) -> None:
    """Send records in order, each with an id of its own, and wait until the broker has them."""
    if not records:
        return
    messages = [(record or b"", told | {"message_id": f"id-{begin + at}"}) for at, record in enumerate(records)]
    send(broker, queue, messages)


def send(broker: RabbitBroker, queue: str, messages: Iterable[tuple[bytes, dict[str, Any]]]) -> None:
    """Send messages with properties in order, and wait until the broker has them."""
    *most, last = messages
    with broker.open_channel() as channel:
        for body, properties in most:
            channel.basic_publish("", queue, body, pika.BasicProperties(delivery_mode=DURABLE, **properties))
        # Confirmed one by one would take its time; a channel's messages keep their order, and so do their confirms.
        channel.confirm_delivery()
        body, properties = last
        channel.basic_publish(
            "", queue, body, pika.BasicProperties(delivery_mode=DURABLE, **properties), mandatory=True
        )


def count_left(broker: RabbitBroker, queue: str) -> int:
    """Count what nobody has taken and acknowledged; only right while nobody consumes."""
    with broker.open_channel() as channel:
        return int(channel.queue_declare(queue, passive=True).method.message_count)


def make_rules(broker: RabbitBroker, name: str, **changes: Any) -> SourceRules:
    """Make the rules of a source that reads a queue or, by its name, a stream."""
    rules = SourceRules("s0", kind="rabbitmq", url=broker.amqp_url)
    chosen = {"streams": (name,)} if name.startswith("stream") else {"queues": (name,)}
    return replace(rules, **(chosen | changes))


def make_config(*sources: SourceRules, idle_after: int = 60 * SECOND) -> Config:
    """Make the config of a job that reads these sources."""
    return Config(funnels=FUNNELS, sources=sources, job=JobRules(snapshot=SECOND // 2, idle_after=idle_after))


def write_toml(rules: SourceRules) -> str:
    """Write the config of a job in a process of its own."""
    listed = [f"queues = {list(rules.queues)}", f"streams = {list(rules.streams)}"]
    chosen = [line for line in listed if not line.endswith("[]")]
    return "\n".join(
        [
            '[job]\nsnapshot = "300ms"',
            '[funnels.purchase]\nsteps = ["view", "add", "buy"]',
            f'[[source]]\nname = "{rules.name}"\nkind = "rabbitmq"\nurl = "{rules.url}"\nprefetch = {rules.prefetch}',
            *chosen,
        ]
    )
