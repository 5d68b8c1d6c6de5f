"""The web hook over real HTTP, as Azure Event Grid's documentation describes its deliveries and handshakes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config import SourceRules
from errors import ConfigError
from sources.inbox import Inbox
from sources.webhook import make_webhook
from tests.sources.http_support import NOON, Answer, Server, listening

KEY = "s3cret/+"
QUERY = "/api/events?code=s3cret%2F%2B"
CLOUD = "application/cloudevents+json; charset=utf-8"
CLOUDS = "application/cloudevents-batch+json; charset=utf-8"


def rules(**other: Any) -> SourceRules:
    return SourceRules("grid", "webhook", listen="127.0.0.1:0", keys=("other", KEY), **other)


def own(name: str, **other: Any) -> dict[str, Any]:
    return {
        "id": name,
        "topic": "/subscriptions/1/topics/t",
        "subject": "cart",
        "eventType": "Bought",
        "eventTime": "2026-01-05T12:00:00.1234567Z",
        "data": {"userId": "u"},
        "dataVersion": "1",
        **other,
    }


def cloud(name: str, **other: Any) -> dict[str, Any]:
    envelope = {"specversion": "1.0", "id": name, "source": "/shop", "type": "Bought", "time": "2026-01-05T12:00:00Z"}
    return {**envelope, "data": {"userId": "u"}, **other}


def deliver(server: Server, events: object, kind: str = "Notification", content: str = "application/json") -> Answer:
    return server.post(QUERY, events, aeg_event_type=kind, Content_Type=content)


def test_delivery_in_event_grids_schema_makes_a_record_of_each_event(tmp_path: Path) -> None:
    with listening(tmp_path, make_webhook, rules()) as server:
        assert deliver(server, [own("a"), own("b"), 7]).status == 200
        assert server.lines == [own("a"), own("b"), 7]
        assert deliver(server, []).status == 200


def test_deliveries_of_cloudevents_in_each_mode_make_a_record_of_each_event(tmp_path: Path) -> None:
    with listening(tmp_path, make_webhook, rules(format="cloudevents")) as server:
        assert deliver(server, cloud("a"), content=CLOUD).status == 200
        assert deliver(server, [cloud("b"), cloud("c")], content=CLOUDS).status == 200
        headers = {f"ce-{name}": str(value) for name, value in cloud("d").items() if name != "data"}
        answer = server.ask(
            "POST", QUERY, b'{"userId": "u", "price": 1.50}', {**headers, "Content-Type": "application/json"}
        )
        assert answer.status == 200
        assert server.lines[:3] == [cloud("a"), cloud("b"), cloud("c")]
        assert server.lines[3] == cloud("d", data={"userId": "u", "price": 1.5}, datacontenttype="application/json")
        assert b'"data": {"userId": "u", "price": 1.50}' in server.records[3].line
        assert server.ask("POST", QUERY, b"\xff", {**headers, "ce-id": "e", "Content-Type": "image/png"}).status == 200
        assert server.lines[4]["data_base64"] == "/w=="


@pytest.mark.parametrize("form", ["eventgrid", "cloudevents"])
def test_what_is_delivered_again_is_not_a_second_record(tmp_path: Path, form: str) -> None:
    make = own if form == "eventgrid" else cloud
    place, when = ("topic", "eventTime") if form == "eventgrid" else ("source", "time")
    with listening(tmp_path, make_webhook, rules(format=form)) as server:
        for _ in range(2):
            assert deliver(server, [make("a"), make("b")]).status == 200
        assert deliver(server, [make("b"), make("c"), make("c")]).status == 200
        others = [make("a", **{place: "/other"}), make("a", **{when: "2026-01-06T00:00:00Z"}), make("a", subject="s")]
        assert deliver(server, others).status == 200
        nameless = {name: value for name, value in make("x").items() if name != "id"}
        assert deliver(server, [nameless, nameless]).status == 200
        assert server.lines == [make("a"), make("b"), make("c"), *others, nameless, nameless]
    with listening(tmp_path, make_webhook, rules(format=form)) as server:  # and in the next run
        assert deliver(server, [make("a")]).status == 200
        assert len(server.records) == 8


def test_event_grids_handshake_is_answered_with_its_code(tmp_path: Path) -> None:
    event = own("v", eventType="Microsoft.EventGrid.SubscriptionValidationEvent", data={"validationCode": "512d38b6"})
    with listening(tmp_path, make_webhook, rules()) as server:
        answer = deliver(server, [event], "SubscriptionValidation")
        assert (answer.status, answer.json) == (200, {"validationResponse": "512d38b6"})
        assert server.post("/", [event], aeg_event_type="SubscriptionValidation").status == 401
        for broken in ([], [{}], [own("v")], [own("v", data={"validationCode": True})], 7, {"data": 1}):
            assert deliver(server, broken, "SubscriptionValidation").status == 400
        assert deliver(server, [event], "SubscriptionDeletion").status == 200
        assert server.records == []


def ask_first(server: Server, path: str = QUERY, **headers: str) -> Answer:
    return server.ask("OPTIONS", path, headers={name.replace("_", "-"): value for name, value in headers.items()})


def test_cloudevents_handshake_is_answered_with_the_origin(tmp_path: Path) -> None:
    asked = {"WebHook_Request_Origin": "eventgrid.azure.net", "WebHook_Request_Rate": "120"}
    with listening(tmp_path, make_webhook, rules(format="cloudevents")) as server:
        answer = ask_first(server, **asked, WebHook_Request_Callback="https://example.com/agree")
        assert answer.status == 200
        assert answer.headers["webhook-allowed-origin"] == "eventgrid.azure.net"
        assert answer.headers["webhook-allowed-rate"] == "*"
        assert answer.headers["allow"] == "POST, OPTIONS"
        assert ask_first(server, "/api/events", **asked).status == 401
        assert ask_first(server).status == 400
    with listening(tmp_path, make_webhook, rules(format="cloudevents", origins=("eventgrid.azure.net",))) as server:
        assert ask_first(server, **asked).status == 200
        assert ask_first(server, WebHook_Request_Origin="evil.example").status == 403


def test_subscription_in_the_other_schema_is_refused_before_it_delivers(tmp_path: Path) -> None:
    event = own("v", data={"validationCode": "512d38b6"})
    with listening(tmp_path, make_webhook, rules()) as server:
        answer = ask_first(server, WebHook_Request_Origin="eventgrid.azure.net")
        assert answer.status == 400
        assert "format = 'cloudevents'" in answer.json["message"]
    with listening(tmp_path, make_webhook, rules(format="cloudevents")) as server:
        assert "format = 'eventgrid'" in deliver(server, [event], "SubscriptionValidation").json["message"]
    with listening(tmp_path, make_webhook, rules(format="segment")) as server:  # mapped by hand: both
        assert ask_first(server, WebHook_Request_Origin="eventgrid.azure.net").status == 200
        assert deliver(server, [event], "SubscriptionValidation").status == 200


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/", {}, 401),
        (QUERY, {}, 200),
        ("/?key=other", {}, 200),
        ("/?key=wrong", {}, 401),
        ("/?code=", {}, 401),
        ("/", {"aeg-sas-key": KEY}, 200),
        ("/", {"aeg-sas-key": "wrong"}, 401),
        ("/", {"Authorization": f"Bearer {KEY}"}, 200),
        ("/", {"Authorization": "Bearer wrong", "aeg-sas-key": KEY}, 401),
    ],
)
def test_key_is_always_asked_for(tmp_path: Path, path: str, headers: dict[str, str], status: int) -> None:
    with listening(tmp_path, make_webhook, rules()) as server:
        assert server.ask("POST", path, json.dumps([own("a")]).encode(), headers).status == status
        assert len(server.records) == (status == 200)


def test_web_hook_without_a_key_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"needs keys\n.*WEBHOOK_KEY"):
        make_webhook(SourceRules("g", "webhook", listen="127.0.0.1:0"), Inbox(tmp_path, 1), lambda: NOON)


@pytest.mark.parametrize("body", [b"", b"{", b"7", b'"x"', b"[1", b"[{]", b"\xff", b"[" * 100_000])
def test_broken_body_is_refused_for_good(tmp_path: Path, body: bytes) -> None:
    with listening(tmp_path, make_webhook, rules()) as server:
        answer = deliver(server, body)
        assert answer.status == 400
        assert "JSON" in answer.json["message"]
        assert deliver(server, b"[" + b" " * (1 << 20) + b"]").status == 413
        assert server.records == []


def test_full_inbox_makes_event_grid_come_again(tmp_path: Path) -> None:
    with listening(tmp_path, make_webhook, rules(), limit=100) as server:
        assert deliver(server, [own("a")]).status == 200
        answer = deliver(server, [own("b")])
        assert (answer.status, answer.headers["retry-after"]) == (429, "5")
        server.inbox.note_consumed(1)
        assert deliver(server, [own("b")]).status == 200
        assert server.lines == [own("a"), own("b")]


NAMES = [
    "Authorization",
    "Content-Type",
    "Content-Encoding",
    "aeg-event-type",
    "ce-id",
    "ce-time",
    "ce-x",
    "aeg-sas-key",
]
NAMES += ["WebHook-Request-Origin", "WebHook-Request-Rate"]
KINDS = ["SubscriptionValidation", "SubscriptionDeletion", "Notification", "gzip", CLOUD, CLOUDS, KEY, "%zz", '"a\\"']
TEXTS = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=20)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10)
MEMBERS = st.sampled_from(["id", "source", "topic", "data", "validationCode", "time"]) | st.text(max_size=4)
JSONS = st.recursive(
    SCALARS, lambda one: st.lists(one, max_size=4) | st.dictionaries(MEMBERS, one, max_size=4), max_leaves=10
)
BODIES = st.binary(max_size=100) | JSONS.map(lambda value: json.dumps(value).encode())


def test_no_request_is_an_error_of_the_server_and_each_is_counted(tmp_path: Path) -> None:
    asked = Counter[int]()
    with listening(tmp_path, make_webhook, rules(format="segment")) as server:

        @given(
            st.sampled_from(["POST", "POST", "POST", "OPTIONS", "GET", "DELETE"]),
            st.sampled_from([QUERY, QUERY, "/", "/?key=%ff", "/health", "/%00"]),
            st.dictionaries(st.sampled_from(NAMES), TEXTS | st.sampled_from(KINDS), max_size=5),
            BODIES,
        )
        @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
        def ask(method: str, path: str, headers: dict[str, str], body: bytes) -> None:
            answer = server.ask(method, path, body, {name: value.strip() for name, value in headers.items()})
            asked[answer.status] += 1
            assert answer.status < 500

        ask()
        assert server.receiver.answers == asked
        for record in server.records:
            json.loads(record.line)
