"""Run a replay: prepare the warehouse, start the dataflow, publish what becomes durable, finish."""

from __future__ import annotations

import hashlib
import json
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import FrameType

from bytewax.recovery import RecoveryConfig
from bytewax.testing import cluster_main

from clock import Clock, read_stopwatch, read_system_clock, to_us
from config import Config
from errors import RecoveryError, UsageError, WarehouseError
from events.formats.registry import reads_tabs
from events.scanning import start_loading
from flows.decoding import make_file_decoder
from flows.graph import MERGES, SINK_STEP, SOURCE_STEP, build_flow
from flows.job import check_settings, load_lanes, read_metadata, write_metadata
from flows.recovery import (
    check_identity,
    check_store,
    explain_failure,
    fence,
    list_parts,
    make_store,
    read_identity,
    read_progress,
)
from sinks.manifest import Manifest, clean_up, read_manifest, remove_orphans
from sinks.parquet import SinkRules, WarehouseSink, close_all
from sinks.publishing import discard_undurable, find_lost, list_waiting, publish_durable
from sinks.storage import Folders, hold_writer_lock, pass_point
from sources.discover import STDIN, find_files
from sources.files import FileSource, Position
from sources.lanes import Lane, check_lanes, plan_lanes
from sources.live import LiveSource
from sources.pacing import Progress

PUBLISH_EVERY_S = 0.5


@dataclass(frozen=True)
class Start:
    """What a replay knows before it reads: its lanes, and where it goes on in those it began earlier."""

    lanes: tuple[Lane, ...]
    positions: dict[str, Position]


@dataclass(frozen=True)
class ReplayOptions:
    """What a replay is told beside its config.

    `on_start` is called when the warehouse is prepared, before anything is read: further processes may start now.
    `stop` ends the run at an epoch; in a cluster it must be one that every process sees.
    """

    patterns: tuple[str, ...]
    warehouse: Path
    workers: int = 1
    recovery: Path | None = None
    use_recovery: bool = True
    addresses: tuple[str, ...] = ()
    process: int = 0
    clock: Clock = read_system_clock
    on_start: Callable[[Start], None] | None = None
    stop: threading.Event | None = None


@dataclass
class ReplayResult:
    """How it ended: `outcome` finished | stopped | nothing_to_do."""

    outcome: str
    manifest: Manifest
    notes: list[str] = field(default_factory=list)
    lanes: tuple[Lane, ...] = ()


Watcher = Callable[[Progress, Manifest], None]


def run_replay(options: ReplayOptions, config: Config, watch: Watcher | None = None) -> ReplayResult:
    """Replay files into a warehouse, going on where an earlier run of the same job stopped; raises JourneyError."""
    folders = Folders(options.warehouse)
    if options.process > 0:
        return _run_member(options, config, folders, watch)
    with hold_warehouse(folders, "journeys replay"):
        return Job(options, config, folders).run(watch)


@contextmanager
def hold_warehouse(folders: Folders, what: str) -> Iterator[None]:
    """Keep other writers out, and make a clear error of a disk that is full or can't be reached."""
    try:
        with hold_writer_lock(folders, what):
            yield
    except OSError as problem:
        raise WarehouseError(
            f"{folders.root}: can't be written or read ({problem})",
            remedy="give it space and permission, then run the same command again: it goes on at the last commit",
        ) from problem


