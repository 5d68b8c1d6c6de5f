"""docs/aws.md: its policies let in what they should and nobody else, its pattern matches, as far as moto judges it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clock import read_system_clock
from config import SourceRules
from errors import ReceiverError
from flows.settings import load_config
from sources.inbox import Inbox
from sources.sqs import make_receiver
from tests.brokers.aws import ACCOUNT, REGION, FakeAws
from tests.sources.pulled import at_work, run_to_end, wait_until

pytestmark = pytest.mark.slow
PAGE = (Path(__file__).parents[1] / "docs" / "aws.md").read_text(encoding="utf-8")
QUEUE_POLICY, PATTERN, JOB_POLICY = (
    json.loads(block) for block in re.findall(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
)


def make_rules(aws: FakeAws, queue: str) -> SourceRules:
    return SourceRules("shop", "sqs", queues=(queue,), region=REGION, endpoint=aws.endpoint)


@pytest.fixture
def queue(aws: FakeAws) -> Iterator[str]:
    """The queue of the page."""
    client = aws.connect("sqs")
    url = str(client.create_queue(QueueName="journeys")["QueueUrl"])
    yield url
    client.delete_queue(QueueUrl=url)


def test_example_is_a_config(tmp_path: Path) -> None:
    match = re.search(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert match
    (tmp_path / "journey.toml").write_text(match[1])
    (source,) = load_config(tmp_path / "journey.toml").sources
    assert source.queues == (f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/journeys",)


def test_policies_name_the_same_queue_and_are_taken(aws: FakeAws, queue: str) -> None:
    arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:journeys"
    assert {QUEUE_POLICY["Statement"][0]["Resource"], JOB_POLICY["Statement"][0]["Resource"]} == {arn}
    client = aws.connect("sqs")
    client.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": json.dumps(QUEUE_POLICY)})
    assert json.loads(client.get_queue_attributes(QueueUrl=queue, AttributeNames=["Policy"])["Attributes"]["Policy"])


def test_job_needs_what_its_policy_allows_and_no_more(
    aws: FakeAws, queue: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # AWS judges a batch by the permission for one; moto wants one of its own.
    (statement,) = JOB_POLICY["Statement"]
    actions = [*statement["Action"], *(f"{action}Batch" for action in statement["Action"])]
    policy = {**JOB_POLICY, "Statement": [{**statement, "Action": actions}]}
    iam = aws.connect("iam")
    iam.create_user(UserName="journeys")
    key = iam.create_access_key(UserName="journeys")["AccessKey"]
    arn = iam.create_policy(PolicyName="journeys", PolicyDocument=json.dumps(policy))["Policy"]["Arn"]
    aws.send(queue, ["{}"])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    inbox = Inbox(tmp_path, 1 << 20)
    aws.demand_keys()
    try:
        with pytest.raises(ReceiverError, match="allow sqs:ReceiveMessage"):
            run_to_end(make_receiver(make_rules(aws, queue), queue, inbox, read_system_clock))
        aws.demand_keys(float("inf"))
        iam.attach_user_policy(UserName="journeys", PolicyArn=arn)
        aws.demand_keys()
        with at_work(make_receiver(make_rules(aws, queue), queue, inbox, read_system_clock)):
            wait_until(lambda: inbox.next_offset == 1)
    finally:
        aws.demand_keys(float("inf"))
    wait_until(lambda: aws.count(queue) == (0, 0))


def test_pattern_takes_what_customers_do_and_no_replays(aws: FakeAws) -> None:
    queue = aws.make_queue()
    bus, events = aws.let_rule_fill(queue, PATTERN), aws.connect("events")
    arn = f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/{bus}"
    archive = events.create_archive(ArchiveName=f"a-{bus}", EventSourceArn=arn)["ArchiveArn"]
    sources = ("aws.partner/segment.com/x", "shop", "aws.ec2", "shopping")
    entry = {"EventBusName": bus, "DetailType": "track", "Detail": "{}"}
    events.put_events(Entries=[{**entry, "Source": source} for source in sources])
    assert aws.count(queue) == (2, 0)
    times = {"EventStartTime": time.time() - 3600, "EventEndTime": time.time() + 3600}
    events.start_replay(ReplayName=f"r-{bus}", EventSourceArn=archive, Destination={"Arn": arn}, **times)
    assert aws.count(queue) == (2, 0)
