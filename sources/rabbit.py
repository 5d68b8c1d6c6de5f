"""A consumer of one queue or stream of RabbitMQ, pumped by whoever calls it: it has no thread of its own.

It is made of pika's SelectConnection, not of its BlockingConnection: that one costs more a message, and when it closes it
rejects what it was sent and had not handed on, which puts those messages at the end of a quorum queue. A connection that
just ends puts them where they were.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pika
from pika.channel import Channel
from pika.exceptions import ChannelClosedByBroker

from clock import read_stopwatch
from config import SourceRules
from errors import ConfigError, ReceiverError

PATIENCE_S = 15.0
STEP_S = 0.25
GOODBYE_S = 1.0
MOST_BYTES = 16 << 20
REFUSED = ("ACCESS_REFUSED", "NOT_ALLOWED")
UNUSABLE = (403, 405, 406)  # access refused, locked by another connection, not a queue of the kind that was asked for
NOT_BACK = "does not have a replica on the local node"  # a stream of a broker that is starting
# What matters comes as an error; pika would print it too.
logging.getLogger("pika").addHandler(logging.NullHandler())


class Delivery(NamedTuple):
    """A message as it came; `origin`: the exchange and routing key that it was published with."""

    tag: int
    redelivered: bool
    origin: tuple[str, str]
    properties: pika.BasicProperties
    body: bytes


class RabbitConsumer:
    """One connection with one consumer; `give_up` ends the wait for an answer."""

    def __init__(
        self,
        rules: SourceRules,
        queue: str,
        arguments: Mapping[str, Any] | None = None,
        give_up: Callable[[], bool] = lambda: False,
    ) -> None:
        self.rules, self.queue, self.arguments = rules, queue, arguments
        self.waiting: list[Delivery] = []
        self.size = 0  # of what waits
        self.wanted = 0  # as many end the pump
        self.began = False
        self.trouble: BaseException | None = None
        self.channel: Channel | None = None
        self.connection = pika.SelectConnection(
            read_address(rules),
            on_open_callback=self._open_channel,
            on_open_error_callback=self._end,
            on_close_callback=self._end,
        )
        self.loop = self.connection.ioloop
        until = read_stopwatch() + PATIENCE_S
        while not self.began and self.trouble is None and read_stopwatch() < until and not give_up():
            self._pump(STEP_S)
        if not self.began:
            self.close()
            raise explain(rules, queue, self.trouble)

    def _open_channel(self, connection: pika.SelectConnection) -> None:
        connection.channel(on_open_callback=self._consume)

    def _consume(self, channel: Channel) -> None:
        self.channel = channel
        channel.add_on_close_callback(self._end)
        channel.add_on_cancel_callback(lambda _: self._end(channel, ConnectionError("the queue was taken away")))
        channel.basic_qos(prefetch_count=self.rules.prefetch)
        channel.basic_consume(self.queue, self._take, arguments=self.arguments, callback=self._begin)

    def _begin(self, _: object) -> None:
        self.began = True
        self.loop.stop()

    def _take(self, _: Channel, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
        origin = (method.exchange, method.routing_key)
        self.waiting.append(Delivery(method.delivery_tag, method.redelivered, origin, properties, body))
        self.size += len(body)
        if self.wanted and self._has_enough(self.wanted):
            self.loop.stop()

    def _has_enough(self, wanted: int) -> bool:
        return len(self.waiting) >= wanted or self.size >= MOST_BYTES

    def _end(self, _: object, reason: BaseException) -> None:
        self.trouble = self.trouble or reason
        self.loop.stop()

    def _pump(self, seconds: float) -> None:
        timer = self.loop.call_later(seconds, self.loop.stop)
        self.loop.start()
        self.loop.remove_timeout(timer)

    def gather(self, most: int, wait_s: float, more_s: float = 0.0) -> list[Delivery]:
        """Wait for a delivery, then a moment more for others, until there are about so many.

        Raises ConnectionError where there is none and the other side is gone: then make a new consumer.
        """
        self.rest(wait_s, 1)
        if self.waiting and more_s:
            self.rest(more_s, most)
        taken, self.waiting, self.size = self.waiting, [], 0
        if not taken and self.trouble is not None:
            raise ConnectionError(str(self.trouble))
        return taken

    def rest(self, seconds: float, most: int = 0) -> None:
        """Keep the connection alive for so long, or until so many deliveries wait; 0: however many do."""
        if self.trouble is None and not (most and self._has_enough(most)):
            self.wanted = most
            self._pump(seconds)

    def acknowledge(self, tag: int) -> None:
        """Acknowledge everything up to a delivery; of a lost connection nothing can be, and it will come again."""
        if self.trouble is None and self.channel is not None and self.channel.is_open:
            self.channel.basic_ack(tag, multiple=True)

    def close(self) -> None:
        """Say goodbye; what was not acknowledged goes back to where it was."""
        if not (self.connection.is_closed or self.connection.is_closing):
            self.connection.close()
        until = read_stopwatch() + GOODBYE_S
        while not self.connection.is_closed and read_stopwatch() < until:
            self._pump(STEP_S / 10)
        self.loop.close()


def read_address(rules: SourceRules) -> pika.URLParameters:
    """Read the source's url; raises ConfigError."""
    trouble: Exception = ValueError("it begins with amqp:// or amqps://")
    if urlsplit(rules.url).scheme in ("amqp", "amqps"):
        try:
            return pika.URLParameters(rules.url)
        except (ValueError, TypeError, IndexError, KeyError) as problem:
            trouble = problem
    raise ConfigError(
        f"[[source]] {rules.name}: url is not an address of RabbitMQ ({trouble})",
        remedy='write it as "amqp://USER:PASSWORD@HOST:5672/%2F"; in parts of it / is %2F and @ is %40',
    ) from trouble


