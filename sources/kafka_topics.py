"""Topics of Kafka: which partitions they have, where one begins, and what is wrong in words."""

from __future__ import annotations

from typing import Any

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition

from clock import read_moment, to_us
from config import SourceRules
from errors import ConfigError, InputError

PATIENCE_S = 10.0
OURS = ("bootstrap.servers", "group.id", "enable.auto.commit", "enable.auto.offset.store", "auto.offset.reset")
# A partition that is ahead of the others waits: what was fetched for it is bounded.
QUEUED_KB = "16384"


def find_start(rules: SourceRules, topic: str, number: int) -> int:
    """Ask the broker for the offset at which the source's `start` lies; raises InputError."""
    consumer = connect(rules)
    place = TopicPartition(topic, number)
    try:
        low, high = consumer.get_watermark_offsets(place, timeout=PATIENCE_S)
        if rules.start in ("earliest", "latest"):
            return int(low if rules.start == "earliest" else high)
        place.offset = to_us(read_moment(rules.start)) // 1000
        (found,) = consumer.offsets_for_times([place], timeout=PATIENCE_S)
        return int(high if found.offset in (OFFSET_END, -1) else found.offset)
    except KafkaException as problem:
        raise explain(f"{rules.name}/{topic}/{number}", problem.args[0]) from problem
    finally:
        consumer.close()


def connect(rules: SourceRules) -> Consumer:
    """Make a consumer that never takes an offset from anybody but us; raises ConfigError."""
    for name in rules.settings:
        if name in OURS:
            raise ConfigError(f"[[source]] {rules.name}: settings: {name} can't be set", remedy="see docs/live.md")
    settings: dict[str, Any] = {
        "queued.max.messages.kbytes": QUEUED_KB,
        "fetch.wait.max.ms": "100",
        **rules.settings,
        "bootstrap.servers": rules.servers,
        "group.id": rules.group,
        "enable.auto.commit": "false",
        "enable.auto.offset.store": "false",
        # An offset that the broker has deleted is lost data, and no reason to begin elsewhere in silence.
        "auto.offset.reset": "error",
    }
    try:
        return Consumer(settings, logger=_SILENT)
    except KafkaException as problem:
        error = problem.args[0]
        raise ConfigError(
            f"[[source]] {rules.name}: {error.str() if isinstance(error, KafkaError) else error}",
            remedy="compare settings with librdkafka's configuration page",
        ) from problem


class _Silent:
    def log(self, *_: object) -> None:
        """Say nothing: what matters comes as an error of the consumer."""


_SILENT = _Silent()


def list_partitions(rules: SourceRules, patience_s: float = PATIENCE_S) -> list[tuple[str, int]]:
    """Ask the broker which partitions the topics of a source have, as topic and number; raises InputError."""
    consumer = connect(rules)
    parts: list[tuple[str, int]] = []
    try:
        for topic in rules.topics:
            found = consumer.list_topics(topic, timeout=patience_s).topics[topic]
            if found.error is not None:
                raise InputError(
                    f"[[source]] {rules.name}: topic {topic!r}: {found.error.str()}",
                    remedy="make the topic, or correct its name under topics",
                )
            parts += [(topic, number) for number in sorted(found.partitions)]
    except KafkaException as problem:
        raise InputError(
            f"[[source]] {rules.name}: no answer from {rules.servers} ({problem.args[0].str()})",
            remedy="check servers and settings, and that the broker runs",
        ) from problem
    else:
        return parts
    finally:
        consumer.close()


def explain(name: str, error: KafkaError) -> InputError:
    """Say what is wrong with a partition of this name, and what to do."""
    if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
        return InputError(
            f"{name}: the messages to go on with are no longer there ({error.str()})",
            remedy="the topic's retention has deleted them: begin a new warehouse, or restore the topic",
        )
    return InputError(f"{name}: {error.str()}", remedy="check the topic, and what this user may read")
