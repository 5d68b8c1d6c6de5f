"""The receiver of a queue: nothing lost, nothing twice, when connections break around the acknowledgement."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from clock import read_system_clock
from sources.inbox import Inbox
from sources.rabbit import MOST_BYTES, RabbitConsumer
from sources.rabbit_messages import Reading
from sources.rabbit_queue import QueueReceiver
from tests.brokers.rabbit import RabbitBroker
from tests.live.rabbit_support import count_left, make_rules, publish, send
from tests.live.support import wait_until

pytestmark = pytest.mark.slow
LARGE = 1 << 30


@contextmanager
def receiving(rabbit: RabbitBroker, queue: str, inbox: Inbox, prefetch: int = 100) -> Iterator[None]:
    """Run a receiver beside the test; what it raises is raised at the end."""
    stop, failures = threading.Event(), []
    receiver = QueueReceiver(make_rules(rabbit, queue, prefetch=prefetch), queue, inbox, Reading(read_system_clock))

    def work() -> None:
        try:
            receiver.run(stop)
        except Exception as problem:
            failures.append(problem)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)
    assert not thread.is_alive()
    if failures:
        raise failures[0]


def read_lines(inbox: Inbox, offset: int = 0) -> list[bytes]:
    return [record.line for frame, _ in inbox.read(offset) for record in frame.records]


class Break:
    """Ends the connection, as far as the receiver can tell, at a point; so many times."""

    def __init__(self, name: str, times: int) -> None:
        self.name, self.times = name, times

    def __call__(self, name: str) -> None:
        if name == self.name and self.times:
            self.times -= 1
            raise ConnectionError(name)


def make_lines(count: int) -> list[bytes]:
    return [f'{{"n": {number}}}'.encode() for number in range(count)]


@pytest.mark.parametrize("kind", ["quorum", "classic"])
@pytest.mark.parametrize("times", [1, 5])
def test_lost_acknowledgements_bring_nothing_twice(rabbit: RabbitBroker, tmp_path: Path, kind: str, times: int) -> None:
    lines, queue, inbox = make_lines(2_000), rabbit.make_queue(kind), Inbox(tmp_path, LARGE)
    inbox.pass_point = Break("acknowledging", times)
    publish(rabbit, queue, lines)
    with receiving(rabbit, queue, inbox):
        wait_until(lambda: inbox.next_offset >= len(lines))
        wait_until(lambda: count_left(rabbit, queue) == 0)
    assert read_lines(inbox) == lines
    assert inbox.pass_point.times == 0


def test_connection_lost_before_the_inbox_loses_nothing_and_keeps_the_order(
    rabbit: RabbitBroker, tmp_path: Path
) -> None:
    lines, queue, inbox = make_lines(2_000), rabbit.make_queue(), Inbox(tmp_path, LARGE)
    inbox.pass_point = Break("inbox_received", 3)
    publish(rabbit, queue, lines)
    with receiving(rabbit, queue, inbox):
        wait_until(lambda: inbox.next_offset >= len(lines))
    assert read_lines(inbox) == lines


def test_next_run_knows_what_the_last_one_had_safe(rabbit: RabbitBroker, tmp_path: Path) -> None:
    """As after kill -9: another receiver and a log that was opened anew."""
    lines, queue = make_lines(500), rabbit.make_queue()
    publish(rabbit, queue, lines)
    for _ in range(3):
        inbox = Inbox(tmp_path, LARGE)
        inbox.pass_point = Break("acknowledging", 1_000)
        with receiving(rabbit, queue, inbox):
            wait_until(lambda inbox=inbox: inbox.pass_point.times < 999)  # type: ignore[misc]
    inbox = Inbox(tmp_path, LARGE)
    with receiving(rabbit, queue, inbox):
        wait_until(lambda: inbox.next_offset >= len(lines))
    assert read_lines(inbox) == lines


def test_equal_messages_are_each_kept_once_whatever_breaks(rabbit: RabbitBroker, tmp_path: Path) -> None:
    """Nothing tells them apart, so they are counted."""
    lines, queue, inbox = [b'{"same": 1}'] * 60, rabbit.make_queue(), Inbox(tmp_path, LARGE)
    send(rabbit, queue, [(line, {}) for line in lines])
    inbox.pass_point = Break("acknowledging", 2)
    with receiving(rabbit, queue, inbox, prefetch=20):
        wait_until(lambda: inbox.next_offset >= len(lines))
        wait_until(lambda: count_left(rabbit, queue) == 0)
    assert read_lines(inbox) == lines


def test_message_that_is_sent_again_is_no_redelivery(rabbit: RabbitBroker, tmp_path: Path) -> None:
    """Not marked, whatever is like it in the inbox: to know a duplicate of its sender's is for the events' ids."""
    lines, queue, inbox = make_lines(50), rabbit.make_queue(), Inbox(tmp_path, LARGE)
    for times in (1, 2):
        publish(rabbit, queue, lines)
        with receiving(rabbit, queue, inbox):
            wait_until(lambda times=times: inbox.next_offset >= times * len(lines))  # type: ignore[misc]
    assert read_lines(inbox) == lines * 2


def test_what_another_consumer_gave_back_is_kept(rabbit: RabbitBroker, tmp_path: Path) -> None:
    lines, queue, inbox = make_lines(50), rabbit.make_queue(), Inbox(tmp_path, LARGE)
    publish(rabbit, queue, lines)
    with rabbit.open_channel() as channel:
        for _ in lines:
            assert channel.basic_get(queue)[0] is not None
    with receiving(rabbit, queue, inbox):
        wait_until(lambda: inbox.next_offset >= len(lines))
    assert sorted(read_lines(inbox)) == sorted(lines)


def test_full_inbox_leaves_the_rest_with_the_broker(rabbit: RabbitBroker, tmp_path: Path) -> None:
    lines, queue, inbox = make_lines(1_000), rabbit.make_queue(), Inbox(tmp_path, 4_000, segment=2_000)
    publish(rabbit, queue, lines)
    with receiving(rabbit, queue, inbox, prefetch=20):
        wait_until(lambda: inbox.backlog() >= 4_000)
        threading.Event().wait(1)
        held = inbox.next_offset
        assert held < 500
        while inbox.next_offset < len(lines):
            wait_until(lambda: inbox.backlog() >= 4_000 or inbox.next_offset == len(lines))
            inbox.note_consumed(inbox.next_offset)
    assert read_lines(inbox) == lines
    assert count_left(rabbit, queue) == 0


def test_timestamp_is_the_time_of_receipt_where_it_can_be(rabbit: RabbitBroker, tmp_path: Path) -> None:
    queue, inbox = rabbit.make_queue(), Inbox(tmp_path, LARGE)
    now = int(read_system_clock().timestamp())
    times = [now - 3_600, now * 1_000, 1, now - 30 * 86_400, now + 7_200, None]
    send(rabbit, queue, [(b"{}", {"timestamp": time}) for time in times])
    with receiving(rabbit, queue, inbox):
        wait_until(lambda: inbox.next_offset == len(times))
    received = [record.received / 1e6 for frame, _ in inbox.read(0) for record in frame.records]
    assert received[0] == now - 3_600
    assert all(now <= one < now + 600 for one in received[1:])


def test_waiting_for_room_keeps_the_connection_and_costs_nothing(rabbit: RabbitBroker) -> None:
    """However much waits: `rest` is what answers the broker's heartbeats while the inbox is full."""
    queue = rabbit.make_queue()
    publish(rabbit, queue, [b"x" * (1 << 20)] * 20)
    consumer = RabbitConsumer(make_rules(rabbit, queue, prefetch=20), queue)
    wait_until(lambda: consumer.rest(0.2) or consumer.size > MOST_BYTES)
    began = time.monotonic()
    consumer.rest(0.5)
    assert time.monotonic() - began > 0.4
    assert len(consumer.gather(1, 0.1)) == 20
    consumer.close()