class Job:
    """One run on a warehouse: what a replay and a live job have in common, and the replay itself."""

    def __init__(self, options: ReplayOptions, config: Config, folders: Folders) -> None:
        self.options, self.config, self.folders = options, config, folders
        self.store = options.recovery or folders.recovery
        self.stop = options.stop or threading.Event()
        self.durable: queue.Queue[dict[str, int] | None] = queue.Queue()  # None: there will be no more

    def run(self, watch: Watcher | None) -> ReplayResult:
        metadata = read_metadata(self.folders)
        check_settings(self.folders, self.config, metadata)
        manifest, states = self.settle(metadata)
        positions = {lane: Position.load(state) for lane, state in states.items()}
        decode = make_file_decoder(self.config, to_us(self.options.clock()))
        # Of what no durable epoch has read, nothing needs to be remembered.
        known = load_lanes(metadata) if positions else ()
        notes = check_lanes(known, {name: (at.file, at.offset) for name, at in positions.items()})
        found = find_files(self.options.patterns, reads_tabs(self.config.input.format))
        start_loading(sum(file.size for file in found))
        lanes = plan_lanes(found, known, decode, self.config.input.lanes, self.config.sessions.allowed_lateness)
        inputs = digest_inputs(lanes)
        piped = any(entry.file.path == STDIN for lane in lanes for entry in lane.files)
        # What a pipe holds is known only by reading it, so a run with one always looks.
        if manifest.complete == inputs and not piped:
            return ReplayResult("nothing_to_do", manifest, notes, lanes)
        run = int(metadata.get("run", 0)) + 1
        store = read_identity(self.store) if self.options.use_recovery else 0
        pass_point("before_metadata")
        write_metadata(self.folders, self.config, lanes, run, store)
        pass_point("after_metadata")
        if self.options.on_start is not None:
            self.options.on_start(Start(lanes, positions))
        source = FileSource(lanes, decode, self.config, self.stop.is_set, self.note_durable)
        sink = WarehouseSink(SinkRules(self.folders, run, self.config.job.writers, MERGES))
        with stop_on_signals(self.stop), self.publishing(source.progress, watch):
            self.execute(source, sink)
        stopped = self.stop.is_set()
        if not self.options.use_recovery and not stopped:
            close_all(sink.opened)
            manifest = publish_durable(self.folders, {part.name: part.commits for part in sink.opened}, 1, inputs)
        elif self.options.use_recovery:
            manifest = self.publish("" if stopped else inputs)
        clean_up(self.folders)
        return ReplayResult("stopped" if stopped else "finished", manifest, notes, lanes)

    def settle(self, metadata: dict[str, object]) -> tuple[Manifest, dict[str, bytes]]:
        """Bring the folder to the last durable epoch: publish what it holds, discard what lies beyond."""
        manifest = read_manifest(self.folders)
        if not self.options.use_recovery:
            if manifest.version or metadata:
                raise UsageError(
                    f"{self.folders.root} already holds a replay, and --no-recovery can't go on with it",
                    remedy="use a new --warehouse, or leave --no-recovery away",
                )
            remove_orphans(self.folders, discard_undurable(self.folders, {}))
            return manifest, {}
        if manifest.version and not list_parts(self.store):
            raise RecoveryError(
                f"{self.store}: the recovery store of {self.folders.root} is missing",
                remedy="put it back or name it with --recovery; without it, replay into a new --warehouse",
            )
        make_store(self.store)
        check_store(self.store)
        check_identity(self.store, int(str(metadata.get("store", 0))), self.folders.root)
        pass_point("before_fence")
        fence(self.store)
        pass_point("after_fence")
        progress = read_progress(self.store, SOURCE_STEP, SINK_STEP)
        durable = {part: int(state) for part, state in progress.sinks.items()}
        ahead = [part for part, commits in manifest.parts.items() if commits > durable.get(part, 0)]
        if ahead:
            raise RecoveryError(
                f"{self.store}: the recovery store is older than the tables of {self.folders.root} (writer {ahead[0]})",
                remedy="put the store back that belongs to this warehouse, or replay into a new --warehouse",
            )
        lost = find_lost(self.folders, manifest, durable)
        if lost:
            raise RecoveryError(
                f"{self.folders.root}: commit {lost[0]}, which the recovery store holds as done, is missing here",
                remedy="put the whole warehouse folder back as it was with this store, or replay into a new --warehouse",
            )
        manifest = publish_durable(self.folders, durable, progress.epoch, refresh=True)
        pass_point("after_settle_publish")
        remove_orphans(self.folders, discard_undurable(self.folders, durable))
        return manifest, progress.sources

    def execute(self, source: FileSource | LiveSource, sink: WarehouseSink) -> None:
        """Run the dataflow to its end; raises JourneyError."""
        flow = build_flow(source, sink, self.config, source.is_stopping)
        recovery = RecoveryConfig(str(self.store)) if self.options.use_recovery else None
        try:
            cluster_main(
                flow,
                list(self.options.addresses),
                self.options.process,
                epoch_interval=timedelta(microseconds=self.config.job.snapshot),
                recovery_config=recovery,
                worker_count_per_proc=self.options.workers,
            )
        except KeyboardInterrupt:
            self.stop.set()
        except BaseException as problem:
            clear = explain_failure(problem, self.store)
            if clear is None or clear is problem:
                raise
            raise clear from problem
        finally:
            source.close()

    def publish(self, complete: str = "") -> Manifest:
        """Publish all that is durable, once the dataflow has ended."""
        progress = read_progress(self.store, SOURCE_STEP, SINK_STEP)
        durable = {part: int(state) for part, state in progress.sinks.items()}
        if complete and any(commit > durable.get(part, 0) for part, commit in list_waiting(self.folders).items()):
            raise RecoveryError(
                f"{self.store}: the last epoch was written but not recorded as done",
                remedy="run the same command again, it repeats that epoch",
            )
        return publish_durable(self.folders, durable, progress.epoch, complete)

    def note_durable(self) -> None:
        """Take note that an epoch has become durable; called from a worker's thread."""
        # Called between two epochs: no commit of the next one can have been written, so all that waits is durable.
        self.durable.put(list_waiting(self.folders))
        pass_point("epoch_durable")

    def _wait_durable(self) -> dict[str, int] | None:
        """Wait for the newest durable commits by writer: empty where there were none for a while, None at the end."""
        try:
            waiting = self.durable.get(timeout=PUBLISH_EVERY_S)
            while waiting is not None and not self.durable.empty():
                waiting = self.durable.get_nowait()
        except queue.Empty:
            return {}
        return waiting

    @contextmanager
    def publishing(self, progress: Progress, watch: Watcher | None) -> Iterator[None]:
        """Publish every epoch once it is durable, beside the dataflow."""
        manifest, failure = read_manifest(self.folders), []

        def loop() -> None:
            nonlocal manifest
            more = True
            while more:
                try:
                    waiting = self._wait_durable()
                    more = waiting is not None
                    if waiting:
                        began, version = read_stopwatch(), manifest.version
                        manifest = publish_durable(self.folders, waiting, 0)
                        if manifest.version != version:
                            progress.commit_s = read_stopwatch() - began
                except Exception as problem:
                    failure.append(problem)
                    self.stop.set()
                    return
                if watch is not None:
                    watch(progress, manifest)

        thread = threading.Thread(target=loop, name="publish", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.durable.put(None)
            thread.join()
        if failure:
            raise failure[0]


def _run_member(options: ReplayOptions, config: Config, folders: Folders, watch: Watcher | None) -> ReplayResult:
    """A further process of a cluster: the first one prepares, publishes and finishes."""
    metadata = read_metadata(folders)
    lanes = load_lanes(metadata)
    start_loading(sum(entry.file.size for lane in lanes for entry in lane.files))
    member = Job(options, config, folders)
    decode = make_file_decoder(config, to_us(options.clock()))
    source = FileSource(lanes, decode, config, member.stop.is_set, member.note_durable)
    sink = WarehouseSink(SinkRules(folders, int(metadata["run"]), config.job.writers, MERGES))
    with stop_on_signals(member.stop), member.publishing(source.progress, watch):
        member.execute(source, sink)
    return ReplayResult("stopped" if member.stop.is_set() else "finished", read_manifest(folders), [], lanes)


def digest_inputs(lanes: Sequence[Lane]) -> str:
    """Name a set of inputs, so that a finished replay knows that there is nothing new."""
    names = [[lane.name, [[entry.file.path, entry.file.size, entry.digest] for entry in lane.files]] for lane in lanes]
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()[:32]


@contextmanager
def stop_on_signals(stop: threading.Event) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the run at an epoch; a second Ctrl-C ends it at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, _frame: FrameType | None) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
