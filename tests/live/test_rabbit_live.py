"""A live job on a real RabbitMQ: the tables of a replay, whatever happens to the job, the broker or the messages."""

from __future__ import annotations

import random
import time
from itertools import count
from pathlib import Path

import pytest

from config import Config, InputRules, SourceRules
from errors import ConfigError, ReceiverError
from flows.live import LiveOptions, run_live
from tests.brokers.rabbit import RabbitBroker
from tests.live.rabbit_support import count_left, make_config, make_rules, publish, send, write_toml
from tests.live.support import (
    SENTINEL,
    START_S,
    Process,
    ask,
    assert_same,
    count_rows,
    end_records,
    expect_sessions,
    make_record,
    make_records,
    replay,
    running,
    wait_until,
)

pytestmark = pytest.mark.slow
KINDS = ["quorum", "classic", "stream"]


@pytest.mark.parametrize("kind", KINDS)
def test_live_tables_are_those_of_a_replay(rabbit: RabbitBroker, tmp_path: Path, kind: str) -> None:
    (records,) = end_records(make_records(1, 3_000))
    queue = rabbit.make_queue(kind)
    replay(tmp_path / "files", [records], tmp_path / "replayed")
    with running(tmp_path / "live", make_config(make_rules(rabbit, queue))):
        publish(rabbit, queue, records)
        expect_sessions(tmp_path / "live", tmp_path / "replayed")
    assert_same(tmp_path / "live", tmp_path / "replayed")
    if kind != "stream":
        assert count_left(rabbit, queue) == 0


@pytest.mark.parametrize("kind", ["quorum", "stream"])
def test_stopped_job_goes_on_where_it_was(rabbit: RabbitBroker, tmp_path: Path, kind: str) -> None:
    """Messages that were under way at the stop come first at the next start, each once."""
    (records,) = end_records(make_records(1, 4_000, seed=5))
    queue = rabbit.make_queue(kind)
    replay(tmp_path / "files", [records], tmp_path / "replayed")
    config = make_config(make_rules(rabbit, queue, prefetch=100))
    for begin in (0, 1_000, 2_000):
        publish(rabbit, queue, records[begin : begin + 1_000], begin)
        with running(tmp_path / "live", config) as seen:
            wait_until(lambda seen=seen: seen[-1].records > 50)  # type: ignore[misc]
    with running(tmp_path / "live", config):
        publish(rabbit, queue, records[3_000:], 3_000)
        expect_sessions(tmp_path / "live", tmp_path / "replayed")
    assert_same(tmp_path / "live", tmp_path / "replayed")


@pytest.mark.parametrize("kind", ["quorum", "stream"])
def test_killed_job_gives_the_same_tables(rabbit: RabbitBroker, tmp_path: Path, kind: str) -> None:
    """Killed by SIGKILL between the inbox and the acknowledgement, at points of the commit and at random."""
    chance = random.Random(3)
    (records,) = end_records(make_records(1, 6_000, seed=2))
    queue, live = rabbit.make_queue(kind), tmp_path / "live"
    replay(tmp_path / "files", [records], tmp_path / "replayed")
    text = write_toml(make_rules(rabbit, queue, prefetch=200))
    points = ["", "after_descriptor:2", "epoch_durable:2", ""]
    if kind == "quorum":
        points += ["inbox_received:2", "inbox_written:3", "acknowledging:2", "acknowledged:2", "inbox_written", ""]
    step = len(records) // len(points)
    for number, point in enumerate(points):
        job = Process(tmp_path, text, live, point)
        publish(rabbit, queue, records[number * step : (number + 1) * step], number * step)
        time.sleep(3 + chance.random() if point else 2 * chance.random() + 1)
        job.kill()
    publish(rabbit, queue, records[len(points) * step :], len(points) * step)
    job = Process(tmp_path, text, live)
    expect_sessions(live, tmp_path / "replayed")
    code, told = job.stop()
    assert code == 0, told
    assert_same(live, tmp_path / "replayed")


@pytest.mark.parametrize("kind", KINDS)
def test_broker_may_go_and_come_back(rabbit: RabbitBroker, tmp_path: Path, kind: str) -> None:
    (records,) = end_records(make_records(1, 2_000, seed=4))
    queue = rabbit.make_queue(kind)
    replay(tmp_path / "files", [records], tmp_path / "replayed")
    with running(tmp_path / "live", make_config(make_rules(rabbit, queue, prefetch=50))) as seen:
        publish(rabbit, queue, records[:700])
        wait_until(lambda: seen[-1].records > 50)
        rabbit.restart()
        publish(rabbit, queue, records[700:1_400], 700)
        wait_until(lambda: seen[-1].records > 700)
        rabbit.kill()
        rabbit.start()
        publish(rabbit, queue, records[1_400:], 1_400)
        expect_sessions(tmp_path / "live", tmp_path / "replayed")
    assert_same(tmp_path / "live", tmp_path / "replayed")


