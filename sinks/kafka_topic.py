"""Committed rows to a topic of Kafka, one transaction a commit: exactly once for consumers that read what is committed.

The transaction holds the rows and, as the offset of a consumer group that nobody else uses, the position behind them. A
new start takes the transactional id over, which ends what a killed one had begun, and goes on at that position.
"""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from config import TopicRules
from errors import ConfigError, SinkError
from sinks.manifest import DataFile, Manifest, read_manifest
from sinks.rewriting import read_data
from sinks.sent import Commit, Position, join_positions, list_commits, read_position, write_position
from sinks.storage import Folders, pass_point

LOOK_EVERY_S = 0.25
PATIENCE_S = 5.0
BACK_OFF_S = 2.0
TRANSACTION_MS = 300_000
VERSION = b"1"
OURS = ("bootstrap.servers", "transactional.id", "enable.idempotence", "group.id")
HOPELESS = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError._AUTHENTICATION,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError.INVALID_TRANSACTION_TIMEOUT,
    KafkaError.MSG_SIZE_TOO_LARGE,
)


class _Silent:
    def log(self, *_: object) -> None:
        """Say nothing: what matters comes as an error of the client."""


@dataclass
class _Connection:
    """A producer that holds the transactional id, and the client that keeps the position."""

    producer: Producer
    keeper: Consumer

    def close(self) -> None:
        """Let go of both, whatever they still had to send."""
        self.producer.purge(blocking=False)
        threading.Thread(target=self.keeper.close, name="close", daemon=True).start()


