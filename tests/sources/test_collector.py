"""The collector over real HTTP: paths, limits, retries, other people's libraries, and what lies in the inbox afterwards."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from segment.analytics.client import Client

from config import SourceRules
from flows.metrics import count_answers
from sources.collector import BATCH_PATHS, make_collector
from sources.http_calls import Refused, unpack
from tests.sources.http_support import NOON, listening, wait_until

OPEN = SourceRules("web", "collector", listen="127.0.0.1:0")
CALL = {"messageId": "m", "userId": "u", "event": "view", "timestamp": "2026-01-05T12:00:00Z"}
SHOP = "https://shop.example"


def rules(**other: Any) -> SourceRules:
    return SourceRules("web", "collector", listen="127.0.0.1:0", **other)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (f"/v1/{name}", kind)
        for kind in ("track", "page", "screen", "identify", "alias", "group")
        for name in (kind, kind[0])
    ],
)
def test_each_path_makes_a_record_of_its_type(tmp_path: Path, path: str, kind: str) -> None:
    with listening(tmp_path, make_collector, OPEN, lambda: NOON) as server:
        answer = server.post(path, CALL)
        assert (answer.status, answer.json) == (200, {"success": True})
        assert server.lines == [{**CALL, "type": kind, "receivedAt": "2026-01-05T12:00:00.000000Z"}]


@pytest.mark.parametrize("path", BATCH_PATHS)
def test_batch_makes_a_record_of_each_call_and_of_what_is_none(tmp_path: Path, path: str) -> None:
    with listening(tmp_path, make_collector, OPEN) as server:
        assert server.post(path, {"batch": [CALL, None, 7, {**CALL, "messageId": "n"}]}).status == 200
        assert [line["messageId"] if isinstance(line, dict) else line for line in server.lines] == ["m", None, 7, "n"]


def test_beacon_of_plain_text_and_packed_body_are_read(tmp_path: Path) -> None:
    with listening(tmp_path, make_collector, OPEN) as server:
        body = json.dumps(CALL).encode()
        assert server.post("/v1/t", b"\xef\xbb\xbf" + body, Content_Type="text/plain;charset=UTF-8").status == 200
        packed = gzip.compress(json.dumps({"batch": [CALL] * 2_000}).encode())
        assert server.post("/v1/batch", packed, Content_Encoding="gzip").status == 200
        assert (
            server.post("/v1/t", gzip.compress(body[:9]) + gzip.compress(body[9:]), Content_Encoding="gzip").status
            == 200
        )
        assert len(server.lines) == 2_002


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "reason"),
    [
        ("/v1/track", b"", {}, 400, "JSON"),
        ("/v1/track", b"{", {}, 400, "JSON"),
        ("/v1/track", b"[]", {}, 400, "not an object"),
        ("/v1/track", b"\xff", {}, 400, "utf-8"),
        ("/v1/track", b"{} {}", {}, 400, "more than one"),
        ("/v1/track", b'{"a":' * 60_000, {}, 400, "nested"),
        ("/v1/batch", b"{}", {}, 400, "array"),
        ("/v1/batch", {"batch": [1] * 2_501}, {}, 400, "2,501 calls"),
        ("/v1/track", b"{}", {"Content-Encoding": "gzip"}, 400, "not gzip"),
        ("/v1/track", gzip.compress(b"{}", mtime=0)[:-1], {"Content-Encoding": "gzip"}, 400, "too early"),
        ("/v1/track", b"{}", {"Content-Encoding": "br"}, 415, "gzip or none"),
        ("/v1/track", b" " * (1 << 20) + b"{}", {}, 413, "1,048,576"),
        ("/v1/track", gzip.compress(bytes(1 << 24), mtime=0), {"Content-Encoding": "gzip"}, 413, "unpacked"),
        ("/v1/nothing", b"{}", {}, 404, "Not Found"),
        ("/v1/track/", b"{}", {}, 404, "Not Found"),
    ],
)
def test_what_is_refused_is_told_why_and_leaves_nothing(
    tmp_path: Path, path: str, body: object, headers: dict[str, str], status: int, reason: str
) -> None:
    with listening(tmp_path, make_collector, OPEN) as server:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = server.ask("POST", path, data, headers)
        assert answer.status == status
        assert answer.json["success"] is False
        assert reason in answer.json["message"]
        assert server.records == []
        assert server.receiver.answers[status] == 1
        assert server.post("/v1/track", CALL).status == 200


def test_body_without_a_length_is_bounded_too(tmp_path: Path) -> None:
    with (
        listening(tmp_path, make_collector, rules(max_body=1 << 10)) as server,
        socket.create_connection(("127.0.0.1", server.port), 10) as client,
    ):
        client.sendall(b"POST /v1/t HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.sendall(b"400\r\n" + b" " * 1024 + b"\r\n" + b"2\r\n{}\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 413")


def test_bomb_is_never_unpacked_beyond_the_limit() -> None:
    bomb = gzip.compress(bytes(64 << 20), 1)
    for limit in (1 << 10, 1 << 20, (64 << 20) - 1):
        with pytest.raises(Refused, match="unpacked"):
            unpack(bomb, limit)
    assert len(unpack(bomb, 64 << 20)) == 64 << 20


def test_full_inbox_tells_when_to_come_again(tmp_path: Path) -> None:
    with listening(tmp_path, make_collector, OPEN, limit=100) as server:
        assert server.post("/v1/t", CALL).status == 200
        answer = server.post("/v1/t", CALL)
        assert (answer.status, answer.headers["retry-after"], answer.headers["x-ratelimit-reset"]) == (429, "5", "5")
        server.inbox.note_consumed(1)
        assert server.post("/v1/t", CALL).status == 200
        assert len(server.records) == 2


def test_calls_of_many_at_once_are_each_there_once_and_share_writes(tmp_path: Path) -> None:
    with listening(tmp_path, make_collector, OPEN) as server, ThreadPoolExecutor(16) as pool:
        answers = pool.map(lambda n: server.post("/v1/track", {**CALL, "messageId": f"m{n}"}).status, range(400))
        assert set(answers) == {200}
        assert sorted(line["messageId"] for line in server.lines) == sorted(f"m{n}" for n in range(400))
        assert server.receiver.answers == {200: 400}


def test_retry_of_a_call_whose_clock_is_off_is_one_record(tmp_path: Path) -> None:
    with listening(tmp_path, make_collector, OPEN) as server:
        for second in range(3):
            assert server.post("/v1/track", {**CALL, "sentAt": f"2026-01-05T12:00:0{second}Z"}).status == 200
        assert len(server.records) == 1
        server.post("/v1/track", b"{")
        counted = {
            (one.name, *one.labels.values()): one.value for m in count_answers([server.receiver]) for one in m.samples
        }
        assert counted == {
            ("journeys_http_answers_total", "web", "200"): 3,
            ("journeys_http_answers_total", "web", "400"): 1,
            ("journeys_http_repeated_total", "web"): 2,
        }


def test_slow_clients_hold_up_nobody_and_one_that_hangs_up_leaves_nothing(tmp_path: Path) -> None:
    with listening(tmp_path, make_collector, OPEN) as server, ExitStack() as stack:
        starts = [b"", b"POST /v1/t HT", b"POST /v1/t HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n\r\n{"]
        for number in range(60):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 10))
            client.sendall(starts[number % 3])
        assert server.post("/v1/t", CALL).status == 200
        stack.close()
        wait_until(lambda: server.receiver.answers[499] == 20)
        assert len(server.records) == 1


def test_stopping_answers_who_waits_and_nobody_afterwards(tmp_path: Path) -> None:
    acknowledged: list[str] = []

    def send(port: int, number: int) -> None:
        gone = suppress(OSError, http.client.HTTPException)
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection, gone:
            for count in range(100_000):
                name = f"{number}-{count}"
                connection.request("POST", "/v1/track", json.dumps({**CALL, "messageId": name}))
                if b"true" in connection.getresponse().read():
                    acknowledged.append(name)

    with ThreadPoolExecutor(4) as pool:
        with listening(tmp_path, make_collector, OPEN) as server:
            for number in range(4):
                pool.submit(send, server.port, number)
            wait_until(lambda: len(acknowledged) > 100)
            began = time.monotonic()
        assert time.monotonic() - began < 5
    assert {line["messageId"] for line in server.lines} >= set(acknowledged)
    with pytest.raises(OSError, match="refused"):
        server.post("/v1/t", CALL)


@pytest.mark.parametrize("packed", [False, True])
def test_segments_own_library_can_send_here(tmp_path: Path, packed: bool) -> None:
    failures: list[object] = []
    with listening(tmp_path, make_collector, rules(keys=("right",))) as server:
        client = Client("right", host=server.receiver.url, gzip=packed, on_error=lambda *told: failures.append(told))
        client.identify("u", {"plan": "free"})
        client.page("u", "Shop", "Home", {"path": "/"})
        client.group("u", "g")
        client.alias("a", "u")
        client.screen("u", "Main")
        for number in range(150):
            client.track("u", "view", {"price": number / 3}, message_id=f"m{number}")
        client.shutdown()
        assert failures == []
        lines = server.lines
        assert [line["type"] for line in lines[:5]] == ["identify", "page", "group", "alias", "screen"]
        assert [line["messageId"] for line in lines[5:]] == [f"m{number}" for number in range(150)]
        assert [line["properties"]["price"] for line in lines[5:]] == [number / 3 for number in range(150)]
        assert all("sentAt" in line and line["context"]["library"]["name"] == "analytics-python" for line in lines)
        wrong = Client("wrong", host=server.receiver.url, on_error=lambda *told: failures.append(told), max_retries=0)
        wrong.track("u", "view")
        wrong.shutdown()
        assert "wrong" in str(failures)


PATHS = [
    "/",
    "/v1/track",
    "/v1/batch",
    "/v1/b",
    "/health",
    "/v1/track?writeKey=right",
    "/%00",
    "/v1/%ff",
    "/beacon/v1/batch",
]
NAMES = ["Authorization", "Content-Encoding", "Content-Type", "Origin", "Access-Control-Request-Method", "X-Any"]
TEXTS = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=30)
HEADERS = st.dictionaries(
    st.sampled_from(NAMES), TEXTS | st.sampled_from(["gzip", "Basic cmlnaHQ6", "Bearer right", SHOP, "POST", "Basic ="])
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
MEMBERS = st.sampled_from(
    ["batch", "context", "messageId", "timestamp", "sentAt", "writeKey", "type", "userId"]
) | st.text(max_size=4)
JSONS = st.recursive(
    SCALARS, lambda one: st.lists(one, max_size=4) | st.dictionaries(MEMBERS, one, max_size=4), max_leaves=10
)
BODIES = (
    st.binary(max_size=200)
    | JSONS.map(lambda value: json.dumps(value).encode())
    | JSONS.map(lambda value: gzip.compress(json.dumps({"batch": [value], "writeKey": "right"}).encode()))
)


def test_no_request_is_an_error_of_the_server_and_each_is_counted(tmp_path: Path) -> None:
    asked = Counter[int]()
    with listening(tmp_path, make_collector, rules(keys=("right",), origins=(SHOP,))) as server:

        @given(
            st.sampled_from(["GET", "POST", "POST", "POST", "PUT", "HEAD", "OPTIONS"]),
            st.sampled_from(PATHS),
            HEADERS,
            BODIES,
        )
        @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
        def ask(method: str, path: str, headers: dict[str, str], body: bytes) -> None:
            before = len(server.records)
            answer = server.ask(method, path, body, {name: value.strip() for name, value in headers.items()})
            asked[answer.status] += 1
            assert answer.status < 500
            if answer.status != 200 or method != "POST":
                assert len(server.records) == before

        ask()
        assert server.receiver.answers == asked
        for record in server.records:
            assert b"\n" not in record.line
            json.loads(record.line)
