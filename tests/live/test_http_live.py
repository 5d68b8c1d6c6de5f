"""Live jobs that are sent to over HTTP: what was acknowledged is in the tables once, also after kill -9."""

from __future__ import annotations

import http.client
import json
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from config import Config, JobRules, SourceRules
from errors import ConfigError
from flows.live import LiveOptions, run_live
from sources.inbox import Inbox
from tests.live.support import (
    FUNNELS,
    PATIENCE_S,
    SENTINEL,
    START_S,
    STEPS,
    Process,
    ask,
    assert_same,
    count_rows,
    expect_sessions,
    make_record,
    replay,
    running,
    wait_until,
)

pytestmark = pytest.mark.slow
TOML = """
[job]
snapshot = "300ms"
[funnels.purchase]
steps = ["view", "add", "buy"]
[[source]]
name = "web"
kind = "collector"
listen = "127.0.0.1:{port}"
keys = ["${{WRITE_KEY}}"]
"""
SENDERS = 4


def find_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def post(port: int, path: str, body: bytes, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("POST", path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()


def hang_up(port: int, path: str, body: bytes) -> None:
    """Send a call and do not wait for its answer."""
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (path.encode(), len(body)) + body)
        time.sleep(0.05)


def post_until_taken(
    port: int, path: str, make: Callable[[], bytes], headers: dict[str, str] | None = None, lost: bool = False
) -> None:
    """Send as libraries do: again after whatever went wrong; `lost`: the answer to the first attempt is not seen."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        try:
            if lost:
                lost = False
                hang_up(port, path, make())
            elif post(port, path, make(), headers)[0] == 200:
                return
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.02)
    raise AssertionError("nobody took it")


def dump(warehouse: Path) -> list[bytes]:
    """Return what the collector wrote to its inbox, in order."""
    inbox = Inbox(warehouse / "_journeys" / "inbox" / "web" / "collector", 1 << 30)
    return [record.line for frame, _ in inbox.read(0) for record in frame.records]


class Calls:
    """5,000 calls for several senders, in turn; `make` writes one, perhaps otherwise at each attempt."""

    def __init__(self, count: int, make: Callable[[int, str, str], bytes]) -> None:
        chance = random.Random(7)
        self.calls = [(f"m{n}", f"person-{chance.randrange(40)}", chance.choice(STEPS)) for n in range(count)]
        self.make, self.lock = make, threading.Lock()
        self.numbers = iter(range(count))

    def take(self) -> Iterator[Callable[[], bytes]]:
        while True:
            with self.lock:
                number = next(self.numbers, None)
            if number is None:
                return
            name, person, step = self.calls[number]
            yield lambda number=number, name=name, person=person, step=step: self.write(number, name, person, step)  # type: ignore[misc]

    def write(self, number: int, name: str, person: str, step: str) -> bytes:
        at = self.make(number, name, person)
        return json.dumps({**json.loads(at), "event": step}).encode()


def make_timed(number: int, name: str, person: str) -> bytes:
    """Ten seconds apart, with no word of when it was sent: a retry is the same text."""
    return make_record(name, person, START_S + 10 * number, "")


def make_skewed(number: int, name: str, person: str) -> bytes:
    """Of a device whose clock is an hour behind, and that says anew at each attempt when it sends."""
    now = (datetime.now(timezone.utc) - timedelta(hours=1)).isoformat()
    said = (SKEWED_BEGAN - timedelta(hours=1) + timedelta(milliseconds=number)).isoformat()
    return json.dumps(
        {"messageId": name, "userId": person, "timestamp": said, "sentAt": now, "channel": "web"}
    ).encode()


SKEWED_BEGAN = datetime.now(timezone.utc)


def end_timed() -> dict[str, Any]:
    return dict(json.loads(make_record("end", SENTINEL, START_S + 86_400 * 2, SENTINEL)))


def end_skewed() -> dict[str, Any]:
    at = (datetime.now(timezone.utc) + timedelta(minutes=50)).isoformat()
    body = {"messageId": "end", "userId": SENTINEL, "event": SENTINEL, "timestamp": at, "originalTimestamp": at}
    return {**body, "sentAt": at, "channel": "web"}


@pytest.mark.parametrize(("make", "end"), [(make_timed, end_timed), (make_skewed, end_skewed)])
def test_killed_collector_loses_and_doubles_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[int, str, str], bytes],
    end: Callable[[], dict[str, Any]],
) -> None:
    """5,000 calls of several senders that try again on any error, while the job is killed at points of the commit.

    Some never see the answer to their first attempt: it is acknowledged on disk, and sent again.
    """
    monkeypatch.setenv("WRITE_KEY", "right")
    port, live, calls = find_port(), tmp_path / "live", Calls(5_000, make)
    text, path = TOML.format(port=port), "/v1/track?writeKey=right"

    def send() -> None:
        for number, one in enumerate(calls.take()):
            post_until_taken(port, path, one, lost=number % 25 == 0)

    senders = [threading.Thread(target=send) for _ in range(SENDERS)]
    job = Process(tmp_path, text, live, "after_descriptor:2")
    for sender in senders:
        sender.start()
    chance = random.Random(5)
    for point in ("epoch_durable:2", "", "before_catalog_rename:2", ""):
        time.sleep(2.5 + 2 * chance.random())
        job.kill()
        job = Process(tmp_path, text, live, point)
    time.sleep(2.5)
    job.kill()
    job = Process(tmp_path, text, live)
    for sender in senders:
        sender.join(PATIENCE_S)
        assert not sender.is_alive()
    post_until_taken(port, path, lambda: json.dumps(end()).encode())
    replay(tmp_path / "files", [dump(live)], tmp_path / "replayed")
    expect_sessions(live, tmp_path / "replayed")
    code, told = job.stop()
    assert code == 0, told
    assert_same(live, tmp_path / "replayed")
    events = ask(live, f"SELECT event_id FROM events WHERE person_id <> '{SENTINEL}'")
    late = ask(live, "SELECT event_id FROM late_events")  # a call that came again too late for its turn, too
    assert len(events) == len(set(events))
    assert len(events) > 4_500
    assert {*events, *late} == {repr((name,)) for name, _, _ in calls.calls}


def test_batches_of_the_collector_give_the_tables_of_their_calls(tmp_path: Path) -> None:
    port, live = find_port(), tmp_path / "live"
    rules = SourceRules("web", "collector", listen=f"127.0.0.1:{port}")
    lines = [make_record(f"m{n}", f"person-{n % 7}", START_S + 60 * n, STEPS[n % 3]) for n in range(3_000)]
    lines.append(make_record("end", SENTINEL, START_S + 86_400 * 30, SENTINEL))
    replay(tmp_path / "files", [lines], tmp_path / "replayed")
    config = Config(funnels=FUNNELS, sources=(rules,), job=JobRules(snapshot=300_000))
    with running(live, config):
        for begin in range(0, len(lines), 250):
            body = b'{"batch": [%s]}' % b",".join(lines[begin : begin + 250])
            post_until_taken(port, "/v1/batch", lambda body=body: body)  # type: ignore[misc]
        expect_sessions(live, tmp_path / "replayed")
    assert_same(live, tmp_path / "replayed")
    with pytest.raises(OSError, match="refused"):
        post(port, "/v1/track", b"{}")


def test_event_grids_events_become_journeys(tmp_path: Path) -> None:
    port, live = find_port(), tmp_path / "live"
    rules = SourceRules("grid", "webhook", listen=f"127.0.0.1:{port}", keys=("right",))

    def make(name: str, user: str, minute: int, step: str) -> dict[str, Any]:
        at = f"2026-01-05T12:{minute:02d}:00Z"
        return {"id": name, "topic": "t", "subject": "s", "eventType": step, "eventTime": at, "data": {"userId": user}}

    events = [make("1", "u", 0, "view"), make("2", "u", 1, "buy"), make("3", "u", 2, "add"), make("4", "u", 3, "buy")]
    events += [{**make("5", SENTINEL, 59, SENTINEL), "eventTime": "2026-01-07T00:00:00Z"}]
    with running(live, Config(funnels=FUNNELS, sources=(rules,), job=JobRules(snapshot=300_000))):
        for body in (events[:3], events[1:4], [7], events[4:]):  # the second and third are delivered again
            headers = {"aeg-event-type": "Notification"}
            post_until_taken(port, "/?code=right", lambda body=body: json.dumps(body).encode(), headers)  # type: ignore[misc]
        wait_until(lambda: count_rows(live, "sessions") == 1)
    assert ask(live, "SELECT event_id, step, source_position FROM events WHERE user_id = 'u'") == [
        "('1', 'view', 0)",
        "('2', 'buy', 1)",
        "('3', 'add', 2)",
        "('4', 'buy', 3)",
    ]
    assert ask(live, "SELECT step FROM funnel_steps") == ["('add',)", "('buy',)", "('view',)"]
    assert ask(live, "SELECT reason, source, source_position FROM dead_letters") == [
        "('not_an_object', 'grid/webhook', 4)"
    ]


def test_mistakes_end_the_job_with_a_remedy(tmp_path: Path) -> None:
    def run(rules: SourceRules) -> None:
        run_live(LiveOptions(tmp_path / "live", environment={"EMPTY": ""}), Config(sources=(rules,)))

    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=r"in use.*\n.*free port"):
            run(SourceRules("web", "collector", listen=address))
    with pytest.raises(ConfigError, match="one is empty"):
        run(SourceRules("web", "collector", listen="127.0.0.1:0", keys=("${EMPTY}",)))
    with pytest.raises(ConfigError, match="has no keys"):
        run(SourceRules("web", "collector", listen="0.0.0.0:0"))
    with pytest.raises(ConfigError, match="needs keys"):
        run(SourceRules("web", "webhook", listen="127.0.0.1:0"))
