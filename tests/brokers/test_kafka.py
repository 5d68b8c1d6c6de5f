"""The Kafka that tests get: partitions, transactions, and what is left after a restart and after a kill."""

from __future__ import annotations

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.brokers.kafka import KafkaBroker
from tests.brokers.server import make_name

pytestmark = pytest.mark.slow
PARTITIONS = 3
WAIT_S = 30


def produce(broker: KafkaBroker, topic: str, values: range) -> None:
    """Write numbers, each to the partition that it belongs to, and wait until all are acknowledged."""
    producer = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 0})
    for value in values:
        producer.produce(topic, str(value), partition=value % PARTITIONS)
    assert producer.flush(WAIT_S) == 0


def consume(broker: KafkaBroker, topic: str) -> dict[int, list[int]]:
    """Read every partition from its start to its end."""
    settings = {
        "bootstrap.servers": broker.bootstrap,
        "group.id": make_name("group"),
        "enable.partition.eof": True,
        "isolation.level": "read_committed",
        "fetch.wait.max.ms": 10,
    }
    found: dict[int, list[int]] = {partition: [] for partition in range(PARTITIONS)}
    consumer = Consumer(settings)
    consumer.assign([TopicPartition(topic, partition, 0) for partition in found])
    ended = 0
    while ended < PARTITIONS:
        message = consumer.poll(WAIT_S)
        assert message is not None, "Kafka is silent"
        partition, value = message.partition(), message.value()
        if message.error() is not None:
            ended += 1
        elif partition is not None and value is not None:
            found[partition].append(int(value))
    consumer.close()
    return found


def split(values: range) -> dict[int, list[int]]:
    return {
        partition: [value for value in values if value % PARTITIONS == partition] for partition in range(PARTITIONS)
    }


def test_each_partition_gives_its_records_in_order(kafka: KafkaBroker) -> None:
    topic = kafka.make_topic(PARTITIONS)
    produce(kafka, topic, range(100))
    assert consume(kafka, topic) == split(range(100))


def test_topics_have_names_of_their_own_and_their_settings(kafka: KafkaBroker) -> None:
    topics = {kafka.make_topic(config={"retention.ms": "-1"}) for _ in range(2)}
    assert len(topics) == 2
    assert topics <= set(kafka.connect_admin().list_topics(timeout=WAIT_S).topics)


def test_records_stay_and_ports_stay_over_a_restart(kafka: KafkaBroker) -> None:
    topic, address = kafka.make_topic(PARTITIONS), kafka.bootstrap
    produce(kafka, topic, range(50))
    before = kafka.pid
    kafka.restart()
    assert kafka.pid != before
    assert kafka.bootstrap == address
    produce(kafka, topic, range(50, 100))
    assert consume(kafka, topic) == split(range(100))


def test_acknowledged_records_stay_when_kafka_is_killed(kafka: KafkaBroker) -> None:
    topic = kafka.make_topic(PARTITIONS)
    produce(kafka, topic, range(50))
    kafka.kill()
    assert not kafka.is_running
    kafka.start()
    assert consume(kafka, topic) == split(range(50))


def test_a_transaction_that_was_aborted_is_not_read(kafka: KafkaBroker) -> None:
    topic = kafka.make_topic(PARTITIONS)
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": make_name("writer")})
    producer.init_transactions(WAIT_S)
    for value, end in [(1, producer.abort_transaction), (2, producer.commit_transaction)]:
        producer.begin_transaction()
        producer.produce(topic, str(value), partition=0)
        end(WAIT_S)
    assert consume(kafka, topic)[0] == [2]
