"""The receiver of an Event Grid subscription on a stand-in: each event once, byte for byte, acknowledged only when it is safe."""

from __future__ import annotations

import json
import time
from datetime import datetime, timezone
from pathlib import Path

import pytest
from azure.core.credentials import AzureKeyCredential
from azure.eventgrid import EventGridConsumerClient, EventGridPublisherClient

from clock import read_system_clock
from config import SourceRules
from errors import ConfigError, ReceiverError
from sources.eventgrid import EventGridPuller, identify, make_receiver, read_events
from sources.inbox import Inbox
from sources.pulling import PullReceiver, TryAgainError
from tests.brokers.eventgrid import KEY, FakeEventGrid
from tests.sources.pulled import at_work, read_all, run_to_end, wait_until

pytestmark = pytest.mark.slow
ROOM = 1 << 20
NAME = "clicks/journeys"


def make_event(number: int) -> bytes:
    event = {"specversion": "1.0", "id": str(number), "source": "/shop", "type": "view", "data": {"n": number}}
    return json.dumps(event).encode()


def make(grid: FakeEventGrid, inbox: Inbox, name: str = NAME, key: str = KEY) -> PullReceiver:
    rules = SourceRules("shop", "eventgrid", endpoint=grid.endpoint, key=key, subscriptions=(name,))
    return make_receiver(rules, name, inbox, read_system_clock)


def pull(grid: FakeEventGrid) -> EventGridPuller:
    return EventGridPuller(grid.endpoint, KEY, "clicks", "journeys", read_system_clock)


def test_events_come_once_each_in_order_and_are_acknowledged(event_grid: FakeEventGrid, tmp_path: Path) -> None:
    subscription, inbox = event_grid.subscribe("clicks", "journeys"), Inbox(tmp_path, ROOM)
    events = [make_event(number) for number in range(250)]
    began = datetime.now(timezone.utc).timestamp()
    event_grid.put("clicks", *events)
    with at_work(make(event_grid, inbox)):
        wait_until(lambda: inbox.next_offset == 250 and not subscription.locked)
    records = read_all(inbox)
    assert [record.line for record in records] == events
    assert all(began - 1 < record.received / 1e6 < began + 60 for record in records)
    assert not subscription.waiting


def test_event_is_the_text_that_came(event_grid: FakeEventGrid, tmp_path: Path) -> None:
    """Numbers keep their digits, extensions and `data_base64` stay; only a line break becomes a blank."""
    event_grid.subscribe("clicks", "journeys")
    head = b'{"specversion":"1.0","id":"1","source":"/s","type":"t","myextension":"x",'
    events = [
        head + b'"data":{"price":1.10,"big":12345678901234567890123.5e-1,"text":"\\u00e9 \xc3\xa9 }]"}}',
        head + b'"data_base64" : "AAEC"}',
        head + b'"data":' + b"[" * 5_000 + b"9" * 5_000 + b"]" * 5_000 + b"}",
        b"null",
        head + b'\n "data" : 1 }',
    ]
    inbox = Inbox(tmp_path, ROOM)
    event_grid.put("clicks", *events)
    with at_work(make(event_grid, inbox)):
        wait_until(lambda: inbox.next_offset == 5)
    assert [record.line for record in read_all(inbox)] == [event.replace(b"\n", b" ") for event in events]


def test_what_azures_own_client_publishes_arrives(event_grid: FakeEventGrid, tmp_path: Path) -> None:
    event_grid.subscribe("clicks", "journeys")
    inbox, credential = Inbox(tmp_path, ROOM), AzureKeyCredential(KEY)
    event = {
        "specversion": "1.0",
        "id": "7",
        "source": "/s",
        "type": "t",
        "subject": "é",
        "tenant": "x",
        "data": {"a": [1]},
    }
    with EventGridPublisherClient(event_grid.endpoint, credential, namespace_topic="clicks") as client:
        client.send([event])
    with at_work(make(event_grid, inbox)):
        wait_until(lambda: inbox.next_offset == 1)
    (record,) = read_all(inbox)
    found = json.loads(record.line)
    assert {name: found[name] for name in event} == event


def test_event_that_was_safe_but_not_acknowledged_is_dropped_when_it_comes_again(
    event_grid: FakeEventGrid, tmp_path: Path
) -> None:
    subscription = event_grid.subscribe("clicks", "journeys", lock_s=0.5)
    event_grid.holding = "acknowledge"
    event_grid.put("clicks", *(make_event(number) for number in range(5)), b"[]")
    with at_work(make(event_grid, Inbox(tmp_path, ROOM))):
        assert event_grid.has_held.wait(30)
    event_grid.holding = ""
    inbox = Inbox(tmp_path, ROOM)
    assert inbox.next_offset == 6
    with at_work(make(event_grid, inbox)):
        wait_until(lambda: not subscription.waiting and not subscription.locked)
    assert inbox.next_offset == 6
    assert subscription.dead == []