class TopicSink:
    """Sends what the manifests name, commit by commit, in a thread of its own; runs as a receiver does."""

    def __init__(self, folders: Folders, rules: TopicRules, identity: str) -> None:
        """`identity`: the transactional id and group, the same at every start of this warehouse's sink."""
        self.folders, self.rules, self.identity = folders, rules, identity
        self.name = f"sink {rules.name}"
        self.position = read_position(folders, rules.name)
        self.connection: _Connection | None = None
        self.seen = -1  # version of the newest manifest that was sent
        check_settings(rules)

    def run(self, stop: threading.Event) -> None:
        """Send until told to stop, and what is left then if the broker is there; raises SinkError.

        A broker that is away is waited for: what is committed stays to be sent.
        """
        answers = True
        while not stop.is_set():
            answers = self._try()
            stop.wait(LOOK_EVERY_S if answers else BACK_OFF_S)
        if answers:
            self._try()
        self._disconnect()

    def _try(self) -> bool:
        """Send what is new; tells whether the broker took it."""
        try:
            self._send_new()
        except KafkaException as problem:
            self._disconnect()
            self._raise_hopeless(problem.args[0])
            return False
        return True

    def _send_new(self) -> None:
        manifest = read_manifest(self.folders)
        if manifest.version == self.seen:
            return
        if list_commits(manifest, self.rules.tables, self.position):
            self._connect(manifest)
        for commit in list_commits(manifest, self.rules.tables, self.position):
            self._send(commit)
        # Commits without rows of these tables are passed over.
        self._note(join_positions(self.position, manifest.parts))
        self.seen = manifest.version

    def _connect(self, manifest: Manifest) -> None:
        if self.connection is not None:
            return
        connection = _Connection(*make_clients(self.rules, self.identity))
        self.connection = connection
        found = connection.producer.list_topics(self.rules.topic, timeout=PATIENCE_S).topics[self.rules.topic]
        if found.error is not None:
            raise KafkaException(found.error)
        connection.producer.init_transactions(PATIENCE_S)
        (kept,) = connection.keeper.committed([TopicPartition(self.rules.topic, 0)], timeout=PATIENCE_S)
        position = join_positions(self.position, json.loads(kept.metadata) if kept.metadata else {})
        ahead = [part for part, number in position.items() if number > manifest.parts.get(part, 0)]
        if ahead:
            raise SinkError(
                f"[[sink]] {self.rules.name}: more was sent to {self.rules.topic} than {self.folders.root} holds"
                f" (writer {ahead[0]})",
                remedy="the warehouse is older than the topic: give the sink another name, and it begins anew",
            )
        self._note(position)

    def _send(self, commit: Commit) -> None:
        if self.connection is None:
            return
        producer, position = self.connection.producer, join_positions(self.position, {commit.part: commit.number})
        producer.begin_transaction()
        for table, files in commit.files.items():
            self._produce(producer, commit.name, table, files)
        pass_point("sink_produced")
        place = TopicPartition(self.rules.topic, 0, sum(position.values()), metadata=json.dumps(position))
        producer.send_offsets_to_transaction([place], self.connection.keeper.consumer_group_metadata(), PATIENCE_S)
        pass_point("sink_offsets")
        producer.commit_transaction(TRANSACTION_MS / 1000)
        pass_point("sink_committed")
        self._note(position)

    def _produce(self, producer: Producer, commit: str, table: str, files: tuple[DataFile, ...]) -> None:
        fixed = [("v", VERSION), ("table", table.encode()), ("commit", commit.encode())]
        row = 0
        for file in files:
            frame = read_data(self.folders, table, file.path)
            keys = frame[self.rules.key] if self.rules.key in frame.columns else [None] * frame.height
            for key, line in zip(keys, write_lines(frame, file.dt), strict=True):
                self._put(producer, line, key, [*fixed, ("row", str(row).encode())])
                row += 1

    def _put(self, producer: Producer, line: bytes, key: object, headers: list[Any]) -> None:
        text = None if key is None else str(key)
        while True:
            try:
                producer.produce(self.rules.topic, line, text, headers=headers)
            except BufferError:
                producer.poll(LOOK_EVERY_S)
            else:
                break

    def _note(self, position: Position) -> None:
        if position != self.position:
            write_position(self.folders, self.rules.name, position)
            self.position = position

    def _disconnect(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def _raise_hopeless(self, error: KafkaError) -> None:
        if error.code() in HOPELESS:
            raise SinkError(
                f"[[sink]] {self.rules.name}: {self.rules.topic}: {error.str()}",
                remedy="check the topic, and what this user may write: what is committed is sent when it can be",
            )


def check_settings(rules: TopicRules) -> None:
    """Raise ConfigError for a setting that is not the user's to choose, or that the client does not know."""
    for name in rules.settings:
        if name in OURS:
            raise ConfigError(f"[[sink]] {rules.name}: settings: {name} can't be set", remedy="see docs/live.md")
    try:
        make_clients(rules, "check")
    except KafkaException as problem:
        error = problem.args[0]
        raise ConfigError(
            f"[[sink]] {rules.name}: {error.str() if isinstance(error, KafkaError) else error}",
            remedy="compare settings with librdkafka's configuration page",
        ) from problem


def make_clients(rules: TopicRules, identity: str) -> tuple[Producer, Consumer]:
    """Make the producer of a sink and the client that keeps its position; neither has asked the broker anything yet."""
    shared = {**rules.settings, "bootstrap.servers": rules.servers}
    producing = {
        # What Java's clients do: rows of a person lie where records of the same key from elsewhere lie.
        "partitioner": "murmur2_random",
        "compression.type": "lz4",
        "linger.ms": "20",
        "transaction.timeout.ms": str(TRANSACTION_MS),
        **shared,
        "transactional.id": identity,
    }
    # The client warns of settings that only the other side knows; those that neither knows are errors.
    keeping = {**shared, "group.id": identity, "enable.auto.commit": "false"}
    return Producer(producing, logger=_Silent()), Consumer(keeping, logger=_Silent())


def write_lines(frame: pl.DataFrame, day: str) -> Iterator[bytes]:
    """Write each row as a line of JSON, its columns and `dt`: times as ISO 8601 in UTC, lists as arrays, bytes as text."""
    raw = [
        pl.Series(column.name, [None if one is None else one.decode(errors="replace") for one in column])
        for column in frame
        if column.dtype == pl.Binary
    ]
    times = pl.col(pl.Datetime).dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
    plain = frame.with_columns(*(one.cast(pl.String) for one in raw)).with_columns(times, pl.lit(day).alias("dt"))
    buffer = io.BytesIO()
    plain.write_ndjson(buffer)
    return iter(buffer.getvalue().splitlines()[: frame.height])


def name_identity(store: int, rules: TopicRules) -> str:
    """Return the transactional id and group of a warehouse's sink; `store`: the number of its recovery store."""
    return f"journeystream-{store:08x}-{rules.name}"
