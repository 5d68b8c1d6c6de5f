"""`journeys parity` between a live job on a real Kafka and a replay of its records, while the live job runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from config import SECOND
from maps.parity import compare_warehouses
from sinks.storage import Folders
from tests.brokers.kafka import KafkaBroker
from tests.live.support import (
    START_S,
    count_rows,
    end_records,
    make_config,
    make_record,
    make_records,
    produce,
    replay,
    running,
    wait_until,
)

pytestmark = pytest.mark.slow


def test_live_job_agrees_with_a_replay_as_far_as_it_has_settled(kafka: KafkaBroker, tmp_path: Path) -> None:
    """Its last sessions are open, its last events wait, and a replay knows better: neither is a difference."""
    records = make_records(3, 3_000)
    topic = kafka.make_topic(3)
    replay(tmp_path / "files", end_records(records), tmp_path / "replayed")
    live, replayed = Folders(tmp_path / "live"), Folders(tmp_path / "replayed")
    with running(live.root, make_config(kafka.bootstrap, topic)):
        produce(kafka.bootstrap, topic, records)
        wait_until(lambda: count_rows(live.root, "events") > 2_900)
        report = compare_warehouses(live, replayed)
    assert report.same, [line for table in report.tables for line in table.describe()]
    assert report.left.open_sessions > 0
    rows = {table.table: table.rows_left for table in report.tables}
    # Each of eight groups of forty people says something every few minutes, of sixteen hours and more.
    assert rows["events"] > 2_700
    assert all(rows[table] > 0 for table in ("sessions", "transitions", "funnel_steps", "late_events"))
    assert not compare_warehouses(live, replayed, until=None).same
    names = compare_warehouses(live, replayed, strict=True)
    assert [table.table for table in names.tables if table.differs] == ["events", "late_events", "dead_letters"]


def test_hour_that_is_over_has_open_sessions_still(kafka: KafkaBroker, tmp_path: Path) -> None:
    """At 10:05 a visit that paused at 09:50 may go on: its end, and its hour's, are no difference yet."""
    ten = START_S + 2 * 3600
    records = [[make_record(f"m{at}", f"u{at}", ten + at * 60, "view") for at in (-50, -10, 5, 7)]]
    topic, live = kafka.make_topic(1), tmp_path / "live"
    replay(tmp_path / "files", records, tmp_path / "replayed")
    config = make_config(kafka.bootstrap, topic)
    with running(live, replace(config, job=replace(config.job, key_groups=1))):
        produce(kafka.bootstrap, topic, records)
        wait_until(lambda: count_rows(live, "events") == 3)
        report = compare_warehouses(Folders(live), Folders(tmp_path / "replayed"))
    assert report.until == (ten + 5 * 60) * SECOND + 1
    assert report.same, [line for table in report.tables for line in table.describe()]
    # Two beginnings in the hour before ten, no end in it; the session of ten past nine has closed.
    rows = {table.table: table.rows_left for table in report.tables}
    assert rows == {**dict.fromkeys(rows, 0), "events": 3, "sessions": 1, "transitions": 1, "funnel_steps": 3}
    assert report.left.open_sessions == 2
