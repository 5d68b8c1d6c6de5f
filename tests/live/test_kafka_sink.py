"""Committed rows sent to a topic: each once for who reads what is committed, whatever happens to the job or the broker."""

from __future__ import annotations

import json
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from config import Config, TopicRules
from errors import ConfigError, SinkError
from flows.live import LiveOptions, run_live
from sinks.compaction import compact
from sinks.manifest import read_manifest
from sinks.sent import find_place
from sinks.storage import Folders
from tests.brokers.kafka import KafkaBroker
from tests.live.support import (
    START_S,
    Process,
    ask,
    count_rows,
    end_records,
    expect_sessions,
    make_config,
    make_record,
    make_records,
    produce,
    replay,
    running,
    wait_until,
)

pytestmark = pytest.mark.slow
TABLES = ("sessions", "funnel_steps", "transitions")
TOML = """
[job]
snapshot = "300ms"
[funnels.purchase]
steps = ["view", "add", "buy"]
[[source]]
name = "s0"
servers = "{servers}"
topics = ["{topic}"]
[[sink]]
name = "out"
servers = "{servers}"
topic = "{out}"
tables = ["sessions", "funnel_steps", "transitions"]
"""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[KafkaBroker]:
    """A broker of its own for what is sent, so that it can be away while the job reads."""
    with KafkaBroker(tmp_path / "other") as broker:
        yield broker


def with_sink(config: Config, servers: str, topic: str, **more: Any) -> Config:
    rules = TopicRules("out", servers=servers, topic=topic, tables=TABLES)
    return replace(config, sinks=(replace(rules, **more),))


class Taken:
    """What a consumer of committed messages has seen so far."""

    def __init__(self, servers: str, topic: str, partitions: int = 1) -> None:
        settings = {"bootstrap.servers": servers, "group.id": "reader", "isolation.level": "read_committed"}
        self.consumer = Consumer({**settings, "enable.auto.commit": False, "log_level": 0})
        self.consumer.assign([TopicPartition(topic, number, 0) for number in range(partitions)])
        self.rows: list[tuple[str, str, int, bytes | None, dict[str, Any]]] = []

    def read(self, seconds: float = 0.5) -> Taken:
        """Take what there is."""
        while messages := self.consumer.consume(10_000, seconds):
            for message in messages:
                assert message.error() is None
                headers = {name: bytes(value).decode() for name, value in dict(message.headers() or ()).items()}  # type: ignore[arg-type]
                assert headers["v"] == "1"
                place = (headers["table"], headers["commit"], int(headers["row"]))
                key = message.key()
                self.rows.append((*place, bytes(key) if key is not None else None, json.loads(message.value() or b"")))  # type: ignore[arg-type]
        return self

    def count(self) -> int:
        return len(self.read().rows)

    def find_repeated(self) -> list[tuple[str, str, int]]:
        """Name the rows that came more than once."""
        seen = Counter(row[:3] for row in self.rows)
        return [place for place, count in seen.items() if count > 1]

    def values(self, table: str, *columns: str) -> list[str]:
        return sorted(repr(tuple(row[4][name] for name in columns)) for row in self.rows if row[0] == table)


def assert_all_sent(taken: Taken, warehouse: Path) -> None:
    """Compare what came with what the tables hold, row by row."""
    assert taken.find_repeated() == []
    assert taken.values("sessions", "session_id", "events") == ask(warehouse, "SELECT session_id, events FROM sessions")
    assert taken.values("funnel_steps", "attempt_id", "step_index") == ask(
        warehouse, "SELECT attempt_id, step_index FROM funnel_steps"
    )
    sent = sum(row[4]["transitions"] for row in taken.rows if row[0] == "transitions")
    assert [f"({sent},)"] == ask(warehouse, "SELECT sum(transitions)::BIGINT FROM transitions")


def test_rows_of_committed_epochs_come_with_key_headers_and_all_columns(kafka: KafkaBroker, tmp_path: Path) -> None:
    records = end_records(make_records(2, 1_500, seed=21))
    topic, out, live = kafka.make_topic(2), kafka.make_topic(3), tmp_path / "live"
    replay(tmp_path / "files", records, tmp_path / "replayed")
    with running(live, with_sink(make_config(kafka.bootstrap, topic), kafka.bootstrap, out)):
        produce(kafka.bootstrap, topic, records)
        expect_sessions(live, tmp_path / "replayed")
    taken = Taken(kafka.bootstrap, out, 3).read(2)
    assert_all_sent(taken, live)
    for table, _, _, key, row in taken.rows:
        assert key == (None if table == "transitions" else row["person_id"].encode())
    (session,) = [row for *_, row in taken.rows if row.get("session_id") and row["events"] == 1][:1]
    (wanted,) = ask(
        live,
        "SELECT strftime(started_at AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S.%fZ'), channels, steps, dt::VARCHAR, path_cut"
        f" FROM sessions WHERE session_id = '{session['session_id']}'",
    )
    assert repr(tuple(session[name] for name in ("started_at", "channels", "steps", "dt", "path_cut"))) == wanted


