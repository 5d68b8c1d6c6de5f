"""A server as a process of its own that can be stopped, killed and started again on the same folder and ports."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING
from uuid import uuid4

if TYPE_CHECKING:
    from typing_extensions import Self

HOST = "127.0.0.1"
PATIENCE_S = 120.0
# Below the range that the system gives to outgoing connections, so that nobody takes a port while its server is down.
PORTS = range(20_000, 32_000)


class BrokerError(RuntimeError):
    """A server did not start or did not answer; tells the end of its log."""


def choose_ports(*wanted: int) -> list[int]:
    """Choose as many ports that are free now: each the wanted one if it is, else (or for 0) any."""
    with ExitStack() as held:
        return [_hold_port(held, [port] if port else []) for port in wanted]


def _hold_port(held: ExitStack, preferred: list[int]) -> int:
    for port in [*preferred, *random.sample(PORTS, 200)]:
        listener = held.enter_context(socket.socket())
        # As servers do; without it a port that one of them has just left would pass as taken.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            listener.bind((HOST, port))
            listener.listen()
            return port
    raise BrokerError(f"no free port on {HOST}")


def make_name(kind: str) -> str:
    """Return a name that nobody else uses."""
    return f"{kind}-{uuid4().hex[:12]}"


class Server:
    """A server in a folder that it keeps; subclasses say what is run and how to tell that it is ready."""

    name = "server"

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder.resolve()
        self.log = self.folder / f"{self.name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @classmethod
    def find_missing(cls) -> str:
        """Say what this machine lacks to run the server; empty if nothing."""
        raise NotImplementedError

    def _prepare(self) -> tuple[list[str], dict[str, str]]:
        """Write the configuration; return the command and what to add to its environment."""
        raise NotImplementedError

    def _answers(self) -> bool:
        """Tell whether the server does its work, by asking it."""
        raise NotImplementedError

    @property
    def pid(self) -> int:
        """The id of the process, which leads a process group of its own."""
        if self._process is None:
            raise BrokerError(f"{self.name} is not running")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Tell whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the server and return when it answers; nothing to do if it runs."""
        if self.is_running:
            return
        self._end_group()
        command, environment = self._prepare()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.folder,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._guard = _guard_group(self._process.pid)
        try:
            self._wait_until(self._answers, "does not answer")
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End the server in its own orderly way; nothing to do if it does not run."""
        if self._process is not None and self.is_running:
            self._process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(PATIENCE_S)
        self._end_group()

    def kill(self) -> None:
        """End the server at once, with no chance to write anything."""
        self._end_group()

    def restart(self) -> None:
        """Stop and start, on the same folder and ports."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _end_group(self) -> None:
        guard, self._guard = self._guard, None
        if guard is not None and guard.stdin is not None:
            guard.kill()
            guard.wait()
            guard.stdin.close()
        process, self._process = self._process, None
        if process is not None:
            # Helpers of the server may outlive it in its group.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _wait_until(self, holds: Callable[[], bool], trouble: str) -> None:
        until = time.monotonic() + PATIENCE_S
        while not holds():
            if not self.is_running:
                raise BrokerError(f"{self.name} ended while it started\n{self.read_log()}")
            if time.monotonic() > until:
                raise BrokerError(f"{self.name} {trouble} after {PATIENCE_S:.0f} s\n{self.read_log()}")
            time.sleep(0.05)

    def read_log(self, lines: int = 30) -> str:
        """Return the end of the log."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


def can_connect(port: int) -> bool:
    """Tell whether somebody listens at a port of this machine."""
    with suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False


def _guard_group(group: int) -> subprocess.Popen[bytes]:
    """Start a process that kills a group as soon as this one is gone, however it goes."""
    # Its input ends when the only holder of the other end does, even by SIGKILL.
    script = 'read -r _; kill -s KILL -- "-$0"'
    shell = shutil.which("sh") or "/bin/sh"
    return subprocess.Popen([shell, "-c", script, str(group)], stdin=subprocess.PIPE, start_new_session=True)
