"""Watches a live job: what it says on standard error, over HTTP, and in the file that `journeys status` reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from threading import Event
from types import TracebackType

from clock import Clock, from_us, read_stopwatch, to_us
from config import Config, split_address
from flows.endpoints import make_app
from flows.health import Health, judge_health
from flows.journal import Journal
from flows.replay import Watcher
from maps.ledger import OUTCOMES, LedgerTotals
from maps.standing import PartitionStanding, Standing, name_file, read_standing, save_standing
from serving import HttpServer
from sinks.manifest import Manifest, read_manifest
from sinks.storage import Folders, write_atomically
from sources.http_receiver import HttpReceiver
from sources.pacing import Progress

SAY_EVERY_S = 10.0
WRITE_EVERY_S = 1.0


class Monitor:
    """What is known of a live job at any moment, from any thread. A context: it listens as [serve] says until the end."""

    def __init__(
        self,
        config: Config,
        journal: Journal,
        clock: Clock,
        also: Watcher | None = None,
        stopwatch: Callable[[], float] = read_stopwatch,
    ) -> None:
        """`also` is told the same as `watch` is."""
        self.config, self.journal, self.clock, self.also, self.stopwatch = config, journal, clock, also, stopwatch
        self.started_at = to_us(clock())
        self.folders: Folders | None = None
        self.progress, self.stop, self.ended = Progress(), Event(), ""
        self.problem = ""
        self.manifest, self.ledger = Manifest(), LedgerTotals()
        self.partitions: tuple[str, ...] = ()
        self.epochs, self.written_epochs = 0, 0
        self.durable_at: int | None = None
        self.committed_at: int | None = None
        self.began_s: float | None = None
        self.durable_s: float | None = None
        self.written_s = self.said_s = self.stopwatch()
        self.said_records = 0
        self.idle: dict[str, bool] = {}
        self.compactions: Counter[str] = Counter()
        self.server: HttpServer | None = None
        self.receivers: Sequence[HttpReceiver] = ()

    def __enter__(self) -> Monitor:
        if self.config.serve.listen:
            self.server = HttpServer(make_app(self), *split_address(self.config.serve.listen))
            self.journal.say("listening", url=self.server.url)
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: object, trace: TracebackType | None) -> None:
        if problem is not None:
            self.ended, self.problem = "failed", str(problem).partition("\n")[0]
            self.write()
        if self.server is not None:
            self.server.stop()

    def begin(self, folders: Folders, partitions: Iterable[str], progress: Progress, stop: Event) -> None:
        """Take note that the job begins to read."""
        before = read_standing(folders)
        self.committed_at = before.committed_at if before is not None else None
        self.manifest = read_manifest(folders)
        self.ledger = self.ledger.advance(folders, self.manifest)
        self.folders, self.partitions, self.progress, self.stop = folders, tuple(sorted(partitions)), progress, stop
        self.began_s = self.stopwatch()
        self.journal.say(
            "start",
            warehouse=str(folders.root),
            version=self.manifest.version,
            sources=[rules.name for rules in self.config.sources],
            partitions=list(self.partitions),
        )
        self.write()

    def note_durable(self, then: Callable[[], None]) -> None:
        """Take note that an epoch is durable, and pass it on."""
        then()
        self.epochs, self.durable_at, self.durable_s = self.epochs + 1, to_us(self.clock()), self.stopwatch()

    def note_compaction(self, outcome: str) -> None:
        """Take note of how a compaction ended: done, nothing or failed."""
        self.compactions[outcome] += 1

    def watch(self, progress: Progress, manifest: Manifest) -> None:
        """Take note of the newest manifest; called after each commit, and now and then."""
        if self.also is not None:
            self.also(progress, manifest)
        try:
            self._watch(manifest)
        except Exception as problem:  # what only looks on must not end the job
            if str(problem) != self.problem:
                self.problem = str(problem)
                self.journal.say("monitor_failed", "warning", problem=self.problem)

    def _watch(self, manifest: Manifest) -> None:
        fresh = manifest.version != self.manifest.version
        if fresh:
            self.committed_at = to_us(self.clock())
            self.ledger = self.ledger.advance(self._where, manifest)
            self.manifest = manifest
        self._tell_idle()
        now = self.stopwatch()
        if fresh or (self.epochs > self.written_epochs and now - self.written_s >= WRITE_EVERY_S):
            self.written_s, self.written_epochs = now, self.epochs
            self.write()
        if now - self.said_s >= SAY_EVERY_S:
            self._tell_progress(now)

    @property
    def _where(self) -> Folders:
        if self.folders is None:
            raise RuntimeError("begin() comes first")
        return self.folders

    def _tell_idle(self) -> None:
        for name, gauge in list(self.progress.partitions.items()):
            if self.idle.get(name, False) != gauge.idle:
                self.idle[name] = gauge.idle
                self.journal.say("idle" if gauge.idle else "active", partition=name)

    def _tell_progress(self, now: float) -> None:
        standing, records = self.measure(), self.progress.records
        sums = dict(zip(OUTCOMES, map(sum, zip(*self.ledger.rows.values(), strict=True)), strict=False))
        self.journal.say(
            "progress",
            records=records,
            records_per_s=round((records - self.said_records) / max(now - self.said_s, 0.001), 1),
            bytes=self.progress.bytes,
            watermark=None if standing.watermark is None else from_us(standing.watermark),
            lag=standing.lag,
            waiting=standing.waiting,
            open_sessions=standing.open_sessions,
            late=sums.get("late", 0),
            dead=sums.get("dead", 0),
            version=standing.version,
            committed=None if standing.committed_at is None else from_us(standing.committed_at),
        )
        self.said_s, self.said_records = now, records

    def end(self, manifest: Manifest) -> None:
        """Take note that the job has stopped as it was told to."""
        if manifest.version != self.manifest.version:
            self.committed_at, self.manifest = to_us(self.clock()), manifest
        self.ended = "stopped"
        self.write()
        self.journal.say("stop", version=manifest.version, records=self.progress.records)

    def write(self) -> None:
        """Write how the job stands to where `journeys status` reads it; a full disk is the job's to report."""
        if self.folders is None:
            return
        try:
            write_atomically(name_file(self.folders), save_standing(self.measure()))
        except OSError as problem:
            self.journal.say("monitor_failed", "warning", problem=str(problem))

    @property
    def state(self) -> str:
        """Return starting, running, stopping, stopped or failed."""
        if self.ended:
            return self.ended
        if self.stop.is_set():
            return "stopping"
        return "starting" if self.began_s is None else "running"

    def judge(self) -> Health:
        """Tell whether the dataflow makes progress."""
        silent = None if self.began_s is None else self.stopwatch() - (self.durable_s or self.began_s)
        return judge_health(self.state, silent, self.config.job.snapshot / 1e6, self.epochs > 0, self.problem)

    def measure(self) -> Standing:
        """Put together how the job stands now."""
        groups = list(self.progress.groups)
        return Standing(
            state=self.state,
            at=to_us(self.clock()),
            started_at=self.started_at,
            snapshot_s=self.config.job.snapshot / 1e6,
            problem=self.problem if self.ended == "failed" else "",
            version=self.manifest.version,
            commits=max(self.manifest.parts.values(), default=0),
            durable_at=self.durable_at,
            committed_at=self.committed_at,
            commit_s=self.progress.commit_s,
            longest_stall_s=self.progress.longest_stall_s,
            open_sessions=sum(group.open_sessions for group in groups),
            waiting=sum(group.waiting for group in groups),
            partitions=tuple(self._measure_partition(name) for name in self.partitions),
        )

    def _measure_partition(self, name: str) -> PartitionStanding:
        gauge = self.progress.of(name)
        reached = gauge.reached
        return PartitionStanding(
            source=gauge.source or next((source for source, known in self.ledger.rows if known == name), name),
            partition=name,
            records=gauge.records,
            bytes=gauge.bytes,
            watermark=None if reached is None else reached - self.config.sessions.allowed_lateness,
            idle=gauge.idle,
            lag=gauge.lag,
        )