def check_queues(rules: SourceRules) -> None:
    """Ask RabbitMQ for the queues and streams of a source; raises ConfigError, ReceiverError."""
    address = read_address(rules)
    try:
        with closing(pika.BlockingConnection(address)) as connection:
            for queue in (*rules.queues, *rules.streams):
                _check_queue(connection, rules, queue)
    except (pika.exceptions.AMQPError, OSError) as problem:
        found = explain(rules, "", problem)
        if isinstance(found, ReceiverError):
            raise found from problem
        raise ReceiverError(
            f"[[source]] {rules.name}: no answer from {address.host}:{address.port} ({_find_cause(problem)})",
            remedy="check url, and that the broker runs",
        ) from problem


def _check_queue(connection: pika.BlockingConnection, rules: SourceRules, queue: str) -> None:
    until = read_stopwatch() + PATIENCE_S
    while True:
        channel = connection.channel()
        try:
            channel.queue_declare(queue, passive=True)
        except ChannelClosedByBroker as problem:
            found = explain(rules, queue, problem)
            # Streams come back a moment after the broker.
            if isinstance(found, ReceiverError) or read_stopwatch() > until:
                raise found from problem
            connection.sleep(STEP_S)
        else:
            channel.close()
            return


def explain(rules: SourceRules, queue: str, problem: BaseException | None) -> ReceiverError | ConnectionError:
    """Tell what can't mend itself, with a remedy, from what calls for another try."""
    told, causes = f"[[source]] {rules.name}: ", list(_list_causes(problem))
    for cause in causes:
        if isinstance(cause, ChannelClosedByBroker) and cause.reply_code == 404 and "no queue" in cause.reply_text:
            return ReceiverError(
                f"{told}there is no queue or stream {queue!r}",
                remedy="make it, or correct its name under queues or streams",
            )
        if isinstance(cause, ChannelClosedByBroker) and NOT_BACK in cause.reply_text:
            break
        if isinstance(cause, ChannelClosedByBroker) and cause.reply_code in UNUSABLE:
            return ReceiverError(
                f"{told}{queue}: {cause.reply_text}",
                remedy="let this user read it, and list queues under queues and streams under streams",
            )
        if any(word in str(cause) for word in REFUSED):
            return ReceiverError(
                f"{told}RabbitMQ refuses user or virtual host ({_find_cause(cause)})",
                remedy="correct url: user, password and what stands behind the last /",
            )
    return ConnectionError(str(problem or "no answer"))


def _list_causes(problem: BaseException | None) -> Iterator[BaseException]:
    """Yield an error of pika's and those that it wraps, of which an authentication's is the one that matters."""
    if problem is None:
        return
    yield problem
    wrapped = (*problem.args, getattr(problem, "exception", None), *(getattr(problem, "exceptions", None) or ()))
    for one in wrapped:
        if isinstance(one, BaseException):
            yield from _list_causes(one)


def _find_cause(problem: BaseException) -> str:
    return str(list(_list_causes(problem))[-1])
