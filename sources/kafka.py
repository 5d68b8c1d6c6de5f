"""A Bytewax source over the partitions of Kafka topics: offsets live in the recovery store, and nothing is read twice.

One consumer for each partition fetches and decodes ahead in a thread of its own. Offsets are committed to the
consumer group as well once an epoch is durable, for lag monitors alone: a start never asks the group.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

import numpy as np
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from clock import Clock, read_stopwatch, to_us
from config import Config
from events.canonical import Decoded
from events.raw import EpochEnd, LaneEnd, LaneHead, RawBlock
from sources.files import NEVER, Alignment, LaneItem, Progress
from sources.kafka_topics import KafkaPart, connect, explain
from sources.probing import Decode

FETCH_MESSAGES = 20_000
FETCH_S = 0.25
POLL_S = 0.02
RELEASE_AT = 0.8  # of an epoch
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
NULL = b"null"  # what stands for a message without a value: it is counted, as a dead letter


@dataclass(frozen=True)
class _Fetched:
    """Blocks of messages whose offsets follow one another, decoded, and the offset after the last of them."""

    decoded: list[Decoded]
    next_offset: int


class KafkaPartition(StatefulSourcePartition[LaneItem, bytes]):
    """One partition of a topic: fetches ahead, remembers the next offset, says when it is idle."""

    def __init__(self, source: KafkaSource, part: KafkaPart, offset: int) -> None:
        self.source, self.part, self.offset = source, part, offset
        self.consumer = connect(part.rules, source.environment)
        self.consumer.assign([TopicPartition(part.topic, part.number, offset)])
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="fetch")
        self.fetching = self.pool.submit(self._fetch, offset)
        self.saved: int | None = None
        self.saved_at = 0.0
        self.epoch_began = self.heard = read_stopwatch()
        self.idle = self.quiet = self.released = False
        self.announced = NEVER
        source.alignment.heads[part.name] = NEVER

    def _fetch(self, offset: int) -> _Fetched:
        messages = self.consumer.consume(FETCH_MESSAGES, FETCH_S)
        for error in (message.error() for message in messages):
            if error is not None:
                self._judge(error)
        good = [message for message in messages if message.error() is None]
        if not good:
            return _Fetched([], offset)
        offsets = np.array([message.offset() for message in good], dtype=np.int64)
        cuts = [0, *(np.flatnonzero(np.diff(offsets) != 1) + 1).tolist(), len(good)]
        blocks = [self._make_block(good[a:b], int(offsets[a])) for a, b in pairwise(cuts)]
        decode = self.source.decode[self.part.rules.name]
        return _Fetched([decode(block) for block in blocks], int(offsets[-1]) + 1)

    def _judge(self, error: KafkaError) -> None:
        # librdkafka connects again by itself; what it can't mend ends the run.
        if error.fatal() or error.code() in HOPELESS:
            raise explain(self.part, error)

    def _make_block(self, messages: list[Message], first: int) -> RawBlock:
        values = [_read_value(message) for message in messages]
        times = np.array([message.timestamp()[1] for message in messages], dtype=np.int64) * 1000
        if (times <= 0).any():
            times[times <= 0] = to_us(self.source.clock())
        return RawBlock(
            "ndjson",
            self.part.source,
            self.part.name,
            first,
            b"\n".join(values),
            limit=self.source.config.input.max_record_bytes,
            lines=len(values),
            received=times,
        )

    def next_batch(self) -> list[LaneItem]:
        now = read_stopwatch()
        if self.saved is not None:
            self._note_durable(now)
        if self.source.is_stopping():
            self.source.alignment.heads.pop(self.part.name, None)
            raise StopIteration
        self.quiet = not self.fetching.done()
        if self.quiet:
            return self._end_epoch(now, [])
        fetched: _Fetched = self.fetching.result()
        if not fetched.decoded:
            # Read to the end: what comes later is not waited for, but by the watermark.
            self.source.alignment.heads.pop(self.part.name, None)
            self._go_on(fetched)
            return self._end_epoch(now, self._fall_idle(now))
        head = next(
            (int(one.events["event_time"].to_physical()[0]) for one in fetched.decoded if one.events.height), NEVER
        )
        self.source.alignment.heads[self.part.name] = head
        if not self.source.alignment.may_pass(self.part.name):
            self.quiet = True
            if head in (self.announced, NEVER):
                return self._end_epoch(now, [])
            self.announced = head
            return self._end_epoch(now, [LaneHead(self.part.name, head)])
        self.heard, self.idle = now, False
        self._go_on(fetched)
        for decoded in fetched.decoded:
            self.source.progress.add(decoded, len(decoded.block.payload))
        return self._end_epoch(now, list(fetched.decoded))

    def _go_on(self, fetched: _Fetched) -> None:
        self.offset = fetched.next_offset
        self.fetching = self.pool.submit(self._fetch, fetched.next_offset)

    def _fall_idle(self, now: float) -> list[LaneItem]:
        if self.idle or now - self.heard < self.source.config.job.idle_after / 1e6:
            return []
        self.idle = True
        return [LaneEnd(self.part.name)]

    def _end_epoch(self, now: float, items: list[LaneItem]) -> list[LaneItem]:
        # Once in each epoch, shortly before Bytewax closes it, what the watermark has passed is released.
        if self.released or now - self.epoch_began < RELEASE_AT * self.source.config.job.snapshot / 1e6:
            return items
        self.released = True
        return [*items, EpochEnd(self.part.name)]

    def _note_durable(self, now: float) -> None:
        offset, self.saved = self.saved or 0, None
        self.epoch_began, self.released = now, False
        self.source.progress.note_stall(now - self.saved_at)
        self.source.on_durable()
        try:
            place = TopicPartition(self.part.topic, self.part.number, offset)
            self.consumer.commit(offsets=[place], asynchronous=True)
        except KafkaException:
            pass  # the group is for monitors only; the next epoch tells it

    def next_awake(self) -> datetime | None:
        return self.source.clock() + timedelta(seconds=POLL_S) if self.quiet else None

    def snapshot(self) -> bytes:
        self.saved, self.saved_at = self.offset, read_stopwatch()
        return json.dumps({"v": 1, "offset": self.offset}).encode()

    def close(self) -> None:
        self.pool.shutdown(wait=True, cancel_futures=True)
        self.consumer.close()


def _read_value(message: Message) -> bytes:
    value = message.value()
    if not isinstance(value, bytes) or not value or value.isspace():
        return NULL
    # In JSON a line break is white space; inside of a text it is an error either way.
    return value if b"\n" not in value else value.replace(b"\n", b" ")


class KafkaSource(FixedPartitionedSource[LaneItem, bytes]):
    """All partitions of all sources of a live job.

    `decode`: by source, a block to its events. `starts`: where a partition without a state begins. `is_stopping` ends
    every partition; `on_durable` is called when an epoch has become durable and before more is read.
    """

    def __init__(
        self,
        parts: tuple[KafkaPart, ...],
        decode: dict[str, Decode],
        config: Config,
        environment: dict[str, str],
        clock: Clock,
    ) -> None:
        self.parts = {part.name: part for part in parts}
        self.decode, self.config, self.environment, self.clock = decode, config, environment, clock
        self.is_stopping: Callable[[], bool] = lambda: False
        self.on_durable: Callable[[], None] = lambda: None
        self.alignment = Alignment()
        self.progress = Progress()

    def close(self) -> None:
        """Nothing outlives the partitions."""

    def list_parts(self) -> list[str]:
        return sorted(self.parts)

    def build_part(self, _step_id: str, for_part: str, resume_state: bytes | None) -> KafkaPartition:
        part = self.parts[for_part]
        if resume_state is None:
            return KafkaPartition(self, part, part.find_start(self.environment))
        return KafkaPartition(self, part, int(json.loads(resume_state)["offset"]))