def test_event_published_twice_is_two_records(event_grid: FakeEventGrid, tmp_path: Path) -> None:
    """Only a second delivery is dropped: what a publisher repeats is a duplicate, which the job counts."""
    event_grid.subscribe("clicks", "journeys")
    inbox = Inbox(tmp_path, ROOM)
    event_grid.put("clicks", make_event(1), make_event(1))
    with at_work(make(event_grid, inbox)):
        wait_until(lambda: inbox.next_offset == 2)


def test_acknowledgement_that_failed_is_told_again(event_grid: FakeEventGrid, tmp_path: Path) -> None:
    subscription, inbox = event_grid.subscribe("clicks", "journeys", lock_s=3600), Inbox(tmp_path, ROOM)
    event_grid.failing.append(("acknowledge", 503, b"{}"))
    event_grid.put("clicks", make_event(1), make_event(2))
    with at_work(make(event_grid, inbox)):
        wait_until(lambda: inbox.next_offset == 2 and not subscription.locked)
    assert event_grid.calls.count("acknowledge") == 2


def test_lock_that_was_not_taken_is_acknowledged_again(event_grid: FakeEventGrid, tmp_path: Path) -> None:
    subscription, inbox = event_grid.subscribe("clicks", "journeys", lock_s=3600), Inbox(tmp_path, ROOM)
    event_grid.refusing = 1
    event_grid.put("clicks", *(make_event(number) for number in range(3)))
    with at_work(make(event_grid, inbox)):
        wait_until(lambda: inbox.next_offset == 3 and not subscription.locked)


def test_only_what_failed_of_an_acknowledgement_is_told_again(event_grid: FakeEventGrid) -> None:
    event_grid.subscribe("clicks", "journeys")
    event_grid.put("clicks", make_event(1), make_event(2))
    puller = pull(event_grid)
    handles = [taken.handle for taken in puller.take()]
    assert puller.settle([*handles, "lost"]) == ["lost"]
    assert puller.settle(handles) == []  # not one of them is locked any more: nothing to be told again


def test_a_stop_does_not_wait_for_a_poll_and_what_it_gets_is_given_back(
    event_grid: FakeEventGrid, tmp_path: Path
) -> None:
    subscription, inbox = event_grid.subscribe("clicks", "journeys", lock_s=3600), Inbox(tmp_path, ROOM)
    with at_work(make(event_grid, inbox)):
        wait_until(lambda: "receive" in event_grid.calls)
        began = time.monotonic()
    assert time.monotonic() - began < 2.5
    event_grid.put("clicks", make_event(1))
    wait_until(lambda: "release" in event_grid.calls and len(subscription.waiting) == 1)
    assert inbox.next_offset == 0


def test_nothing_is_acknowledged_while_the_inbox_is_full(event_grid: FakeEventGrid, tmp_path: Path) -> None:
    subscription, inbox = event_grid.subscribe("clicks", "journeys", lock_s=3600), Inbox(tmp_path, 1)
    event_grid.put("clicks", make_event(1))
    with at_work(make(event_grid, inbox)):
        wait_until(lambda: "acknowledge" in event_grid.calls)
        event_grid.put("clicks", make_event(2))
        wait_until(lambda: len(subscription.locked) == 1)
        time.sleep(0.5)
        assert event_grid.calls.count("acknowledge") == 1
        inbox.note_consumed(1)
        wait_until(lambda: not subscription.locked)
    assert inbox.next_offset == 2


def test_what_can_not_be_given_back_does_not_spoil_a_stop(event_grid: FakeEventGrid, tmp_path: Path) -> None:
    subscription, inbox = event_grid.subscribe("clicks", "journeys"), Inbox(tmp_path, 1)
    event_grid.failing.append(("release", 403, b"{}"))
    event_grid.put("clicks", make_event(1))
    with at_work(make(event_grid, inbox)):
        wait_until(lambda: "acknowledge" in event_grid.calls)
        event_grid.put("clicks", make_event(2))
        wait_until(lambda: len(subscription.locked) == 1)
    assert "release" in event_grid.calls


def test_namespace_may_go_and_come_back(event_grid: FakeEventGrid, tmp_path: Path) -> None:
    event_grid.subscribe("clicks", "journeys", lock_s=0.5)
    inbox = Inbox(tmp_path, ROOM)
    with at_work(make(event_grid, inbox)):
        event_grid.put("clicks", make_event(1))
        wait_until(lambda: inbox.next_offset == 1)
        event_grid.stop()
        time.sleep(1)
        event_grid.put("clicks", make_event(2))
        event_grid.start()
        wait_until(lambda: inbox.next_offset == 2)


