"""The receiver of an SQS queue on moto's server: each message once, deleted only when it is safe."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest
from botocore.exceptions import NoCredentialsError
from botocore.stub import Stubber

from clock import read_system_clock, to_us
from config import Config, SourceRules
from errors import ConfigError, ReceiverError
from flows.live_sources import Surroundings, find_sources
from sources.inbox import Inbox, Received
from sources.pulling import TryAgainError
from sources.sqs import SqsPuller, call_abreast, explain, make_receiver, name_queue
from tests.brokers.aws import REGION, FakeAws
from tests.brokers.relay import Relay
from tests.sources.pulled import at_work, read_all, run_to_end, wait_until

pytestmark = pytest.mark.slow
ROOM = 1 << 20


@pytest.fixture
def relay(aws: FakeAws) -> Iterator[Relay]:
    """A way to the server that can be cut."""
    way = Relay(aws.port)
    yield way
    way.stop()


def make_rules(endpoint: str, *queues: str) -> SourceRules:
    return SourceRules("shop", "sqs", queues=queues, region=REGION, endpoint=endpoint)


def test_messages_of_a_queue_come_once_each_and_are_deleted(aws: FakeAws, tmp_path: Path) -> None:
    queue, inbox = aws.make_queue(), Inbox(tmp_path / "inbox", ROOM)
    began = datetime.now(timezone.utc).timestamp()
    bodies = [json.dumps({"number": number}) for number in range(75)]
    aws.send(queue, bodies)
    with at_work(make_receiver(make_rules(aws.endpoint, queue), queue, inbox, read_system_clock)):
        wait_until(lambda: aws.count(queue) == (0, 0))
    records = read_all(inbox)
    assert sorted(record.line for record in records) == sorted(body.encode() for body in bodies)
    assert len({record.delivery for record in records}) == 75
    assert all(began - 1 < record.received / 1e6 < began + 60 for record in records)


def test_a_stop_does_not_wait_for_a_poll_and_costs_no_message(aws: FakeAws, tmp_path: Path) -> None:
    """What the poll that was left behind still gets is given back, though the queue would hide it for an hour."""
    queue, inbox = aws.make_queue(visible_after=3600), Inbox(tmp_path / "inbox", ROOM)
    with at_work(make_receiver(make_rules(aws.endpoint, queue), queue, inbox, read_system_clock)):
        time.sleep(0.5)
        began = time.monotonic()
    assert time.monotonic() - began < 2.5
    aws.send(queue, ["{}"])
    with at_work(make_receiver(make_rules(aws.endpoint, queue), queue, inbox, read_system_clock)):
        wait_until(lambda: inbox.next_offset == 1)
    assert len(read_all(inbox)) == 1


def test_nothing_is_deleted_while_the_inbox_is_full_and_a_stop_gives_it_back(aws: FakeAws, tmp_path: Path) -> None:
    queue, inbox = aws.make_queue(visible_after=3600), Inbox(tmp_path / "inbox", 1)
    rules = make_rules(aws.endpoint, queue)
    aws.send(queue, ["{}"])
    with at_work(make_receiver(rules, queue, inbox, read_system_clock)):
        wait_until(lambda: aws.count(queue) == (0, 0))
        aws.send(queue, ["[]"])
        wait_until(lambda: aws.count(queue) == (0, 1))
        time.sleep(0.5)
        assert inbox.next_offset == 1
    assert aws.count(queue) == (1, 0)
    inbox.note_consumed(1)
    with at_work(make_receiver(rules, queue, inbox, read_system_clock)):
        wait_until(lambda: aws.count(queue) == (0, 0))
    assert [record.line for record in read_all(inbox)] == [b"{}", b"[]"]


def test_what_could_not_be_deleted_comes_again_and_is_dropped(aws: FakeAws, relay: Relay, tmp_path: Path) -> None:
    queue = aws.make_queue(visible_after=1)
    rules = make_rules(relay.endpoint, queue)
    relay.swallowed = b"DeleteMessageBatch"
    aws.send(queue, [f"[{number}]" for number in range(5)])
    with at_work(make_receiver(rules, queue, Inbox(tmp_path / "inbox", ROOM), read_system_clock)):
        assert relay.has_swallowed.wait(30)
    relay.stop()
    relay.swallowed = b""
    relay.start()
    inbox = Inbox(tmp_path / "inbox", ROOM)
    assert inbox.next_offset == 5
    with at_work(make_receiver(rules, queue, inbox, read_system_clock)):
        wait_until(lambda: aws.count(queue) == (0, 0))
    assert inbox.next_offset == 5


def test_connection_may_break_and_come_back(aws: FakeAws, relay: Relay, tmp_path: Path) -> None:
    queue, inbox = aws.make_queue(visible_after=1), Inbox(tmp_path / "inbox", ROOM)
    with at_work(make_receiver(make_rules(relay.endpoint, queue), queue, inbox, read_system_clock)):
        aws.send(queue, ["1"])
        wait_until(lambda: inbox.next_offset == 1)
        relay.stop()
        aws.send(queue, ["2"])
        time.sleep(1)
        relay.start()
        wait_until(lambda: aws.count(queue) == (0, 0))
    assert [record.line for record in read_all(inbox)] == [b"1", b"2"]


@pytest.mark.parametrize("name", ["none", "none.fifo"])
def test_unknown_queue_ends_the_receiver_with_a_remedy(aws: FakeAws, tmp_path: Path, name: str) -> None:
    queue = f"{aws.endpoint}/123456789012/{name}"
    with pytest.raises(ReceiverError, match="see that the queue exists"):
        run_to_end(make_receiver(make_rules(aws.endpoint, queue), queue, Inbox(tmp_path, ROOM), read_system_clock))


def test_wrong_keys_and_missing_permission_end_the_receiver_with_a_remedy(
    aws: FakeAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = aws.make_queue()
    aws.send(queue, ["{}"])
    iam = aws.connect("iam")
    iam.create_user(UserName="nobody")
    key = iam.create_access_key(UserName="nobody")["AccessKey"]
    aws.demand_keys()
    try:
        with pytest.raises(ReceiverError, match="credentials, region and clock"):
            run_to_end(make_receiver(make_rules(aws.endpoint, queue), queue, Inbox(tmp_path, ROOM), read_system_clock))
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
        with pytest.raises(ReceiverError, match="allow sqs:ReceiveMessage, sqs:DeleteMessage"):
            run_to_end(make_receiver(make_rules(aws.endpoint, queue), queue, Inbox(tmp_path, ROOM), read_system_clock))
    finally:
        aws.demand_keys(float("inf"))


def test_no_credentials_at_all_is_an_error_that_says_so() -> None:
    assert "docs/aws.md" in str(explain("q", NoCredentialsError()))


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("RequestThrottled", 403, TryAgainError),
        ("ThrottlingException", 400, TryAgainError),
        ("OverLimit", 403, TryAgainError),
        ("InternalError", 500, TryAgainError),
        ("ServiceUnavailable", 503, TryAgainError),
        ("AccessDenied", 403, ReceiverError),
        ("SignatureDoesNotMatch", 403, ReceiverError),
        ("AWS.SimpleQueueService.NonExistentQueue", 400, ReceiverError),
        ("KmsDisabled", 400, ReceiverError),
    ],
)
def test_what_passes_is_tried_again_and_what_does_not_is_told(
    aws: FakeAws, code: str, status: int, kind: type[Exception]
) -> None:
    puller = SqsPuller(make_rules(aws.endpoint), "http://x/1/q", read_system_clock)
    with Stubber(puller.client) as stub:
        stub.add_client_error("receive_message", code, http_status_code=status)
        with pytest.raises(kind):
            puller.take()


def test_message_without_a_time_came_now(aws: FakeAws) -> None:
    now = datetime(2026, 1, 5, tzinfo=timezone.utc)
    puller = SqsPuller(make_rules(aws.endpoint), "http://x/1/q", lambda: now)
    with Stubber(puller.client) as stub:
        stub.add_response("receive_message", {"Messages": [{"MessageId": "m", "ReceiptHandle": "r", "Body": "{}"}]})
        (taken,) = puller.take()
    assert taken.record == Received(b"{}", to_us(now), "m")


def test_deletion_that_failed_in_part_is_told_again_unless_the_handle_has_run_out(aws: FakeAws) -> None:
    puller = SqsPuller(make_rules(aws.endpoint), "http://x/1/q", read_system_clock)
    failed = [{"Id": "1", "SenderFault": False, "Code": "InternalError"}, {"Id": "2", "SenderFault": True, "Code": "x"}]
    with Stubber(puller.client) as stub:
        stub.add_response("delete_message_batch", {"Successful": [{"Id": "0"}], "Failed": failed})
        assert puller.settle(["a", "b", "c"]) == ["b"]


def test_calls_side_by_side_give_results_and_errors_in_their_order() -> None:
    problem = TryAgainError("no")

    def fail() -> int:
        raise problem

    assert call_abreast([lambda: 1, fail, lambda: 3]) == [1, problem, 3]
    assert call_abreast([]) == []


@pytest.mark.parametrize(
    "url", ["clicks", "", "arn:aws:sqs:eu-west-1:123456789012:clicks", "https://sqs.eu-west-1.amazonaws.com/"]
)
def test_what_is_no_address_of_a_queue_is_a_config_error(url: str) -> None:
    with pytest.raises(ConfigError, match="is not the address of a queue"):
        name_queue(make_rules(""), url)


def test_region_is_the_one_in_the_address_of_the_queue(aws: FakeAws, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = replace(make_rules(""), region="")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-2")
    other = SqsPuller(rules, "https://vpce-0a1b-23.sqs.ap-southeast-2.vpce.amazonaws.com/1/q", read_system_clock).client
    assert other.meta.region_name == "us-east-2"
    for host in ("sqs.ap-southeast-2.amazonaws.com", "ap-southeast-2.queue.amazonaws.com"):
        client = SqsPuller(rules, f"https://{host}/123456789012/q", read_system_clock).client
        assert client.meta.region_name == "ap-southeast-2"


def test_two_queues_of_one_name_are_refused(tmp_path: Path) -> None:
    queues = ("https://sqs.eu-west-1.amazonaws.com/1/q", "https://sqs.eu-west-1.amazonaws.com/2/q")
    config = Config(sources=(make_rules("", *queues),))
    around = Surroundings(ROOM, lambda: datetime.now(timezone.utc), tmp_path)
    with pytest.raises(ConfigError, match="shop/q/0"):
        find_sources(config, {}, around)


def test_rule_of_eventbridge_fills_the_inbox_by_way_of_the_queue(aws: FakeAws, tmp_path: Path) -> None:
    queue, inbox = aws.make_queue(), Inbox(tmp_path / "inbox", ROOM)
    bus = aws.let_rule_fill(queue, {"source": ["shop"]})
    entry = {"EventBusName": bus, "DetailType": "Order", "Detail": '{"userId": "u"}'}
    aws.connect("events").put_events(Entries=[{**entry, "Source": "shop"}, {**entry, "Source": "other"}])
    with at_work(make_receiver(make_rules(aws.endpoint, queue), queue, inbox, read_system_clock)):
        wait_until(lambda: inbox.next_offset == 1)
    (record,) = read_all(inbox)
    event = json.loads(record.line)
    assert (event["source"], event["detail-type"], event["detail"]) == ("shop", "Order", {"userId": "u"})


def test_clients_of_clouds_are_not_loaded_where_nothing_is_pulled() -> None:
    """They would make every command of the command line slower to begin."""
    code = "import flows.cli, flows.live, sys; print([m for m in ('boto3', 'botocore', 'azure') if m in sys.modules])"
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert told.stdout.strip() == "[]"
