"""What a message of Kafka tells beside its value: its time, its key, its headers, CloudEvents in binary mode."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Producer

from config import Config, InputRules, SourceRules
from tests.brokers.kafka import KafkaBroker
from tests.live.support import SENTINEL, START_S, ask, count_rows, make_config, make_record, running, wait_until

pytestmark = pytest.mark.slow
Message = tuple[bytes, bytes | None, dict[str, str | bytes | None]]


def send(kafka: KafkaBroker, topic: str, messages: list[Message], at_s: float) -> None:
    """Send messages of value, key and headers, a second after one another by their timestamps, to partition 0."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
    for number, (value, key, headers) in enumerate(messages):
        moment = int((at_s + number) * 1000)
        producer.produce(topic, value, key, partition=0, timestamp=moment, headers=headers)
    assert producer.flush(30) == 0


def read_events(kafka: KafkaBroker, folder: Path, config: Config, messages: list[Message], columns: str) -> list[str]:
    """Run a job over messages, of which the last one only moves the watermark; return columns of the events before it."""
    topic = kafka.make_topic(1)
    config = replace(config, sources=(replace(config.sources[0], servers=kafka.bootstrap, topics=(topic,)),))
    send(kafka, topic, messages, START_S + 100)
    with running(folder, config):
        wait_until(lambda: count_rows(folder, "events") == len(messages) - 1)
    return ask(folder, f"SELECT {columns} FROM events")


def test_event_was_received_when_its_message_came_unless_it_says_itself(kafka: KafkaBroker, tmp_path: Path) -> None:
    own = make_record("own", "u", START_S + 1, "view")[:-1] + b', "receivedAt": "2026-01-05T08:00:02.5Z"}'
    wrong = make_record("wrong", "u", START_S + 2, "view")[:-1] + b', "receivedAt": "soon"}'
    lines = [
        b"{",
        make_record("none", "u", START_S, "view"),
        own,
        wrong,
        make_record("e", SENTINEL, START_S + 999, "x"),
    ]
    topic = kafka.make_topic(1)
    send(kafka, topic, [(line, None, {}) for line in lines], START_S + 100)
    with running(tmp_path, make_config(kafka.bootstrap, topic)):
        wait_until(lambda: count_rows(tmp_path, "events") == 3)
    found = ask(tmp_path, f"SELECT event_id, epoch_us(received_at) // 100000 - {START_S * 10} FROM events")
    assert found == ["('none', 1010)", "('own', 25)", "('wrong', 1030)"]


def test_key_and_headers_can_be_mapped(kafka: KafkaBroker, tmp_path: Path) -> None:
    """A record can't pretend to another key, and a value that is no object is a dead letter as ever."""
    fields = {
        "event_id": ("id",),
        "event_time": ("at",),
        "user_id": ("$key",),
        "event_name": ("name",),
        "campaign": ("$headers.utm-campaign", "utm"),
        "channel": ("$headers.`x.channel`",),
        "properties": ("$headers",),
    }
    rules = InputRules(format="fields", fields={name: tuple(paths) for name, paths in fields.items()})
    config = Config(input=rules, sources=(SourceRules("s0"),))
    config = replace(config, job=make_config("", "").job)

    def make_value(name: str, second: int, rest: str = "") -> bytes:
        return f'{{"id": "{name}", "at": {START_S + second}, "name": "view"{rest}}}'.encode()

    messages: list[Message] = [
        (make_value("a", 0), b"ann", {"utm-campaign": b"spring", "x.channel": "mobile"}),
        (make_value("b", 1, ', "$key": "mallory", "utm": "body"'), "b\u00f6b".encode(), {}),
        (make_value("end", 3_000), b"end", {}),
    ]
    found = read_events(kafka, tmp_path, config, messages, "event_id, user_id, campaign, channel, properties")
    assert found == [
        "('a', 'ann', 'spring', 'mobile', '{\"utm-campaign\":\"spring\",\"x.channel\":\"mobile\"}')",
        "('b', 'b\u00f6b', 'body', 'unknown', '{}')",
    ]


def test_cloudevents_come_in_both_modes(kafka: KafkaBroker, tmp_path: Path) -> None:
    body = make_record("m", "u", START_S, "view")
    event = {
        "specversion": "1.0",
        "id": "1",
        "source": "/shop",
        "type": "com.shop.view",
        "time": "2026-01-05T08:00:00Z",
    }
    binary = {f"ce_{name}": text.encode() for name, text in event.items()} | {"content-type": b"application/json"}
    structured = {**event, "id": "2", "data": json.loads(make_record("n", "u", START_S + 1, "add"))}
    end = {**event, "id": "3", "data": json.loads(make_record("e", SENTINEL, START_S + 3_000, "x"))}
    messages: list[Message] = [
        (body, None, dict(binary)),
        (json.dumps(structured).encode(), None, {"content-type": b"application/cloudevents+json"}),
        (json.dumps(end).encode(), None, {}),
    ]
    config = replace(make_config("", ""), sources=(SourceRules("s0", format="cloudevents"),))
    found = read_events(kafka, tmp_path, config, messages, "event_id, user_id, step")
    assert found == ["('m', 'u', 'view')", "('n', 'u', 'add')"]
