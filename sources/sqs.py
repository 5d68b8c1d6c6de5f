"""Amazon SQS: the queue that a rule of Amazon EventBridge fills, or any other."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

import boto3
from botocore.config import Config as ClientConfig
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    MetadataRetrievalError,
)
from botocore.parsers import ResponseParserError

from clock import Clock, to_us
from config import SourceRules
from errors import ConfigError, ReceiverError
from sources.inbox import Inbox, Received
from sources.live import flatten
from sources.pulling import PullReceiver, Taken, TryAgainError

BATCH = 10  # messages of one call, as many as SQS allows
ABREAST = 8  # calls at once, when there is much to fetch
WAIT_S = 20  # of a long poll, as long as SQS allows
CONNECT_S, READ_S = 5, WAIT_S + 10
ORDERED = ".fifo"
PASSING = (
    ConnectionError,
    HTTPClientError,
    IncompleteReadError,
    CredentialRetrievalError,
    MetadataRetrievalError,
    ResponseParserError,
)
BUSY = re.compile(
    r"Throttl|TooManyRequests|RequestLimit|OverLimit|SlowDown|Unavailable|InternalError|InternalFailure|Timeout$"
)
UNKNOWN = re.compile(r"NonExistentQueue|QueueDoesNotExist|InvalidAddress")
DENIED = re.compile(r"AccessDenied|not authorized|[Kk]ms|KMS")
Result = TypeVar("Result")


def make_receiver(rules: SourceRules, url: str, inbox: Inbox, clock: Clock) -> PullReceiver:
    """Make the receiver of a queue by its address."""
    return PullReceiver(f"{rules.name}/{name_queue(rules, url)}", lambda: SqsPuller(rules, url, clock), inbox)


def name_queue(rules: SourceRules, url: str) -> str:
    """Return the queue's own name, the last part of its address; raises ConfigError where that is none."""
    parts = urlsplit(url)
    name = parts.path.rpartition("/")[2]
    if parts.scheme not in ("http", "https") or not name:
        raise ConfigError(
            f"[[source]] {rules.name}: {url!r} is not the address of a queue",
            remedy='name it as AWS does: queues = ["https://sqs.eu-west-1.amazonaws.com/123456789012/NAME"]',
        )
    return name


class SqsPuller:
    """Calls to one queue. Of an ordered queue (FIFO) there is one call at a time, so that its order stays."""

    def __init__(self, rules: SourceRules, url: str, clock: Clock) -> None:
        self.clock = clock
        self.url, self.is_ordered = url, url.endswith(ORDERED)
        self.client = connect(rules, url)

    def take(self) -> list[Taken]:
        messages = self._receive(WAIT_S)
        if len(messages) == BATCH and not self.is_ordered:
            for found in call_abreast([lambda: self._receive(0)] * (ABREAST - 1)):
                # What fails here is met again by the next call; what came must not wait for it.
                messages += found if isinstance(found, list) else []
        now = to_us(self.clock())
        return [_borrow(message, now) for message in messages]

    def _receive(self, wait: int) -> list[dict[str, Any]]:
        answer = self._call(
            "receive_message",
            MaxNumberOfMessages=BATCH,
            WaitTimeSeconds=wait,
            MessageSystemAttributeNames=["SentTimestamp"],
        )
        return list(answer.get("Messages", []))

    def settle(self, handles: Sequence[str]) -> list[str]:
        batches = list(_cut(handles))
        failed: list[str] = []
        results = call_abreast([lambda batch=batch: self._delete(batch) for batch in batches])  # type: ignore[misc]
        for result in results:
            if isinstance(result, Exception):
                raise result  # deleting twice does no harm
            failed += result
        return failed

    def _delete(self, handles: list[str]) -> list[str]:
        entries = [{"Id": str(number), "ReceiptHandle": handle} for number, handle in enumerate(handles)]
        answer = self._call("delete_message_batch", Entries=entries)
        # The sender's fault is a handle that has run out: the message comes again, with another one.
        return [handles[int(one["Id"])] for one in answer.get("Failed", []) if not one.get("SenderFault")]

    def give_back(self, handles: Sequence[str]) -> None:
        for batch in _cut(handles):
            entries = [
                {"Id": str(number), "ReceiptHandle": handle, "VisibilityTimeout": 0}
                for number, handle in enumerate(batch)
            ]
            self._call("change_message_visibility_batch", Entries=entries)

    def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = getattr(self.client, operation)(QueueUrl=self.url, **arguments)
        except (ClientError, BotoCoreError, ResponseParserError) as problem:
            raise explain(self.url, problem) from problem
        return answer


def connect(rules: SourceRules, url: str) -> Any:
    """Make a client; credentials are found where every AWS client looks for them. Raises ReceiverError."""
    host = re.match(r"(?:sqs(?:-fips)?\.)?([a-z]{2}(?:-[a-z]+)+-\d+)\.", urlsplit(url).hostname or "")
    settings = ClientConfig(
        connect_timeout=CONNECT_S,
        read_timeout=READ_S,
        retries={"total_max_attempts": 1, "mode": "standard"},
        max_pool_connections=ABREAST,
    )
    try:
        return boto3.session.Session().client(
            "sqs",
            region_name=rules.region or (host[1] if host else None),
            endpoint_url=rules.endpoint or None,
            config=settings,
        )
    except (BotoCoreError, ValueError) as problem:
        raise ReceiverError(f"{url}: {problem}", remedy="set region (and endpoint) in journey.toml") from problem


def explain(url: str, problem: Exception) -> Exception:
    """Say whether to try again, or what is wrong and what to do."""
    if isinstance(problem, PASSING):
        return TryAgainError(str(problem))
    if not isinstance(problem, ClientError):
        return ReceiverError(f"{url}: {problem}", remedy="set up AWS credentials: see docs/aws.md")
    code = str(problem.response.get("Error", {}).get("Code", ""))
    status = problem.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if status >= 500 or status == 429 or BUSY.search(code):
        return TryAgainError(str(problem))
    if UNKNOWN.search(str(problem)):
        remedy = "see that the queue exists in this region and account, and name it in queues as AWS does"
    elif DENIED.search(str(problem)):
        remedy = "allow sqs:ReceiveMessage, sqs:DeleteMessage and sqs:ChangeMessageVisibility on it, and kms:Decrypt with its key"
    else:
        remedy = "see that credentials, region and clock are right: docs/aws.md"
    return ReceiverError(f"{url}: {problem}", remedy=remedy)


def call_abreast(calls: Sequence[Callable[[], Result]]) -> list[Result | Exception]:
    """Make calls at the same time; return in their order what each gave or raised."""
    results: list[Result | Exception] = [TryAgainError("not called")] * len(calls)

    def work(number: int) -> None:
        try:
            results[number] = calls[number]()
        except Exception as problem:
            results[number] = problem

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(1, len(calls))]
    for thread in threads:
        thread.start()
    if calls:
        work(0)
    for thread in threads:
        thread.join()
    return results


def _cut(handles: Sequence[str]) -> Iterator[list[str]]:
    for begin in range(0, len(handles), BATCH):
        yield list(handles[begin : begin + BATCH])


def _borrow(message: dict[str, Any], now: int) -> Taken:
    # SQS may deliver a message twice even if it was deleted, but it keeps its id.
    body = message["Body"].encode("utf-8", "surrogatepass")
    sent = message.get("Attributes", {}).get("SentTimestamp")  # not every server that imitates SQS tells it
    record = Received(flatten(body), int(sent) * 1000 if sent else now, message["MessageId"])
    return Taken(message["ReceiptHandle"], record, again=True)
