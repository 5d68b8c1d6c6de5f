"""The feed of a stream: the same records from any offset, and an error where they are gone."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

import pytest

from clock import read_system_clock
from errors import InputError
from sources import rabbit_stream
from sources.rabbit_messages import Reading
from sources.rabbit_stream import StreamFeed, StreamPart, find_start
from tests.brokers.rabbit import RabbitBroker
from tests.live.rabbit_support import make_rules, publish
from tests.live.support import wait_until

pytestmark = pytest.mark.slow
SMALL = {"x-stream-max-segment-size-bytes": 50_000}
Found = list[tuple[int, bytes]]


def make_lines(count: int, begin: int = 0) -> list[bytes]:
    return [f"{number:05d}".encode() + b"x" * 500 for number in range(begin, begin + count)]


def open_feed(rabbit: RabbitBroker, stream: str, offset: int | None = None, **told: object) -> StreamFeed:
    return StreamPart(make_rules(rabbit, stream, **told), stream, 1 << 20, Reading(read_system_clock)).open(offset)


def read(feed: StreamFeed, enough: Callable[[Found], bool]) -> Found:
    """Fetch until it is enough; return offsets and lines."""
    found: Found = []

    def more() -> bool:
        for block in feed.fetch():
            assert isinstance(block.payload, bytes)
            lines = block.payload.split(b"\n")
            assert block.lines == len(lines)
            found.extend((block.first_position + at, line) for at, line in enumerate(lines))
        return enough(found)

    wait_until(more)
    return found


def test_any_offset_gives_the_same_records_again(rabbit: RabbitBroker) -> None:
    """Over many segments, at the begin of each of which RabbitMQ takes an offset for itself."""
    lines, stream = make_lines(1_000), rabbit.make_queue("stream", SMALL)
    publish(rabbit, stream, lines)
    feed = open_feed(rabbit, stream, prefetch=100)
    whole = read(feed, lambda found: len(found) >= len(lines))
    assert [line for _, line in whole] == lines
    assert whole[-1][0] > len(lines), "no offset is missing: the test does not show what it should"
    assert feed.tell_next() == whole[-1][0] + 1
    feed.close()
    for at in (0, 1, 333, 999):
        feed = open_feed(rabbit, stream, whole[at][0], prefetch=100)
        assert read(feed, lambda found, at=at: len(found) >= len(lines) - at) == whole[at:]  # type: ignore[misc]
        feed.close()
    # As after the last message that was there: the next one is the first to come.
    feed = open_feed(rabbit, stream, whole[-1][0] + 1)
    publish(rabbit, stream, [b"more"])
    assert [line for _, line in read(feed, lambda found: len(found) > 0)] == [b"more"]
    feed.close()


def test_messages_deleted_before_they_were_read_are_an_error(rabbit: RabbitBroker) -> None:
    stream = rabbit.make_queue("stream", {**SMALL, "x-max-length-bytes": 150_000})
    publish(rabbit, stream, make_lines(100))
    feed = open_feed(rabbit, stream, prefetch=20)
    read(feed, lambda found: len(found) >= 20)
    offset = feed.tell_next()
    feed.close()
    publish(rabbit, stream, make_lines(1_500, 100))
    feed = open_feed(rabbit, stream, offset)
    with pytest.raises(InputError, match=rf"message {offset}, the next to be read, is no longer there.*\n.*retention"):
        read(feed, lambda found: len(found) > 0)
    feed.close()


def test_first_start_is_where_retention_has_left_the_stream(rabbit: RabbitBroker) -> None:
    stream = rabbit.make_queue("stream", {**SMALL, "x-max-length-bytes": 150_000})
    publish(rabbit, stream, make_lines(1_500))
    feed = open_feed(rabbit, stream)
    assert feed.tell_next() > 500
    assert read(feed, lambda found: len(found) > 0)[0][0] == feed.part.open(None).tell_next()
    feed.close()


def test_start_is_found_before_anything_is_read(rabbit: RabbitBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rabbit_stream, "CONNECT_S", 2.0)
    stream = rabbit.make_queue("stream")
    for start in ("earliest", "latest", "2000-01-01T00:00:00Z"):
        assert find_start(make_rules(rabbit, stream, start=start), stream) == 0
    publish(rabbit, stream, make_lines(10))
    time.sleep(2)
    middle = read_system_clock()
    time.sleep(1.2)
    publish(rabbit, stream, make_lines(10))
    found = [
        find_start(make_rules(rabbit, stream, start=start), stream)
        for start in ("earliest", "latest", middle.isoformat(), (middle + timedelta(days=1)).isoformat())
    ]
    assert found == [0, 20, 10, 20]


def test_stream_that_was_made_anew_is_an_error(rabbit: RabbitBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rabbit_stream, "SILENCE_S", 1.0)
    stream = rabbit.make_queue("stream")
    publish(rabbit, stream, make_lines(5))
    feed = open_feed(rabbit, stream, 5)
    read(feed, lambda _: feed.heard)  # the message before is there: silence is no reason to worry
    time.sleep(1.5)
    assert feed.fetch() == []
    feed.close()
    feed = open_feed(rabbit, stream, 100)
    with pytest.raises(InputError, match=r"ends before message 99.*\n.*made anew"):
        read(feed, lambda found: len(found) > 0)
    feed.close()


def test_lost_broker_is_waited_for(rabbit: RabbitBroker) -> None:
    lines, stream = make_lines(300), rabbit.make_queue("stream")
    publish(rabbit, stream, lines[:200])
    feed = open_feed(rabbit, stream, prefetch=40)
    found = read(feed, lambda found: len(found) >= 60)
    rabbit.stop()
    found += read(feed, lambda _: feed.consumer is None)
    assert feed.fetch() == []
    rabbit.start()
    publish(rabbit, stream, lines[200:])
    found += read(feed, lambda more: len(found) + len(more) >= len(lines))
    feed.close()
    assert [line for _, line in found] == lines
