"""A day on four partitions, of which one falls silent, one comes back after hours and one is hours behind the others.

Whatever that does to the watermark, the tables are the oracle's over the accepted events. What a partition brings late
that had been idle depends on when it was heard again, and is the one thing that is taken from the job itself.
"""

from __future__ import annotations

import calendar
import json
import random
import threading
import time
from pathlib import Path

import polars as pl
import pytest
from confluent_kafka import Producer

from config import MINUTE, SECOND, Config
from maps.status import read_status
from sinks.catalog import open_views
from sinks.storage import Folders
from tests.brokers.kafka import KafkaBroker
from tests.live.support import (
    SENTINEL,
    START_S,
    STEPS,
    count_rows,
    end_records,
    make_config,
    make_record,
    produce,
    running,
    wait_until,
)
from tests.oracle.oracle import RECORDS, compute_tables
from tests.support.tables import assert_equal_to_oracle, read_views

pytestmark = pytest.mark.slow
HOUR_S = 3_600
IDLE_AFTER = 3 * SECOND // 2
STEADY, SILENT, RETURNING, BEHIND = range(4)
SIZES = {STEADY: 12_000, SILENT: 800, RETURNING: 10_000, BEHIND: 8_000}
PLACE = ["source_partition", "source_position"]


def make_day(chance: random.Random) -> list[list[tuple[float, bytes]]]:
    """Make each partition's records with the hour at which they lie: disorder, copies here and elsewhere, bad ones."""
    day: list[list[tuple[float, bytes]]] = [[], [], [], []]
    for part, size in SIZES.items():
        hours = 1 if part == SILENT else 24
        for number in range(size):
            hour = hours * number / size
            at = START_S + hour * HOUR_S + chance.uniform(-15, 15) - (600 if chance.random() < 0.01 else 0)
            line = make_record(f"m{part}-{number}", f"person-{chance.randrange(400)}", at, chance.choice(STEPS))
            if chance.random() < 0.005:
                line = b'{"broken": '
            day[part].append((hour, line))
            if chance.random() < 0.02:
                day[part].append((hour, line))
            if chance.random() < 0.02:
                day[chance.choice([STEADY, BEHIND])].append((hour, line))
    return [sorted(lines, key=lambda line: line[0]) for lines in day]


def cut(lines: list[tuple[float, bytes]], begin: float, end: float) -> list[bytes]:
    """Take the records of some hours."""
    return [line for hour, line in lines if begin <= hour < end]


class Laggard:
    """Feeds one partition up to an hour at once, and then an event every moment, so that it is never idle."""

    def __init__(self, bootstrap: str, topic: str, lines: list[tuple[float, bytes]]) -> None:
        self.producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
        self.topic, self.lines = topic, lines
        self.sent, self.hour, self.longest_pause_s = 0, 0.0, 0.0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._feed)

    def _feed(self) -> None:
        last = time.monotonic()
        while not self.stop.wait(0.05) and self.sent < len(self.lines):
            end = self.sent + 1
            while end < len(self.lines) and self.lines[end][0] < self.hour:
                end += 1
            self._send(end)
            now = time.monotonic()
            self.longest_pause_s, last = max(self.longest_pause_s, now - last), now

    def _send(self, end: int) -> None:
        for _, line in self.lines[self.sent : end]:
            self.producer.produce(self.topic, line, partition=BEHIND)
        self.sent = end
        self.producer.flush(60)

    def __enter__(self) -> Laggard:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()
        self._send(len(self.lines))


def test_sessions_of_a_day_are_the_oracles_whatever_partitions_do(kafka: KafkaBroker, tmp_path: Path) -> None:
    day = make_day(random.Random(11))
    topic, live = kafka.make_topic(4), tmp_path / "live"
    config = make_config(kafka.bootstrap, topic, idle_after=IDLE_AFTER)
    with running(live, config, workers=2):
        with Laggard(kafka.bootstrap, topic, day[BEHIND]) as laggard:
            for steady, returning, behind in [((0, 3), (0, 3), 1), ((3, 10), (3, 3), 6), ((10, 17), (3, 10), 12)]:
                silent = cut(day[SILENT], 0, 24) if steady[0] == 0 else []
                produce(kafka.bootstrap, topic, [cut(day[STEADY], *steady), silent, cut(day[RETURNING], *returning)])
                laggard.hour = behind
                # Only once the silent ones are left out does the watermark get there.
                wait_until(lambda behind=behind: find_newest(live) > START_S + (behind - 0.1) * HOUR_S)  # type: ignore[misc]
        produce(kafka.bootstrap, topic, [cut(day[STEADY], 17, 24), [], cut(day[RETURNING], 10, 24)])
        produce(kafka.bootstrap, topic, end_records([[], [], [], []]))
        wait_until(lambda: count_waiting(live, sum(map(len, day)) + 4) == 4)
    expected, behind_all = compute_day(live, config, f"s0/{topic}", [[line for _, line in lines] for lines in day])
    assert_equal_to_oracle(read_views(live), expected)
    dead = sum(line.startswith(b'{"broken') for lines in day for _, line in lines)
    assert count_rows(live, "dead_letters") == dead > 50
    if laggard.longest_pause_s < IDLE_AFTER / SECOND / 2:
        check_meaning(expected["events"], behind_all, f"s0/{topic}")


