"""One partition of a Kafka topic as a feed.

Offsets are committed to the consumer group as well once an epoch is durable, for lag monitors alone: a start never asks
the group.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from clock import Clock, to_us
from config import SourceRules
from events.raw import RawBlock
from sources.kafka_messages import VALUE_ONLY, Wanted, write_lines
from sources.kafka_topics import connect, explain, find_start
from sources.live import make_block

MOST_MESSAGES, FEWEST_MESSAGES = 50_000, 2_000  # of one fetch
ALL_MESSAGES = 160_000  # of one fetch of all partitions
FETCH_S = 0.25
CLOSE_S = 2.0
HOPELESS = (
    KafkaError._AUTO_OFFSET_RESET,
    KafkaError.OFFSET_OUT_OF_RANGE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError._AUTHENTICATION,
)


def choose_batch(partitions: int) -> int:
    """Return how many messages each of so many partitions may fetch at once."""
    return min(MOST_MESSAGES, max(FEWEST_MESSAGES, ALL_MESSAGES // max(1, partitions)))


@dataclass(frozen=True)
class KafkaPart:
    """One partition of a topic of a source; `limit`: the largest size of a record, `wanted`: what goes into its line.

    `batch`: the most messages of one fetch; larger blocks cost less each, and more memory.
    """

    rules: SourceRules
    topic: str
    number: int
    limit: int
    clock: Clock
    wanted: Wanted = VALUE_ONLY
    batch: int = FEWEST_MESSAGES

    @property
    def source(self) -> str:
        """The source and topic, as the tables name them."""
        return f"{self.rules.name}/{self.topic}"

    @property
    def name(self) -> str:
        """The partition, as the tables and the recovery store name it."""
        return f"{self.rules.name}/{self.topic}/{self.number}"

    def open(self, offset: int | None) -> KafkaFeed:
        """Make a consumer of this partition alone; raises ConfigError, InputError."""
        return KafkaFeed(self, find_start(self.rules, self.topic, self.number) if offset is None else offset)


class KafkaFeed:
    """A consumer of one partition; librdkafka connects again by itself when the broker was gone."""

    def __init__(self, part: KafkaPart, offset: int) -> None:
        self.part, self.offset = part, offset
        self.consumer = connect(part.rules)
        self.consumer.assign([TopicPartition(part.topic, part.number, offset)])

    def tell_next(self) -> int:
        return self.offset

    def fetch(self) -> list[RawBlock]:
        good = self._consume()
        if not good:
            return []
        offsets = np.fromiter(map(Message.offset, good), dtype=np.int64, count=len(good))
        cuts = [0, *(np.flatnonzero(np.diff(offsets) != 1) + 1).tolist(), len(good)]
        self.offset = int(offsets[-1]) + 1
        return [self._make_block(good[a:b], int(offsets[a])) for a, b in pairwise(cuts)]

    def _consume(self) -> list[Message]:
        messages = self.consumer.consume(self.part.batch, FETCH_S)
        if not any(map(Message.error, messages)):
            return messages
        for error in map(Message.error, messages):
            if error is not None and (error.fatal() or error.code() in HOPELESS):
                raise explain(self.part.name, error)
        return [message for message in messages if message.error() is None]

    def _make_block(self, messages: list[Message], first: int) -> RawBlock:
        times = np.array([message.timestamp()[1] for message in messages], dtype=np.int64) * 1000
        if (times <= 0).any():
            times[times <= 0] = to_us(self.part.clock())
        return make_block(self.part, first, write_lines(messages, self.part.wanted), times)

    def note_durable(self, offset: int) -> None:
        place = TopicPartition(self.part.topic, self.part.number, offset)
        with suppress(KafkaException):  # the group is for monitors only; the next epoch tells it
            self.consumer.commit(offsets=[place], asynchronous=True)

    def tell_lag(self) -> int | None:
        _, high = self.consumer.get_watermark_offsets(TopicPartition(self.part.topic, self.part.number), cached=True)
        return max(0, high - self.offset) if high >= 0 else None

    def close(self) -> None:
        # It waits for a broker that is gone, and nothing of ours depends on the farewell.
        closing = threading.Thread(target=self.consumer.close, name="close", daemon=True)
        closing.start()
        closing.join(CLOSE_S)
