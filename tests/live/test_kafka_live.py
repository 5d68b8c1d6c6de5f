"""A live job on a real Kafka: the tables of a replay, whatever happens to the job, the broker or the records."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition

from config import SECOND, Config, SourceRules
from errors import ConfigError, InputError, RecoveryError
from flows.live import LiveOptions, run_live
from sources.kafka_topics import connect
from tests.brokers.kafka import KafkaBroker
from tests.live.support import (
    SENTINEL,
    START_S,
    Process,
    ask,
    assert_same,
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
TOML = """
[job]
snapshot = "300ms"
[funnels.purchase]
steps = ["view", "add", "buy"]
[[source]]
name = "s0"
servers = "{servers}"
topics = ["{topic}"]
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_live_tables_are_those_of_a_replay(kafka: KafkaBroker, tmp_path: Path, workers: int) -> None:
    records = end_records(make_records(3, 3_000))
    topic = kafka.make_topic(3)
    replay(tmp_path / "files", records, tmp_path / "replayed")
    with running(tmp_path / "live", make_config(kafka.bootstrap, topic), workers):
        produce(kafka.bootstrap, topic, records)
        expect_sessions(tmp_path / "live", tmp_path / "replayed")
    assert_same(tmp_path / "live", tmp_path / "replayed")


def test_stopped_job_goes_on_with_open_sessions(kafka: KafkaBroker, tmp_path: Path) -> None:
    records = make_records(2, 1_000)
    ended = end_records(records)
    topic = kafka.make_topic(2)
    replay(tmp_path / "files", ended, tmp_path / "replayed")
    config = make_config(kafka.bootstrap, topic)
    for begin in (0, 200, 400):
        with running(tmp_path / "live", config) as seen:
            part = [lines[begin : begin + 200] for lines in ended]
            produce(kafka.bootstrap, topic, part)
            wait_until(lambda seen=seen, part=part: seen[-1].records >= sum(map(len, part)))  # type: ignore[misc]
    with running(tmp_path / "live", config):
        produce(kafka.bootstrap, topic, [lines[600:] for lines in ended])
        expect_sessions(tmp_path / "live", tmp_path / "replayed")
    assert_same(tmp_path / "live", tmp_path / "replayed")


def test_killed_job_gives_the_same_tables(kafka: KafkaBroker, tmp_path: Path) -> None:
    """Killed by SIGKILL at points of the commit and at random, while records come in."""
    chance = random.Random(3)
    records = end_records(make_records(2, 4_000, seed=2))
    topic, live = kafka.make_topic(2), tmp_path / "live"
    replay(tmp_path / "files", records, tmp_path / "replayed")
    text = TOML.format(servers=kafka.bootstrap, topic=topic)
    points = ["after_descriptor:2", "epoch_durable:2", "before_catalog_rename:2", "", "after_file:3", ""]
    for number, point in enumerate(points):
        step = len(records[0]) // len(points) + 1
        job = Process(tmp_path, text, live, point)
        produce(kafka.bootstrap, topic, [lines[number * step : (number + 1) * step] for lines in records])
        time.sleep(1.5 + chance.random() if point else 2 * chance.random() + 0.5)
        job.kill()
    produce(kafka.bootstrap, topic, [lines[len(points) * step :] for lines in records])
    job = Process(tmp_path, text, live)
    expect_sessions(live, tmp_path / "replayed")
    code, told = job.stop()
    assert code == 0, told
    assert_same(live, tmp_path / "replayed")


def test_broker_may_go_and_come_back(kafka: KafkaBroker, tmp_path: Path) -> None:
    records = end_records(make_records(2, 1_000, seed=4))
    topic = kafka.make_topic(2)
    replay(tmp_path / "files", records, tmp_path / "replayed")
    with running(tmp_path / "live", make_config(kafka.bootstrap, topic)) as seen:
        produce(kafka.bootstrap, topic, [lines[:300] for lines in records])
        wait_until(lambda: seen[-1].records >= 600)
        kafka.restart()
        produce(kafka.bootstrap, topic, [lines[300:] for lines in records])
        expect_sessions(tmp_path / "live", tmp_path / "replayed")
    assert_same(tmp_path / "live", tmp_path / "replayed")


def test_poison_is_counted_and_stops_nothing(kafka: KafkaBroker, tmp_path: Path) -> None:
    """No value, nothing but space, no JSON, no UTF-8, no object; and a record over several lines is one event."""
    good = make_record("good", "u", START_S, "view")
    pretty = good.replace(b", ", b",\n ")
    poison = [None, b"", b" \n ", b"\xff\xfe", b"{", b"[1]", b"{}", good, pretty.replace(b"good", b"more")]
    topic = kafka.make_topic(1)
    with running(tmp_path / "live", make_config(kafka.bootstrap, topic)):
        produce(kafka.bootstrap, topic, [[*poison, make_record("end", SENTINEL, START_S + 90_000, SENTINEL)]])
        wait_until(lambda: count_rows(tmp_path / "live", "sessions") == 1)
    dead = ask(tmp_path / "live", "SELECT source_position FROM dead_letters")
    assert dead == [f"({offset},)" for offset in range(7)]
    assert ask(tmp_path / "live", "SELECT event_id FROM events") == ["('good',)", "('more',)"]
    (row,) = ask(tmp_path / "live", "SELECT received, accepted, dead FROM ledger")
    assert row == "(10, 2, 7)"  # the last one waits for the watermark