@pytest.mark.parametrize(
    ("name", "key", "remedy"),
    [
        (NAME, "wrong", "access keys"),
        ("clicks/other", KEY, "its subscription"),
        ("other/journeys", KEY, "its subscription"),
    ],
)
def test_wrong_key_and_unknown_subscription_end_the_receiver_with_a_remedy(
    event_grid: FakeEventGrid, tmp_path: Path, name: str, key: str, remedy: str
) -> None:
    event_grid.subscribe("clicks", "journeys")
    with pytest.raises(ReceiverError, match=remedy):
        run_to_end(make(event_grid, Inbox(tmp_path, ROOM), name, key))


@pytest.mark.parametrize(
    ("status", "body"), [(503, b""), (429, b"{}"), (500, b"x"), (200, b"<html>"), (200, b'{"value":[{}]}')]
)
def test_busy_service_and_answers_that_can_not_be_read_are_tried_again(
    event_grid: FakeEventGrid, status: int, body: bytes
) -> None:
    event_grid.subscribe("clicks", "journeys")
    event_grid.put("clicks", make_event(1))
    event_grid.failing.append(("receive", status, body))
    puller = pull(event_grid)
    with pytest.raises(TryAgainError):
        puller.take()
    assert len(puller.take()) == 1


def test_answer_without_events_is_none() -> None:
    assert read_events(b'{"value": []}', 0) == []


@pytest.mark.parametrize(
    ("event", "other", "are_same"),
    [
        (b'{"id":"1","source":"/a"}', b'{"source": "/a", "id": "1", "more": 2}', True),
        (b'{"id":"1","source":"/a"}', b'{"id":"1","source":"/b"}', False),
        (b'{"id":"1","data":{"source":"/a"}}', b'{"id":"1","data":{"source":"/b"}}', False),
        (b'{"id":1,"source":"/a"}', b'{"id":1,"source":"/a","more":2}', False),
        (b"[1]", b"[1]", True),
        (b'{"a"}', b'{"b"}', False),
    ],
)
def test_event_is_known_by_source_and_id_or_else_by_its_text(event: bytes, other: bytes, are_same: bool) -> None:
    assert (identify(event) == identify(other)) is are_same


@pytest.mark.parametrize("name", ["clicks", "/journeys", "clicks/", "a/b/c", "clicks / journeys"])
def test_what_names_no_subscription_is_a_config_error(event_grid: FakeEventGrid, tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="TOPIC/SUBSCRIPTION"):
        make(event_grid, Inbox(tmp_path, ROOM), name)


@pytest.mark.parametrize("endpoint", ["http://shop.westus-1.eventgrid.azure.net", "https://", "ftp://localhost"])
def test_key_is_sent_in_the_clear_to_this_machine_only(tmp_path: Path, endpoint: str) -> None:
    rules = SourceRules("shop", "eventgrid", endpoint=endpoint, key=KEY, subscriptions=(NAME,))
    with pytest.raises(ConfigError, match="no address that a key may be sent to"):
        make_receiver(rules, NAME, Inbox(tmp_path, ROOM), read_system_clock)


def test_stand_in_does_what_azures_own_client_asks_for(event_grid: FakeEventGrid) -> None:
    """Release, rejection, renewal, deliveries that are counted, and the most of them."""
    subscription = event_grid.subscribe("clicks", "journeys", lock_s=1.0, most_deliveries=3)
    event_grid.put("clicks", make_event(1))
    client = EventGridConsumerClient(
        event_grid.endpoint, AzureKeyCredential(KEY), namespace_topic="clicks", subscription="journeys"
    )
    (first,) = client.receive(max_events=10, max_wait_time=10)
    assert first.broker_properties.delivery_count == 1
    assert client.release(lock_tokens=[first.broker_properties.lock_token]).failed_lock_tokens == []
    (second,) = client.receive(max_events=10, max_wait_time=10)
    assert second.broker_properties.delivery_count == 2
    time.sleep(0.6)
    assert client.renew_locks(lock_tokens=[second.broker_properties.lock_token]).failed_lock_tokens == []
    time.sleep(0.6)
    assert list(subscription.locked) == [second.broker_properties.lock_token]
    (third,) = client.receive(max_events=10, max_wait_time=10)
    assert third.broker_properties.delivery_count == 3
    time.sleep(1.1)
    subscription.unlock(time.monotonic())
    assert len(subscription.dead) == 1
    client.close()
