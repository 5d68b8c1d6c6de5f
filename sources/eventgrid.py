"""Azure Event Grid namespaces, pulled: the events of a topic's subscription, each a CloudEvent in structured mode."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from urllib.parse import quote, urlsplit

from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import AzureError, HttpResponseError, ServiceRequestError, ServiceResponseError
from azure.core.rest import HttpRequest
from azure.eventgrid import EventGridConsumerClient

from clock import Clock, to_us
from config import SourceRules
from errors import ConfigError, ReceiverError
from sources.inbox import Inbox, Received
from sources.json_spans import list_elements, list_members
from sources.live import flatten
from sources.pulling import PullReceiver, Taken, TryAgainError

API_VERSION = "2024-06-01"
BATCH = 100  # events of one call, as many as Event Grid allows
WAIT_S = 60
CONNECT_S, READ_S = 5, WAIT_S + 20
BUSY = (408, 429)
LOST = (400, 409, 410, 412, 422)  # what is said of locks that have run out, where not one was left
LOOPBACK = ("localhost", "127.0.0.1", "::1")
REMEDIES = {
    401: "see that key is one of the namespace's access keys",
    403: "see that access keys and this network are allowed for the namespace",
    404: "see that endpoint is the namespace's, and that the topic and its subscription (of delivery mode queue) exist",
}


def make_receiver(rules: SourceRules, name: str, inbox: Inbox, clock: Clock) -> PullReceiver:
    """Make the receiver of a subscription, TOPIC/SUBSCRIPTION; raises ConfigError."""
    topic, subscription = _split(rules, name)
    endpoint = _complete(rules)
    return PullReceiver(
        f"{rules.name}/{name}", lambda: EventGridPuller(endpoint, rules.key, topic, subscription, clock), inbox
    )


def _split(rules: SourceRules, name: str) -> tuple[str, str]:
    match = re.fullmatch(r"([^/\s]+)/([^/\s]+)", name)
    if match is None:
        raise ConfigError(
            f"[[source]] {rules.name}: {name!r} does not name a topic and its subscription",
            remedy='write TOPIC/SUBSCRIPTION: subscriptions = ["clicks/journeys"]',
        )
    return match[1], match[2]


def _complete(rules: SourceRules) -> str:
    endpoint = rules.endpoint if "://" in rules.endpoint else f"https://{rules.endpoint}"
    parts = urlsplit(endpoint)
    is_local = parts.scheme == "http" and parts.hostname in LOOPBACK
    if not parts.hostname or not (parts.scheme == "https" or is_local):
        raise ConfigError(
            f"[[source]] {rules.name}: {rules.endpoint!r} is no address that a key may be sent to",
            remedy='name the namespace\'s: endpoint = "https://NAME.REGION-1.eventgrid.azure.net"',
        )
    return endpoint.rstrip("/")


class EventGridPuller:
    """Calls to one subscription."""

    def __init__(self, endpoint: str, key: str, topic: str, subscription: str, clock: Clock) -> None:
        self.name, self.clock = f"{endpoint}: {topic}/{subscription}", clock
        self.path = f"/topics/{quote(topic, safe='')}/eventsubscriptions/{quote(subscription, safe='')}"
        self.client = EventGridConsumerClient(
            endpoint,
            AzureKeyCredential(key),
            namespace_topic=topic,
            subscription=subscription,
            api_version=API_VERSION,
            retry_total=0,
            connection_timeout=CONNECT_S,
            read_timeout=READ_S,
        )

    def take(self) -> list[Taken]:
        # The client's own `receive` parses events and can't write them again as they were.
        request = HttpRequest(
            "POST",
            f"{self.path}:receive",
            params={"api-version": API_VERSION, "maxEvents": BATCH, "maxWaitTime": WAIT_S},
            headers={"Accept": "application/json"},
        )
        try:
            response = self.client.send_request(request, stream=True)
            body = response.read()
            response.raise_for_status()
        except AzureError as problem:
            raise explain(self.name, problem) from problem
        try:
            return read_events(body, to_us(self.clock())) if body.strip() else []
        except (ValueError, KeyError) as problem:
            raise TryAgainError(f"the answer can't be read ({problem!r}): {body[:200]!r}") from problem

    def settle(self, handles: Sequence[str]) -> list[str]:
        try:
            answer = self.client.acknowledge(lock_tokens=list(handles))
        except HttpResponseError as problem:
            if problem.status_code in LOST:
                return []
            raise explain(self.name, problem) from problem
        except AzureError as problem:
            raise explain(self.name, problem) from problem
        return [one.lock_token for one in answer.failed_lock_tokens]

    def give_back(self, handles: Sequence[str]) -> None:
        try:
            self.client.release(lock_tokens=list(handles))
        except AzureError as problem:
            raise explain(self.name, problem) from problem


def explain(name: str, problem: AzureError) -> Exception:
    """Say whether to try again, or what is wrong and what to do."""
    if isinstance(problem, (ServiceRequestError, ServiceResponseError)):
        return TryAgainError(str(problem))
    status = getattr(problem, "status_code", None) or 0
    if status >= 500 or status in BUSY or status < 300:
        return TryAgainError(str(problem))
    remedy = REMEDIES.get(status, "see endpoint, subscriptions and key in journey.toml")
    return ReceiverError(f"{name}: {problem}", remedy=remedy)


def read_events(body: bytes, now: int) -> list[Taken]:
    """Read the answer to a receive; raises ValueError, KeyError. An event is the text that came, on one line."""
    taken = []
    for element in list_elements(dict(list_members(body))[b'"value"']):
        parts = dict(list_members(element))
        broker = json.loads(parts[b'"brokerProperties"'])
        line = parts[b'"event"']
        record = Received(flatten(line), now, identify(line))
        taken.append(Taken(broker["lockToken"], record, again=broker.get("deliveryCount", 2) > 1))
    return taken


def identify(event: bytes) -> str:
    """Name an event by source and id, as CloudEvents does, or by all that it says where it has not both."""
    try:
        parts = dict(list_members(event))
    except ValueError:
        parts = {}
    place = [parts.get(b'"source"', b""), parts.get(b'"id"', b"")]
    if not all(one.startswith(b'"') for one in place):
        return hashlib.blake2b(event, digest_size=16).hexdigest()
    return b" ".join(place).decode("utf-8", "replace")