def test_killed_job_sends_every_row_once(kafka: KafkaBroker, tmp_path: Path) -> None:
    """Killed by SIGKILL within a transaction, after it but before that is noted here, and at random."""
    chance = random.Random(5)
    records = end_records(make_records(2, 4_000, seed=22))
    topic, out, live = kafka.make_topic(2), kafka.make_topic(2), tmp_path / "live"
    replay(tmp_path / "files", records, tmp_path / "replayed")
    text = TOML.format(servers=kafka.bootstrap, topic=topic, out=out)
    points = ["sink_produced", "sink_offsets", "", "sink_committed", "sink_produced", "epoch_durable:3", ""]
    step = len(records[0]) // (len(points) + 1) + 1
    for number, point in enumerate(points):
        job = Process(tmp_path, text, live, point)
        produce(kafka.bootstrap, topic, [lines[number * step : (number + 1) * step] for lines in records])
        if point:
            assert job.process.wait(60) == -signal.SIGKILL
        time.sleep(0 if point else 5 * chance.random() + 2)
        job.kill()
    produce(kafka.bootstrap, topic, [lines[len(points) * step :] for lines in records])
    job = Process(tmp_path, text, live)
    expect_sessions(live, tmp_path / "replayed")
    code, told = job.stop()
    assert code == 0, told
    assert_all_sent(Taken(kafka.bootstrap, out, 2).read(2), live)


def test_job_goes_on_while_the_topics_broker_is_away_and_the_topic_catches_up(
    kafka: KafkaBroker, other: KafkaBroker, tmp_path: Path
) -> None:
    """Meanwhile the small files of what is not sent yet are not merged, and those of what was are."""
    records = end_records(make_records(2, 3_000, seed=23))
    topic, out, live = kafka.make_topic(2), other.make_topic(1), tmp_path / "live"
    replay(tmp_path / "files", records, tmp_path / "replayed")
    with running(live, with_sink(make_config(kafka.bootstrap, topic), other.bootstrap, out)) as seen:
        for begin in range(0, 600, 200):
            produce(kafka.bootstrap, topic, [lines[begin : begin + 200] for lines in records])
            wait_until(lambda begin=begin: seen[-1].records >= 2 * begin + 400)  # type: ignore[misc]
            time.sleep(1)
        taken = Taken(other.bootstrap, out)
        wait_until(lambda: taken.count() > 0)
        other.stop()
        before = count_rows(live, "sessions")
        for begin in range(600, 1_200, 200):
            produce(kafka.bootstrap, topic, [lines[begin : begin + 200] for lines in records])
            wait_until(lambda begin=begin: seen[-1].records >= 2 * begin + 400)  # type: ignore[misc]
            time.sleep(1)
        assert count_rows(live, "sessions") > before
        compact(Folders(live))
        places = [find_place(file.path) for file in read_manifest(Folders(live)).files["sessions"]]
        assert None in places
        assert sum(place is not None for place in places) >= 2
        other.start()
        produce(kafka.bootstrap, topic, [lines[1_200:] for lines in records])
        expect_sessions(live, tmp_path / "replayed")
        wait_until(lambda: len(taken.read().values("sessions", "session_id")) >= count_rows(live, "sessions"))
    compact(Folders(live))
    assert_all_sent(taken.read(2), live)


def test_new_sink_begins_behind_what_is_committed(kafka: KafkaBroker, tmp_path: Path) -> None:
    topic, out = kafka.make_topic(1), kafka.make_topic(1)
    config = make_config(kafka.bootstrap, topic)
    with running(tmp_path, config):
        produce(
            kafka.bootstrap, topic, [[make_record(n, n, START_S + at, "view") for n, at in (("a", 0), ("b", 9_000))]]
        )
        wait_until(lambda: count_rows(tmp_path, "sessions") == 1)
    with running(tmp_path, with_sink(config, kafka.bootstrap, out)):
        produce(kafka.bootstrap, topic, [[make_record("c", "c", START_S + 20_000, "view")]])
        wait_until(lambda: count_rows(tmp_path, "sessions") == 2)
    assert Taken(kafka.bootstrap, out).read(2).values("sessions", "person_id") == ["('b',)"]


def test_mistakes_are_told_with_a_remedy(kafka: KafkaBroker, tmp_path: Path) -> None:
    topic, config = kafka.make_topic(1), make_config(kafka.bootstrap, kafka.make_topic(1))

    def run(warehouse: str, topic: str, **more: Any) -> None:
        run_live(LiveOptions(tmp_path / warehouse, environment={}), with_sink(config, kafka.bootstrap, topic, **more))

    with pytest.raises(ConfigError, match=r"\[\[sink\]\] out: settings: transactional.id can't be set"):
        run("a", topic, settings={"transactional.id": "1"})
    with pytest.raises(ConfigError, match=r"\[\[sink\]\] out: No such configuration property"):
        run("b", topic, settings={"no.such": "1"})
    with pytest.raises(ConfigError, match=r"\[\[sink\]\] out: the variable SECRET is not set"):
        run("c", topic, settings={"sasl.password": "${SECRET}"})
    source = config.sources[0].topics[0]
    records = [make_record(name, name, START_S + at, "view") for name, at in (("a", 0), ("b", 9_000))]
    produce(kafka.bootstrap, source, [records])
    with pytest.raises(SinkError, match=r"\[\[sink\]\] out: nothing: .*\n.*check the topic"):
        run("d", "nothing")
