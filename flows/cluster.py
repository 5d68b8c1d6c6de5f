"""A replay in several processes: the first one starts the others, watches them, and none outlives it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from clock import read_stopwatch
from errors import JourneyError
from sources.files import Progress

GRACE_S = 20.0
LOOK_EVERY_S = 0.2
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
    report: dict[str, int]
    error: str = ""


class Cluster:
    """The further processes of a replay; use as a context, and pass `start` and `stop` to the replay."""

    def __init__(self, inner: Path, processes: int, arguments: Sequence[str]) -> None:
        self.stop = StopFile(inner / "stop")
        self.addresses = tuple(find_addresses(processes))
        self.arguments = list(arguments)
        self.members: list[Member] = []
        self.failure = ""
        self.stack = ExitStack()
        self.ended = threading.Event()

    def start(self) -> None:
        """Start the members; called when the first process has prepared the warehouse."""
        self.stop.path.unlink(missing_ok=True)
        for number in range(1, len(self.addresses)):
            hidden = ["--process", str(number), "--addresses", ",".join(self.addresses)]
            command = [sys.executable, "-c", LAUNCH, *self.arguments, *hidden]
            # A session of its own: the terminal's Ctrl-C comes here alone, and the stop file passes it on.
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
            member = Member(number, process, {})
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
            failed = next((member for member in self.members if member.process.poll() not in (None, 0)), None)
            if failed is not None:
                self.failure = describe_failure(failed)
                self.stop.set()
                # Bytewax may wait for the dead process for good; everything durable is on disk.
                if not self.ended.wait(GRACE_S):
                    self._kill()
                    sys.stderr.write(f"error: {self.failure}\n  → {REMEDY}\n")
                    sys.stderr.flush()
                    os._exit(1)
                return

    def _kill(self) -> None:
        for member in self.members:
            if member.process.poll() is None:
                member.process.kill()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, kind: object, problem: BaseException | None, trace: object) -> None:
        until = read_stopwatch() + (GRACE_S if problem is None else 2.0)
        while read_stopwatch() < until and any(member.process.poll() is None for member in self.members):
            self.ended.wait(LOOK_EVERY_S)
        self.ended.set()
        hung = [member for member in self.members if member.process.poll() is None]
        self._kill()
        for member in self.members:
            member.process.wait()
        self.stop.path.unlink(missing_ok=True)
        failed = [member for member in self.members if member.process.returncode != 0 and member not in hung]
        if not self.failure and failed:
            self.failure = describe_failure(failed[0])
        if not self.failure and hung and problem is None:
            self.failure = f"process {hung[0].number} of the replay did not end"
        if self.failure:
            raise JourneyError(self.failure, remedy=REMEDY) from problem


def find_addresses(count: int) -> list[str]:
    """Find free ports of the loopback interface, one a process."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]


def describe_failure(member: Member) -> str:
    """Say how a process ended, in its own words if it said any."""
    code = member.process.returncode
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return f"process {member.number} of the replay {how}" + (f": {member.error}" if member.error else "")


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
