"""Amazon SQS and EventBridge as moto imitates them: a process on loopback whose memory ends with it. It is not AWS."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import boto3

from tests.brokers.server import HOST, Server, can_connect, choose_ports, make_name

ROOT = Path(__file__).resolve().parents[2]
REGION = "eu-west-1"
ACCOUNT = "123456789012"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_EC2_METADATA_DISABLED": "true"}


class FakeAws(Server):
    """Moto's server."""

    name = "moto"

    def __init__(self, folder: Path, port: int = 0) -> None:
        super().__init__(folder)
        (self.port,) = choose_ports(port)

    @classmethod
    def find_missing(cls) -> str:
        """Say what this machine lacks; moto comes with `make setup`."""
        return ""

    @property
    def endpoint(self) -> str:
        """The address of every service."""
        return f"http://{HOST}:{self.port}"

    def connect(self, service: str, **credentials: str) -> Any:
        """Return a client of a service, by default one that may do everything."""
        keys = {"aws_access_key_id": "tester", "aws_secret_access_key": "secret", **credentials}
        return boto3.session.Session().client(service, region_name=REGION, endpoint_url=self.endpoint, **keys)

    def make_queue(self, is_ordered: bool = False, visible_after: int = 30, **attributes: str) -> str:
        """Make a queue with a name of its own; return its address. What was received comes again after some seconds."""
        attributes["VisibilityTimeout"] = str(visible_after)
        if is_ordered:
            attributes |= {"FifoQueue": "true", "ContentBasedDeduplication": "false"}
        name = make_name("queue") + (".fifo" if is_ordered else "")
        return str(self.connect("sqs").create_queue(QueueName=name, Attributes=attributes)["QueueUrl"])

    def send(self, queue: str, bodies: Sequence[str]) -> None:
        """Send messages in order: of an ordered queue they are one group."""
        client = self.connect("sqs")
        for begin in range(0, len(bodies), 10):
            entries: list[dict[str, str]] = [
                {"Id": str(number), "MessageBody": body} for number, body in enumerate(bodies[begin : begin + 10])
            ]
            if queue.endswith(".fifo"):
                for entry in entries:
                    entry |= {"MessageGroupId": "all", "MessageDeduplicationId": make_name("message")}
            answer = client.send_message_batch(QueueUrl=queue, Entries=entries)
            assert len(answer["Successful"]) == len(entries)

    def count(self, queue: str) -> tuple[int, int]:
        """Return how many messages of a queue wait, and how many are under way."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.connect("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
        return int(found[names[0]]), int(found[names[1]])

    def let_rule_fill(self, queue: str, pattern: dict[str, Any]) -> str:
        """Make a bus with a rule that sends what matches to a queue; return the bus's name."""
        client, bus, rule = self.connect("events"), make_name("bus"), make_name("rule")
        client.create_event_bus(Name=bus)
        client.put_rule(Name=rule, EventBusName=bus, EventPattern=json.dumps(pattern))
        client.put_targets(Rule=rule, EventBusName=bus, Targets=[{"Id": "journeys", "Arn": tell_arn(queue)}])
        return bus

    def demand_keys(self, after: float = 0) -> None:
        """From so many calls on, refuse those whose keys or permissions are not right; infinity: refuse none."""
        request = Request(f"{self.endpoint}/moto-api/reset-auth", data=str(after).encode(), method="POST")
        request.add_header("Content-Type", "text/plain")  # of a form it would see nothing
        with urlopen(request, timeout=10) as answer:
            assert answer.status == 200

    def _prepare(self) -> tuple[list[str], dict[str, str]]:
        command = [sys.executable, "-m", "tests.brokers.moto_server", "-H", HOST, "-p", str(self.port)]
        return command, {"PYTHONPATH": str(ROOT)}

    def _answers(self) -> bool:
        return can_connect(self.port)


def tell_arn(queue: str) -> str:
    """Return the ARN of a queue by its address."""
    return f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue.rpartition('/')[2]}"