def find_newest(warehouse: Path) -> float:
    if not (warehouse / "_journeys" / "manifests").exists() or not count_rows(warehouse, "events"):
        return 0.0
    newest = read_status(Folders(warehouse)).ordered_until
    return newest.timestamp() if newest else 0.0


def count_waiting(warehouse: Path, received: int) -> int:
    total = read_status(Folders(warehouse)).total
    return total.waiting if total.received == received else -1


def compute_day(
    live: Path, config: Config, source: str, day: list[list[bytes]]
) -> tuple[dict[str, pl.DataFrame], pl.DataFrame]:
    """Return the oracle's tables over what the contract accepts, and what came late behind all partitions.

    By its partition's own watermark a record is late whatever the others do: the oracle says which. Only where the
    job says that an event was behind all partitions is it taken at its word, after that was checked.
    """
    records = read_records(source, day)
    own_late = compute_tables(records, config)["late"]
    behind = read_behind_all(live)
    check_behind_all(behind, records, own_late)
    late = pl.concat([own_late, behind.select(own_late.columns)])
    expected = compute_tables(records.join(late, on=PLACE, how="anti"), config)
    assert expected["late"].height == 0
    expected["late"] = late
    received = {f"{source}/{number}": len(lines) + 1 for number, lines in enumerate(day)}  # and the sentinel
    lates = dict(late.group_by("source_partition").len().rows())
    expected["ledger"] = expected["ledger"].with_columns(
        pl.col("source_partition").replace_strict(received).alias("received"),
        pl.col("source_partition").replace_strict(lates, default=0).alias("late"),
    )
    return expected, behind


def read_records(source: str, day: list[list[bytes]]) -> pl.DataFrame:
    """Read the records as a person would: those that can be read, with their offsets; columns of RECORDS."""
    rows = []
    for number, lines in enumerate(day):
        for offset, line in enumerate(lines):
            if line.startswith(b'{"broken'):
                continue
            body = json.loads(line)
            moment, _, millis = body["timestamp"].removesuffix("Z").partition(".")
            seconds = calendar.timegm(time.strptime(moment, "%Y-%m-%dT%H:%M:%S"))
            at = seconds * SECOND + int(millis) * 1_000
            person, step = body["userId"], body["event"]
            rows.append((f"{source}/{number}", offset, body["messageId"], at, person, None, person, "web", step))
    return pl.DataFrame(rows, schema=RECORDS, orient="row")


def read_behind_all(live: Path) -> pl.DataFrame:
    """Read the late events that were behind all partitions: place, time and watermark (microseconds)."""
    connection, _ = open_views(Folders(live), threads=1)
    with connection:
        return pl.DataFrame(
            connection.sql(
                "SELECT source_partition, source_position, epoch_us(event_time) AS event_time,"
                " epoch_us(watermark) AS watermark FROM late_events WHERE reason = 'behind_all_partitions'"
            ).to_arrow_table()
        )


def check_behind_all(behind: pl.DataFrame, records: pl.DataFrame, own_late: pl.DataFrame) -> None:
    """Each is a record that was in time for its own partition, and behind a watermark that some other had reached."""
    assert not behind.select(PLACE).is_duplicated().any()
    assert behind.join(own_late, on=PLACE, how="semi").height == 0
    assert behind.join(records, on=[*PLACE, "event_time"], how="semi").height == behind.height
    assert (behind["event_time"] < behind["watermark"]).all()
    newest = dict(records.group_by("source_partition").agg(pl.col("event_time").max()).rows())
    for partition, watermark in behind.select("source_partition", "watermark").unique().rows():
        assert watermark <= max(time for name, time in newest.items() if name != partition) - MINUTE


def check_meaning(events: pl.DataFrame, behind_all: pl.DataFrame, source: str) -> None:
    """The day was what it should be: nothing else was late, and each partition did what it is here for."""
    names = [f"{source}/{number}" for number in range(4)]
    assert set(behind_all["source_partition"]) == {names[RETURNING]}
    hours = (behind_all["event_time"] / SECOND - START_S) / HOUR_S
    # While it was away, the one far behind had got to six: what it brings from then on is in time.
    assert hours.min() < 3.1
    assert 5.5 < hours.max() < 7.5
    returned = events.filter(pl.col("source_partition") == names[RETURNING])
    times = (returned["event_time"] / SECOND - START_S) / HOUR_S
    assert times.is_between(hours.max(), 10).sum() > 500
    # Sessions of several partitions: they can only be right if all of them were put in order.
    partitions = events.group_by("person_id", "started_at").agg(pl.col("source_partition").n_unique())
    assert (partitions["source_partition"] > 1).sum() > 1_000
    assert not events["person_id"].str.starts_with(SENTINEL).any()
