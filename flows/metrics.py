"""A live job's metrics in Prometheus' form; docs/deploy.md has the table of their names."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from maps.ledger import OUTCOMES
from maps.standing import Standing
from sources.http_receiver import HttpReceiver

if TYPE_CHECKING:
    from flows.monitor import Monitor

PLACE = ("source", "partition")
MEANINGS = {
    "received": "Records that came in",
    "accepted": "Events that are in the tables",
    "duplicate": "Records left out, as their event was there already",
    "late": "Events that came behind the watermark",
    "dead": "Records that can't be read as events",
}


class JobCollector(Collector):
    """Makes the metrics anew for every scrape, of what the monitor knows at that moment."""

    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor

    def describe(self) -> Iterable[Metric]:
        """Say nothing ahead of the first scrape."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        standing = self.monitor.measure()
        yield from self._describe_build()
        yield from self._count_ledger()
        yield from measure_partitions(standing)
        yield from measure_job(standing)
        yield from self._measure_tables()
        yield from count_answers(self.monitor.receivers)

    def _describe_build(self) -> Iterator[Metric]:
        names = ("version", "python", "bytewax")
        values = (version("journeystream"), platform.python_version(), version("bytewax"))
        build = GaugeMetricFamily("journeys_build_info", "1, with the versions as labels.", labels=names)
        build.add_metric(values, 1)
        yield build

    def _count_ledger(self) -> Iterator[Metric]:
        rows = self.monitor.ledger.rows
        for number, outcome in enumerate(OUTCOMES):
            name, meaning = f"journeys_{outcome}_total", f"{MEANINGS[outcome]}, by the committed ledger."
            family = CounterMetricFamily(name, meaning, labels=PLACE)
            for place, counts in sorted(rows.items()):
                family.add_metric(place, counts[number])
            yield family

    def _measure_tables(self) -> Iterator[Metric]:
        manifest = self.monitor.manifest
        rows = GaugeMetricFamily("journeys_table_rows", "Rows of a table as they lie in its files.", labels=["table"])
        files = GaugeMetricFamily("journeys_table_files", "Files of a table.", labels=["table"])
        for table in manifest.files:
            visible = manifest.visible(table)
            rows.add_metric([table], sum(file.rows for file in visible))
            files.add_metric([table], len(visible))
        ended = CounterMetricFamily("journeys_compactions_total", "Compactions of this run.", labels=["outcome"])
        for outcome in ("done", "failed"):
            ended.add_metric([outcome], self.monitor.compactions[outcome])
        yield from (rows, files, ended)


def count_answers(receivers: Iterable[HttpReceiver]) -> Iterator[Metric]:
    """Yield what sources over HTTP answered, and what they left out."""
    answers = CounterMetricFamily(
        "journeys_http_answers_total", "Requests of this run by what they were answered.", labels=["source", "status"]
    )
    repeated = CounterMetricFamily(
        "journeys_http_repeated_total",
        "Records left out in this run, as they were delivered before.",
        labels=["source"],
    )
    for receiver in receivers:
        for status, count in sorted(receiver.answers.copy().items()):
            answers.add_metric([receiver.name, str(status)], count)
        repeated.add_metric([receiver.name], receiver.committer.repeated if receiver.committer else 0)
    yield from (answers, repeated)


def measure_partitions(standing: Standing) -> Iterator[Metric]:
    """Yield what is known of each source partition in this run."""
    records = CounterMetricFamily("journeys_read_records_total", "Records handed on in this run, live.", labels=PLACE)
    size = CounterMetricFamily("journeys_read_bytes_total", "Bytes handed on in this run, live.", labels=PLACE)
    watermark = GaugeMetricFamily(
        "journeys_watermark_seconds", "Event time behind which an event is late, since 1970, live.", labels=PLACE
    )
    lag = GaugeMetricFamily("journeys_lag_records", "Records that wait at the source, live.", labels=PLACE)
    idle = GaugeMetricFamily("journeys_idle", "1 while the others don't wait for it, live.", labels=PLACE)
    for part in standing.partitions:
        place = (part.source, part.partition)
        records.add_metric(place, part.records)
        size.add_metric(place, part.bytes)
        idle.add_metric(place, float(part.idle))
        if part.watermark is not None:
            watermark.add_metric(place, part.watermark / 1e6)
        if part.lag is not None:
            lag.add_metric(place, part.lag)
    yield from (records, size, watermark, lag, idle)


def measure_job(standing: Standing) -> Iterator[Metric]:
    """Yield what is known of the job as a whole; what never happened is left out."""
    gauges = {
        "journeys_start_time_seconds": ("When this run began, since 1970.", standing.started_at / 1e6),
        "journeys_open_sessions": ("Sessions that may still go on, live.", standing.open_sessions),
        "journeys_waiting_events": ("Events in the reorder buffer, live.", standing.waiting),
        "journeys_version": ("Version of the tables: the number of the newest manifest.", standing.version),
        "journeys_commit_seconds": ("How long it took to make the last commit visible.", standing.commit_s),
        "journeys_longest_stall_seconds": (
            "For how long the end of an epoch held up reading at most, in this run.",
            standing.longest_stall_s,
        ),
    }
    moments = {
        "journeys_durable_epoch": ("an epoch last became durable", standing.durable_at),
        "journeys_commit": ("rows last became visible", standing.committed_at),
    }
    for name, (meaning, at) in moments.items():
        if at is not None:
            gauges[f"{name}_time_seconds"] = (f"When {meaning}, since 1970.", at / 1e6)
            gauges[f"{name}_age_seconds"] = (f"How long ago {meaning}.", max(0, standing.at - at) / 1e6)
    for name, (meaning, value) in gauges.items():
        yield GaugeMetricFamily(name, meaning, value)
    yield CounterMetricFamily("journeys_commits_total", "Commits with rows, of all runs.", standing.commits)
