"""Who may send to the collector: keys, and pages of which sites, over real HTTP."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from config import SourceRules
from errors import ConfigError
from sources.collector import make_collector
from sources.inbox import Inbox
from tests.sources.http_support import NOON, Server, listening

OPEN = SourceRules("web", "collector", listen="127.0.0.1:0")
CALL = {"messageId": "m", "userId": "u", "event": "view", "timestamp": "2026-01-05T12:00:00Z"}
SHOP = "https://shop.example"


def rules(**other: Any) -> SourceRules:
    return SourceRules("web", "collector", listen="127.0.0.1:0", **other)


def basic(key: str) -> str:
    return "Basic " + base64.b64encode(f"{key}:".encode()).decode()


KEYED = {"keys": ("right", "ünd")}


@pytest.mark.parametrize(
    ("path", "headers", "extra", "status"),
    [
        ("/v1/track", {}, {}, 401),
        ("/v1/track", {"Authorization": basic("right")}, {}, 200),
        ("/v1/track", {"Authorization": basic("ünd")}, {}, 200),
        ("/v1/track", {"Authorization": basic("wrong")}, {}, 401),
        ("/v1/track", {"Authorization": "Basic %%%"}, {}, 401),
        ("/v1/track", {"Authorization": "Basic /w=="}, {}, 401),
        ("/v1/track", {"Authorization": "Bearer right"}, {}, 200),
        ("/v1/track", {"Authorization": "Bearer righ"}, {}, 401),
        ("/v1/track", {"Authorization": "Bearer "}, {"writeKey": "right"}, 401),
        ("/v1/track?writeKey=right", {}, {}, 200),
        ("/v1/track?writeKey=right2", {}, {"writeKey": "right"}, 401),
        ("/v1/track", {}, {"writeKey": "right"}, 200),
        ("/v1/track", {}, {"writeKey": "wrong"}, 401),
        ("/v1/track", {}, {"writeKey": ["right"]}, 401),
        ("/v1/track", {}, {"writeKey": ""}, 401),
    ],
)
def test_key_is_asked_for(
    tmp_path: Path, path: str, headers: dict[str, str], extra: dict[str, Any], status: int
) -> None:
    with listening(tmp_path, make_collector, rules(**KEYED)) as server:
        answer = server.ask("POST", path, json.dumps({**CALL, **extra}).encode(), headers)
        assert answer.status == status
        assert len(server.records) == (status == 200)
        assert b"right" not in b"".join(record.line for record in server.records)
        assert server.ask("GET", "/health").status == 200


def test_key_of_a_batch_stands_beside_its_calls(tmp_path: Path) -> None:
    with listening(tmp_path, make_collector, rules(**KEYED)) as server:
        assert server.post("/v1/b", {"batch": [CALL], "writeKey": "right"}).status == 200
        assert server.post("/v1/b", {"batch": [{**CALL, "writeKey": "right"}]}).status == 401


def test_collector_for_strangers_needs_a_key(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "[::]", "192.0.2.1", "collect.example"):
        with pytest.raises(ConfigError, match=r"has no keys\n.*keys = "):
            make_collector(SourceRules("w", "collector", listen=f"{host}:80"), Inbox(tmp_path, 1), lambda: NOON)
    for host in ("127.0.0.1", "127.9.9.9", "[::1]", "localhost"):
        make_collector(SourceRules("w", "collector", listen=f"{host}:80"), Inbox(tmp_path, 1), lambda: NOON)
    with pytest.raises(ConfigError, match="one is empty"):
        make_collector(rules(keys=("a", "")), Inbox(tmp_path, 1), lambda: NOON)
    with pytest.raises(ConfigError, match=r"not HOST:PORT\n.*127.0.0.1:8080"):
        make_collector(SourceRules("w", "collector", listen="8080"), Inbox(tmp_path, 1), lambda: NOON)


def ask_first(server: Server, origin: str, headers: str = "authorization,content-type") -> Any:
    return server.ask(
        "OPTIONS",
        "/v1/t",
        headers={
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": headers,
        },
    )


def test_pages_of_the_origins_may_call_and_no_others(tmp_path: Path) -> None:
    with listening(tmp_path, make_collector, rules(origins=(SHOP,), **KEYED)) as server:
        answer = ask_first(server, SHOP)
        assert answer.status == 200
        assert answer.headers["access-control-allow-origin"] == SHOP
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert answer.headers["access-control-allow-headers"] == "authorization,content-type"
        assert "Origin" in answer.headers["vary"]
        answer = ask_first(server, "https://evil.example")
        assert answer.status == 400
        assert "access-control-allow-origin" not in answer.headers
        for key, status in (("right", 200), ("wrong", 401)):
            answer = server.post("/v1/t", {**CALL, "writeKey": key}, Origin=SHOP, Content_Type="text/plain")
            assert (answer.status, answer.headers["access-control-allow-origin"]) == (status, SHOP)
        answer = server.post("/v1/t", {**CALL, "writeKey": "right"}, Origin="https://evil.example")
        assert answer.status == 403
        assert len(server.records) == 1


def test_any_origin_comes_without_credentials(tmp_path: Path) -> None:
    with listening(tmp_path, make_collector, rules(origins=("*",))) as server:
        for answer in (ask_first(server, SHOP), server.post("/v1/t", CALL, Origin=SHOP)):
            assert answer.status == 200
            assert answer.headers["access-control-allow-origin"] == "*"
            assert "access-control-allow-credentials" not in answer.headers


def test_without_origins_no_page_is_told_that_it_may(tmp_path: Path) -> None:
    with listening(tmp_path, make_collector, OPEN) as server:
        assert ask_first(server, SHOP).status == 405
        assert "access-control-allow-origin" not in server.post("/v1/t", CALL, Origin=SHOP).headers