@pytest.mark.parametrize("kind", ["quorum", "stream"])
def test_poison_is_counted_and_stops_nothing(rabbit: RabbitBroker, tmp_path: Path, kind: str) -> None:
    """Nothing, nothing but space, no JSON, no UTF-8, no object; and a record over several lines is one event."""
    good = make_record("good", "u", START_S, "view")
    pretty = good.replace(b", ", b",\n ")
    poison = [None, b"", b" \n ", b"\xff\xfe", b"{", b"[1]", b"{}", good, pretty.replace(b"good", b"more")]
    queue = rabbit.make_queue(kind)
    with running(tmp_path / "live", make_config(make_rules(rabbit, queue))):
        publish(rabbit, queue, [*poison, make_record("end", SENTINEL, START_S + 90_000, SENTINEL)])
        wait_until(lambda: count_rows(tmp_path / "live", "sessions") == 1)
    dead = ask(tmp_path / "live", "SELECT source_position FROM dead_letters")
    assert dead == [f"({offset},)" for offset in range(7)]
    assert ask(tmp_path / "live", "SELECT event_id FROM events") == ["('good',)", "('more',)"]
    (row,) = ask(tmp_path / "live", "SELECT received, accepted, dead FROM ledger")
    assert row == "(10, 2, 7)"  # the last one waits for the watermark


@pytest.mark.parametrize("kind", ["quorum", "stream"])
def test_cloudevents_in_binary_mode_are_read_with_their_attributes(
    rabbit: RabbitBroker, tmp_path: Path, kind: str
) -> None:
    def make(name: str, prefix: str, at: str) -> tuple[bytes, dict[str, object]]:
        told = {"specversion": "1.0", "id": name, "source": "/shop", "type": "order", "time": f"2026-01-{at}T08:00:00Z"}
        headers = {f"{prefix}{key}": value for key, value in told.items()}
        return b'{"userId":\n "u"}', {"content_type": "application/json", "headers": headers}

    queue = rabbit.make_queue(kind)
    config = Config(input=InputRules(format="cloudevents"), sources=(make_rules(rabbit, queue),), job=make_config().job)
    with running(tmp_path / "live", config):
        send(rabbit, queue, [make("1", "cloudEvents:", "05"), make("2", "cloudEvents_", "05"), make("3", "ce_", "09")])
        wait_until(lambda: count_rows(tmp_path / "live", "sessions") == 1)
    found = ask(tmp_path / "live", "SELECT event_id, event_name, user_id FROM events")
    assert found == ["('/shop#1', 'order', 'u')", "('/shop#2', 'order', 'u')"]


def test_mistakes_are_told_with_a_remedy(rabbit: RabbitBroker, tmp_path: Path) -> None:
    queue, stream, url, numbers = rabbit.make_queue(), rabbit.make_queue("stream"), rabbit.amqp_url, count()

    def run(url: str, **told: tuple[str, ...]) -> None:
        rules = SourceRules("s0", kind="rabbitmq", url=url, **told)  # type: ignore[arg-type]
        run_live(LiveOptions(tmp_path / str(next(numbers)), environment={}), make_config(rules))

    with pytest.raises(ReceiverError, match=r"refuses user.*\n.*correct url") as refused:
        run(url.replace("guest:guest", "guest:wrong-word"), queues=(queue,))
    assert "wrong-word" not in str(refused.value)
    with pytest.raises(ReceiverError, match=r"refuses user or virtual host.*\n.*correct url"):
        run(url.replace("%2F", "nowhere"), queues=(queue,))
    with pytest.raises(ReceiverError, match=r"no queue or stream 'nothing'.*\n.*make it"):
        run(url, queues=(queue, "nothing"))
    with pytest.raises(ReceiverError, match=r"no answer from 127.0.0.1:1 .*\n.*that the broker runs"):
        run("amqp://guest:guest@127.0.0.1:1/%2F", queues=(queue,))
    with pytest.raises(ConfigError, match=r"not an address of RabbitMQ.*\n.*amqp://USER"):
        run("http://localhost", queues=(queue,))
    with pytest.raises(ReceiverError, match=r"x-priority.*stream_queue.*\n.*streams under streams"):
        run(url, queues=(stream,))
    with pytest.raises(ReceiverError, match=r"x-stream-offset.*quorum_queue.*\n.*queues under queues"):
        run(url, streams=(queue,))


def test_queue_that_is_deleted_meanwhile_ends_the_job_with_an_error(rabbit: RabbitBroker, tmp_path: Path) -> None:
    queue = rabbit.make_queue()
    with (
        pytest.raises(ReceiverError, match="no queue or stream"),
        running(tmp_path / "live", make_config(make_rules(rabbit, queue))) as seen,
    ):
        publish(rabbit, queue, [make_record("m", "u", START_S, "view")])
        wait_until(lambda: seen[-1].records == 1)
        with rabbit.open_channel() as channel:
            channel.queue_delete(queue)
        time.sleep(3)
