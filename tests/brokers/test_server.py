"""Servers as processes: ports, failed starts, what a missing one does to a test, and nothing that outlives the tests."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.brokers.fixtures import require
from tests.brokers.server import HOST, BrokerError, Server, can_connect, choose_ports

ROOT = Path(__file__).resolve().parents[2]
LISTEN = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(600)"
# Starts a listener as a server of its own and waits, to be killed together with its chance to clean up.
OWNER = """
import sys, time
from pathlib import Path
from tests.brokers.test_server import Listener
server = Listener(Path(sys.argv[1]))
server.start()
print(server.pid, flush=True)
time.sleep(600)
"""
PATIENCE_S = 30


class Listener(Server):
    """A process that only listens."""

    name = "listener"
    code = LISTEN

    def __init__(self, folder: Path, port: int = 0) -> None:
        super().__init__(folder)
        (self.port,) = choose_ports(port)

    @classmethod
    def find_missing(cls) -> str:
        return ""

    def _prepare(self) -> tuple[list[str], dict[str, str]]:
        return [sys.executable, "-c", self.code, str(self.port)], {}

    def _answers(self) -> bool:
        return can_connect(self.port)


class Missing(Listener):
    """A server that this machine lacks."""

    @classmethod
    def find_missing(cls) -> str:
        return "it is not here"


class Broken(Listener):
    """A process that says something and ends."""

    code = "raise SystemExit('no such setting')"


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that ended but was not waited for does not."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_server_comes_back_on_its_port_after_a_stop_and_after_a_kill(tmp_path: Path) -> None:
    with Listener(tmp_path) as server:
        port, first = server.port, server.pid
        server.start()
        assert server.pid == first
        server.restart()
        assert server.pid != first
        server.kill()
        assert not server.is_running
        assert not can_connect(port)
        server.start()
        assert can_connect(port)
    assert not can_connect(port)


def test_a_server_that_ends_at_once_is_an_error_with_its_words(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match=r"(?s)ended while it started.*no such setting"):
        Broken(tmp_path).start()


def test_a_wanted_port_is_taken_only_if_it_is_free() -> None:
    (free,) = choose_ports(0)
    assert choose_ports(free) == [free]
    with socket.create_server((HOST, free)):
        taken = choose_ports(free, 0, 0)
    assert free not in taken
    assert len(set(taken)) == 3


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_a_server_ends_when_the_process_that_started_it_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        server = int(owner.stdout.readline())
        assert is_alive(server)
        owner.send_signal(signal.SIGKILL)
    until = time.monotonic() + PATIENCE_S
    while is_alive(server) and time.monotonic() < until:
        time.sleep(0.02)
    assert not is_alive(server)


@pytest.mark.parametrize(("ci", "raised"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_a_missing_broker_fails_in_ci_and_else_skips(
    ci: str, raised: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "CI", ci)
    with pytest.raises(raised, match="it is not here; `make brokers` brings it"):
        require(Missing)
    require(Listener)
