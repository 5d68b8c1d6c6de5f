"""Apache Kafka for the contract."""

from __future__ import annotations

from collections.abc import Sequence

from confluent_kafka import Producer

from config import SourceRules
from tests.brokers.kafka import KafkaBroker
from tests.contracts.rig import PATIENCE_S, Rig


class KafkaRig(Rig):
    """A topic with one partition."""

    def __init__(self, broker: KafkaBroker) -> None:
        self.broker, self.topic = broker, broker.make_topic(1)
        self.rules = SourceRules("s", "kafka", servers=broker.bootstrap, topics=(self.topic,))

    def send(self, records: Sequence[bytes | None]) -> None:
        producer = Producer({"bootstrap.servers": self.broker.bootstrap, "enable.idempotence": True, "log_level": 0})
        for record in records:
            producer.produce(self.topic, record)
        assert producer.flush(PATIENCE_S) == 0

    def restart(self) -> None:
        self.broker.restart()
