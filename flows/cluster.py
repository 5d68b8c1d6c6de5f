"""A replay in several processes: the first one starts the others, watches them, and none outlives it."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from clock import read_stopwatch
from errors import JourneyError, WarehouseLockedError
from flows.crossing import send_frames_as_ipc
from sources.pacing import Progress

GRACE_S = 5.0
LOOK_EVERY_S = 0.2
LOCK = "members.lock"
REMEDY = "what was committed stays; run the same command again, it goes on from there"
# Not `-m flows`: that would put the user's folder first on the path, and a config.py there would be imported.
LAUNCH = "import sys; sys.path[:] = [p for p in sys.path if p]; from flows.cli import main; main()"


class StopFile(threading.Event):
    """An event that every process of a cluster sees, because setting it makes a file.

    A member must not take the others' early end for the end of the input: the file is there before any lane ends.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def is_set(self) -> bool:
        return super().is_set() or self.path.exists()

    def set(self) -> None:
        self.path.touch()
        super().set()


@dataclass
class Member:
    """A further process, and what it last said about itself."""

    number: int
    process: subprocess.Popen[bytes]
    log: Path
    report: dict[str, int] = field(default_factory=dict)
    error: str = ""
    ended_by_us: bool = False

    @property
    def has_failed(self) -> bool:
        return self.process.poll() not in (None, 0) and not self.ended_by_us

    @property
    def has_begun_it(self) -> bool:
        """Tell whether it failed by itself, and not because another process was gone."""
        return self.has_failed and (bool(self.error) or self.process.returncode < 0)

    def describe(self) -> str:
        """Say how it ended, in its own words if it said any."""
        code = self.process.returncode
        if self.error:
            return f"process {self.number} of the replay: {self.error}"
        if code < 0:
            return f"process {self.number} of the replay was killed by signal {-code}"
        return f"process {self.number} of the replay ended with exit code {code}, see {self.log}"


class Cluster:
    """The further processes of a replay; use as a context, and pass `start` and `stop` to the replay."""

    def __init__(self, inner: Path, processes: int, arguments: Sequence[str]) -> None:
        self.inner = inner
        self.stop = StopFile(inner / "stop")
        self.addresses = tuple(find_addresses(processes))
        self.arguments = list(arguments)
        self.members: list[Member] = []
        self.failure = ""
        self.ended = threading.Event()
        self.lock = -1

    def start(self) -> None:
        """Start the members; called when the first process has prepared the warehouse."""
        send_frames_as_ipc()
        self.stop.path.unlink(missing_ok=True)
        # Inherited by all members, so the kernel holds it until the last one is gone.
        self.lock = os.open(self.inner / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        for number in range(1, len(self.addresses)):
            hidden = ["--process", str(number), "--addresses", ",".join(self.addresses)]
            command = [sys.executable, "-c", LAUNCH, "replay", *hidden, *self.arguments]
            log = self.inner / f"process-{number}.log"
            with open(log, "wb") as words:
                # A session of its own: the terminal's Ctrl-C comes here alone, and the stop file passes it on.
                process = subprocess.Popen(  # noqa: S603 - this command again
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=words,
                    start_new_session=True,
                    pass_fds=(self.lock,),
                )
            member = Member(number, process, log)
            self.members.append(member)
            threading.Thread(target=_listen, args=(member,), name=f"listen-{number}", daemon=True).start()
        threading.Thread(target=self._supervise, name="supervise", daemon=True).start()

    def add_up(self, own: Progress) -> Progress:
        """Add what the members have read to the first process's own progress."""
        reports = [member.report for member in self.members]
        return Progress(
            bytes=own.bytes + sum(report.get("bytes", 0) for report in reports),
            records=own.records + sum(report.get("records", 0) for report in reports),
            dead=own.dead + sum(report.get("dead", 0) for report in reports),
            latest=max(own.latest, *(report.get("latest", 0) for report in reports), 0),
        )

    def _supervise(self) -> None:
        while not self.ended.wait(LOOK_EVERY_S):
            if any(member.has_failed for member in self.members):
                self._note_failure()
                self.stop.set()
                # Bytewax may wait for the dead process for good; everything durable is on disk.
                if not self.ended.wait(GRACE_S):
                    self._note_failure()
                    self._kill()
                    sys.stderr.write(f"error: {self.failure or 'a process of the replay is gone'}\n  → {REMEDY}\n")
                    sys.stderr.flush()
                    os._exit(1)
                return

    def _note_failure(self) -> None:
        failed = [member for member in self.members if member.has_failed]
        begun = [member for member in failed if member.has_begun_it]
        # After a stop that was asked for, a process may find the others gone: that is no failure.
        if begun or (failed and not self.failure and not self.stop.is_set()):
            self.failure = (begun or failed)[0].describe()

    def _kill(self) -> None:
        for member in self.members:
            if member.process.poll() is None:
                member.ended_by_us = True
                member.process.kill()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, kind: object, problem: BaseException | None, trace: object) -> None:
        until = read_stopwatch() + GRACE_S
        while read_stopwatch() < until and any(member.process.poll() is None for member in self.members):
            self.ended.wait(LOOK_EVERY_S)
        self.ended.set()
        self._kill()
        for member in self.members:
            member.process.wait()
        self._note_failure()
        if self.lock >= 0:
            os.close(self.lock)
        self.stop.path.unlink(missing_ok=True)
        if not self.failure and problem is None:
            for member in self.members:
                member.log.unlink(missing_ok=True)
        if self.failure and not isinstance(problem, JourneyError):
            raise JourneyError(self.failure, remedy=REMEDY) from problem


def wait_for_members(inner: Path) -> None:
    """Wait until no process of an earlier, killed replay is left; raises WarehouseLockedError after a while."""
    if not (inner / LOCK).exists():
        return
    handle = os.open(inner / LOCK, os.O_RDWR)
    try:
        until = read_stopwatch() + GRACE_S
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as problem:
                if read_stopwatch() > until:
                    raise WarehouseLockedError(
                        f"{inner.parent}: processes of another replay are still at work",
                        remedy="wait for them, or end them, then run the same command again",
                    ) from problem
                threading.Event().wait(LOOK_EVERY_S)
            else:
                return
    finally:
        os.close(handle)


def find_addresses(count: int) -> list[str]:
    """Find free ports of the loopback interface, one a process."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]


def _listen(member: Member) -> None:
    for line in member.process.stdout or ():
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if "error" in said:
            member.error = str(said["error"])
        else:
            member.report = said


def report_to_parent() -> Callable[[Progress, object], None]:
    """Tie this process to the one that started it; returns a watcher that tells it the progress."""

    send_frames_as_ipc()

    def wait_for_end() -> None:
        # The parent holds the other end of standard input: reading ends when it is gone, however it went.
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=wait_for_end, name="parent", daemon=True).start()

    def watch(progress: Progress, manifest: object) -> None:
        del manifest
        say_to_parent(
            {"bytes": progress.bytes, "records": progress.records, "dead": progress.dead, "latest": progress.latest}
        )

    return watch


def say_to_parent(message: dict[str, object]) -> None:
    """Write one line of JSON that the first process reads."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()
