"""The HTTP server beside the dataflow: where it listens, how it ends, and what it says when it can't begin."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import signal
import socket
import threading
import time
import urllib.error
import urllib.request

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from config import join_address, split_address
from errors import ConfigError
from serving import HttpServer, bind

NEVER_S = 60


def make_app(entered: threading.Event | None = None) -> Starlette:
    async def greet(_: Request) -> PlainTextResponse:
        return PlainTextResponse("hello")

    async def hang(_: Request) -> PlainTextResponse:
        if entered is not None:
            entered.set()
        await asyncio.sleep(NEVER_S)
        return PlainTextResponse("too late")

    async def fail(_: Request) -> PlainTextResponse:
        raise RuntimeError("broken on purpose")

    return Starlette(routes=[Route("/", greet), Route("/hang", hang), Route("/fail", fail)])


def fetch(url: str) -> str:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(url, timeout=10) as answer:
        return str(answer.read().decode())


def test_port_0_is_a_free_port_and_two_servers_stand_beside_each_other() -> None:
    with HttpServer(make_app(), "127.0.0.1", 0) as one, HttpServer(make_app(), "127.0.0.1", 0) as other:
        assert one.port != other.port
        assert [fetch(server.url) for server in (one, other)] == ["hello", "hello"]


def test_stopped_server_lets_go_of_its_port_and_a_new_one_can_take_it() -> None:
    with HttpServer(make_app(), "localhost", 0) as first:
        assert fetch(first.url) == "hello"
    assert not first.thread.is_alive()
    first.stop()  # once more does nothing
    with HttpServer(make_app(), "127.0.0.1", first.port) as second:
        assert fetch(second.url) == "hello"


def test_request_that_hangs_and_client_that_stays_do_not_keep_it_from_stopping() -> None:
    entered = threading.Event()
    server = HttpServer(make_app(entered), "127.0.0.1", 0)

    def ask() -> None:
        with contextlib.suppress(OSError):
            fetch(f"{server.url}/hang")

    with socket.create_connection(("127.0.0.1", server.port)) as silent:
        hanging = threading.Thread(target=ask)
        hanging.start()
        assert entered.wait(10)
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < NEVER_S / 6
        silent.settimeout(10)
        assert silent.recv(1) == b""
    hanging.join(10)
    assert not server.thread.is_alive()
    assert not hanging.is_alive()


def test_signals_stay_the_programs_own_and_the_server_writes_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with HttpServer(make_app(), "127.0.0.1", 0) as server:
        fetch(server.url)
        assert {number: signal.getsignal(number) for number in before} == before
    assert capfd.readouterr() == ("", "")


def test_failing_request_is_answered_and_leaves_the_server_standing() -> None:
    with HttpServer(make_app(), "127.0.0.1", 0) as server:
        with pytest.raises(urllib.error.HTTPError, match="500"):
            fetch(f"{server.url}/fail")
        assert fetch(server.url) == "hello"


SLOW = [
    b"",
    b"GET / HTT",
    b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: ",
    b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nX-Next: ",
]


@pytest.mark.parametrize("start", SLOW)
def test_request_that_comes_byte_by_byte_is_hung_up_on(start: bytes) -> None:
    with (
        HttpServer(make_app(), "127.0.0.1", 0, patience=1.5) as server,
        socket.create_connection(("127.0.0.1", server.port), 10) as client,
    ):
        began = time.monotonic()
        client.sendall(start)
        with pytest.raises(OSError, match=r"reset|Broken|aborted"):
            for _ in range(100):
                time.sleep(0.1)
                client.sendall(b"a")
        assert 1 < time.monotonic() - began < 8


def test_patience_is_for_each_request_and_not_for_a_connection() -> None:
    with (
        HttpServer(make_app(), "127.0.0.1", 0, patience=1.0) as server,
        contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)) as client,
    ):
        for _ in range(6):
            client.request("GET", "/")
            assert client.getresponse().read() == b"hello"
            time.sleep(0.4)


def test_connections_are_bounded_and_those_that_stand_go_on() -> None:
    with HttpServer(make_app(), "127.0.0.1", 0, most=20) as server, contextlib.ExitStack() as stack:
        client = stack.enter_context(
            contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=10))
        )
        client.request("GET", "/")
        assert client.getresponse().read() == b"hello"
        for _ in range(19):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 10))
        with socket.create_connection(("127.0.0.1", server.port), 10) as one_more:
            assert one_more.recv(1) == b""
        client.request("GET", "/")
        assert client.getresponse().read() == b"hello"


def test_taken_port_and_foreign_or_unknown_host_are_errors_with_a_remedy() -> None:
    with HttpServer(make_app(), "127.0.0.1", 0) as server, pytest.raises(ConfigError, match=r"in use.*\n.*free port"):
        HttpServer(make_app(), "127.0.0.1", server.port)
    for host in ("192.0.2.1", "no-such-host.invalid"):
        with pytest.raises(ConfigError, match=rf"{host}:0: can't be listened on .*\n.*an address of this machine"):
            bind(host, 0)


@pytest.mark.parametrize("text", ["127.0.0.1:9600", "localhost:0", "[::1]:80", "0.0.0.0:65535"])
def test_address_is_split_and_joined(text: str) -> None:
    host, port = split_address(text)
    assert join_address(host, port) == text


@pytest.mark.parametrize("text", ["", "9600", ":9600", "localhost", "::1:80", "a:b", "a:70000", "http://a:1", "a b:1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        split_address(text)