def test_idle_partition_does_not_hold_the_watermark_and_is_late_when_it_comes_back(
    kafka: KafkaBroker, tmp_path: Path
) -> None:
    topic = kafka.make_topic(2)
    config = make_config(kafka.bootstrap, topic, idle_after=SECOND)
    with running(tmp_path / "live", config):
        end = make_record("end", SENTINEL, START_S + 90_000, SENTINEL)
        produce(kafka.bootstrap, topic, [[make_record("a", "u", START_S, "view"), end], []])
        wait_until(lambda: count_rows(tmp_path / "live", "sessions") == 1)
        produce(kafka.bootstrap, topic, [[], [make_record("b", "v", START_S + 60, "view")]])
        wait_until(lambda: count_rows(tmp_path / "live", "late_events") == 1)
    assert ask(tmp_path / "live", "SELECT event_id, reason FROM late_events") == ["('b', 'behind_all_partitions')"]


def test_offsets_are_told_to_the_group_for_monitors(kafka: KafkaBroker, tmp_path: Path) -> None:
    topic = kafka.make_topic(1)
    config = make_config(kafka.bootstrap, topic)
    (rules,) = config.sources

    def read_committed() -> int:
        consumer = connect(rules)
        (found,) = consumer.committed([TopicPartition(topic, 0)], timeout=10)
        consumer.close()
        return int(found.offset)

    with running(tmp_path / "live", config):
        produce(kafka.bootstrap, topic, [[make_record(f"m{n}", "u", START_S + n, "view") for n in range(50)]])
        wait_until(lambda: read_committed() == 50)


@pytest.mark.parametrize(("start", "wanted"), [("earliest", 3), ("latest", 1), ("2000-01-01T00:00:00Z", 3)])
def test_first_start_is_where_the_config_says(kafka: KafkaBroker, tmp_path: Path, start: str, wanted: int) -> None:
    topic = kafka.make_topic(1)
    produce(kafka.bootstrap, topic, [[make_record(f"m{n}", "u", START_S + n, "view") for n in range(2)]])
    rules = SourceRules("s0", servers=kafka.bootstrap, topics=(topic,), start=start)
    with running(tmp_path / "live", Config(sources=(rules,))) as seen:
        wait_until((tmp_path / "live" / "_journeys" / "warehouse.json").exists)
        time.sleep(1.5)  # the start is found out before the first record after it is sent
        produce(kafka.bootstrap, topic, [[make_record("m2", "u", START_S + 2, "view")]])
        wait_until(lambda: seen[-1].records >= wanted)
        assert seen[-1].records == wanted


def test_mistakes_are_told_with_a_remedy(kafka: KafkaBroker, tmp_path: Path) -> None:
    def run(rules: SourceRules, warehouse: str = "new") -> None:
        run_live(LiveOptions(tmp_path / warehouse, environment={}), Config(sources=(rules,)))

    with pytest.raises(InputError, match=r"topic 'nothing'.*\n.*make the topic"):
        run(SourceRules("s0", servers=kafka.bootstrap, topics=("nothing",)))
    with pytest.raises(ConfigError, match=r"No such configuration property.*\n.*librdkafka"):
        run(SourceRules("s0", servers=kafka.bootstrap, topics=("t",), settings={"no.such": "1"}))
    with pytest.raises(ConfigError, match=r"group.id can't be set"):
        run(SourceRules("s0", servers=kafka.bootstrap, topics=("t",), settings={"group.id": "1"}))
    with pytest.raises(ConfigError, match=r"variable SECRET is not set"):
        run(SourceRules("s0", servers=kafka.bootstrap, topics=("t",), settings={"sasl.password": "${SECRET}"}))
    with pytest.raises(ConfigError, match=r"no \[\[source\]\]"):
        run_live(LiveOptions(tmp_path / "new"), Config())


def test_source_that_is_gone_from_the_config_is_an_error(kafka: KafkaBroker, tmp_path: Path) -> None:
    first, second = kafka.make_topic(1), kafka.make_topic(1)
    with running(tmp_path / "live", make_config(kafka.bootstrap, first)) as seen:
        produce(kafka.bootstrap, first, [[make_record("m", "u", START_S, "view")]])
        wait_until(lambda: seen[-1].records >= 1)
    with pytest.raises(RecoveryError, match=r"goes on from s0/.*\n.*put the source back"):
        run_live(LiveOptions(tmp_path / "live"), make_config(kafka.bootstrap, second))


def test_deleted_messages_are_an_error_and_not_passed_over(kafka: KafkaBroker, tmp_path: Path) -> None:
    topic = kafka.make_topic(1)
    config = make_config(kafka.bootstrap, topic)
    with running(tmp_path / "live", config) as seen:
        produce(kafka.bootstrap, topic, [[make_record(f"m{n}", "u", START_S + n, "view") for n in range(5)]])
        wait_until(lambda: seen[-1].records >= 5)
    produce(kafka.bootstrap, topic, [[make_record(f"n{n}", "u", START_S + n, "view") for n in range(5)]])
    admin = kafka.connect_admin()  # kept, as its requests end with it
    admin.delete_records([TopicPartition(topic, 0, 8)])[TopicPartition(topic, 0)].result()
    with pytest.raises(InputError, match=r"no longer there.*\n.*retention"):
        run_live(LiveOptions(tmp_path / "live"), config)
