"""A live job: consume brokers until it is told to stop, with the operators, tables and guarantees of a replay."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clock import Clock, read_system_clock, to_us
from config import Config
from errors import ConfigError, RecoveryError
from events.scanning import ENDLESS, start_loading
from flows.compacting import compacting
from flows.decoding import make_decoders
from flows.graph import MERGES
from flows.growth import Growth, prepare_parts
from flows.job import check_settings, read_metadata, write_metadata
from flows.journal import Journal
from flows.live_sources import Sources, Surroundings, find_sources
from flows.monitor import Monitor
from flows.recovery import read_identity
from flows.replay import Job, ReplayOptions, ReplayResult, Watcher, hold_warehouse, stop_on_signals
from flows.sending import make_senders
from sinks.manifest import clean_up
from sinks.parquet import SinkRules, WarehouseSink
from sinks.storage import Folders
from sources.http_receiver import HttpReceiver
from sources.live import LivePart, LiveSource
from sources.pacing import Progress
from sources.receiving import receiving

LOOK_EVERY_S = 30.0


@dataclass(frozen=True)
class LiveOptions:
    """What a live job is told beside its config; `environment` fills in ${NAME} in its sources.

    `look_every_s`: seconds after which the brokers are asked for new partitions again.
    """

    warehouse: Path
    workers: int = 1
    recovery: Path | None = None
    clock: Clock = read_system_clock
    stop: threading.Event | None = None
    environment: dict[str, str] | None = None
    look_every_s: float = LOOK_EVERY_S
    journal: Journal = field(default_factory=Journal)

    @property
    def variables(self) -> Mapping[str, str]:
        """What fills in ${NAME}: the process's environment, where no other was given."""
        return os.environ if self.environment is None else self.environment


def run_live(options: LiveOptions, config: Config, watch: Watcher | None = None) -> ReplayResult:
    """Consume the config's sources into a warehouse until a signal or `stop`; raises JourneyError.

    A stop leaves sessions open in the recovery store: the same command goes on as if nothing had happened.
    """
    if not config.sources:
        raise ConfigError("there is no [[source]] to read from", remedy="add one to journey.toml: see docs/live.md")
    folders = Folders(options.warehouse)
    start_loading(ENDLESS)
    with Monitor(config, options.journal, options.clock, watch) as monitor, hold_warehouse(folders, "journeys run"):
        around = Surroundings(config.input.max_record_bytes, options.clock, folders.inboxes, config.input)
        sources = find_sources(config, options.variables, around)
        return _run(options, config, folders, sources, monitor)


def _run(
    options: LiveOptions,
    config: Config,
    folders: Folders,
    sources: Sources,
    monitor: Monitor,
) -> ReplayResult:
    job = Job(
        ReplayOptions(
            (),
            options.warehouse,
            workers=options.workers,
            recovery=options.recovery,
            clock=options.clock,
            stop=options.stop,
        ),
        config,
        folders,
    )
    monitor.receivers = [one for one in sources.receivers if isinstance(one, HttpReceiver)]
    growth = Growth(sources.parts, sources.looks, options.look_every_s)
    source, sink = _prepare(job, growth, monitor, Progress())
    failures: list[Exception] = []

    def fail(problem: Exception) -> None:
        failures.append(problem)
        job.stop.set()

    senders = make_senders(config, options.variables, folders, read_identity(job.store))
    with receiving(senders, fail):
        with (
            stop_on_signals(job.stop),
            compacting(folders, config.job.compact_every, monitor),
            receiving([*sources.receivers, growth], fail),
        ):
            while True:
                with job.publishing(source.progress, monitor.watch):
                    job.execute(source, sink)
                if job.stop.is_set() or not growth.found.is_set():
                    break
                source, sink = _prepare(job, growth, monitor, source.progress)
        manifest = job.publish()
    if failures:
        raise failures[0]
    clean_up(folders)
    monitor.end(manifest)
    return ReplayResult("stopped", manifest)


def _prepare(job: Job, growth: Growth, monitor: Monitor, progress: Progress) -> tuple[LiveSource, WarehouseSink]:
    """Bring the warehouse to the last durable epoch, and make what goes on from there with all partitions so far."""
    config, folders, clock = job.config, job.folders, job.options.clock
    metadata = read_metadata(folders)
    check_settings(folders, config, metadata)
    _, states = job.settle(metadata)
    parts = growth.take()
    check_parts(folders, parts, states)
    run = int(metadata.get("run", 0)) + 1
    write_metadata(folders, config, (), run, read_identity(job.store))
    source = LiveSource(prepare_parts(parts, states), make_decoders(config, to_us(clock())), config, clock)
    if config.job.archive:
        source.archive = folders.archive
    source.is_stopping = lambda: job.stop.is_set() or growth.found.is_set()
    source.on_durable = lambda: monitor.note_durable(job.note_durable)
    source.progress = progress
    progress.groups.clear()
    monitor.begin(folders, source.list_parts(), progress, job.stop)
    return source, WarehouseSink(SinkRules(folders, run, config.job.writers, MERGES))


def check_parts(folders: Folders, parts: Sequence[LivePart], states: dict[str, bytes]) -> None:
    """Raise RecoveryError where the store knows a partition that is not among the sources now."""
    gone = sorted(states.keys() - {part.name for part in parts})
    if gone:
        raise RecoveryError(
            f"{folders.root} goes on from {gone[0]}, which is not among the sources now",
            remedy="put the source back into journey.toml as it was, or run into a new --warehouse",
        )
