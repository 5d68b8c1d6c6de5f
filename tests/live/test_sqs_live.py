"""A live job on SQS as moto imitates it: the tables of a replay, whatever happens to the job, the queue or the messages."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from config import SourceRules
from errors import ReceiverError
from tests.brokers.aws import ACCOUNT, REGION, FakeAws
from tests.brokers.relay import Relay
from tests.live.cloud import make_calls, make_config, replay_archive, replay_lines, wrap_eventbridge
from tests.live.support import (
    SENTINEL,
    START_S,
    Process,
    ask,
    assert_same,
    count_rows,
    expect_sessions,
    make_record,
    running,
    wait_until,
)

pytestmark = pytest.mark.slow
END = make_record("end", SENTINEL, START_S + 86_400 * 2, SENTINEL)
TOML = """
[sessions]
allowed_lateness = "1h"
[job]
snapshot = "300ms"
[funnels.purchase]
steps = ["view", "add", "buy"]
[input]
format = "eventbridge"
[[source]]
name = "s"
kind = "sqs"
queues = ["{queue}"]
region = "eu-west-1"
endpoint = "{endpoint}"
"""


def make_rules(endpoint: str, queue: str) -> SourceRules:
    return SourceRules("s", "sqs", queues=(queue,), region=REGION, endpoint=endpoint)


def put_events(aws: FakeAws, bus: str, calls: Sequence[bytes]) -> None:
    """Put Segment's calls on a bus, as its destination does."""
    client = aws.connect("events")
    entries = [
        {"EventBusName": bus, "Source": "shop", "DetailType": "track", "Detail": call.decode()} for call in calls
    ]
    for begin in range(0, len(entries), 10):
        assert client.put_events(Entries=entries[begin : begin + 10])["FailedEntryCount"] == 0


def test_eventbridge_by_way_of_a_queue_gives_the_tables_of_a_replay_of_the_archive(
    aws: FakeAws, tmp_path: Path
) -> None:
    """The queue has no order of its own: eight calls at once are made to it."""
    calls, queue, live = make_calls(400, seed=3), aws.make_queue(), tmp_path / "live"
    bus = aws.let_rule_fill(queue, {"source": ["shop"]})
    config = make_config(make_rules(aws.endpoint, queue), "eventbridge")
    put_events(aws, bus, calls[:-1])
    with running(live, config) as seen:
        wait_until(lambda: seen[-1].records >= len(calls) - 1)
        put_events(aws, bus, calls[-1:])
        wait_until(lambda: count_rows(live, "events") > 300)
    replay_archive(live, config, tmp_path / "replayed")
    assert_same(live, tmp_path / "replayed")
    assert count_rows(live, "sessions") > 30


def test_killed_between_inbox_and_deletion_a_job_gives_the_same_tables(aws: FakeAws, tmp_path: Path) -> None:
    """Killed by SIGKILL at points of the commit too; the queue keeps its order, so that a file's replay compares."""
    lines = [wrap_eventbridge(call, number) for number, call in enumerate(make_calls(240, seed=4))]
    queue, relay, live, replayed = aws.make_queue(True, 1), Relay(aws.port), tmp_path / "live", tmp_path / "replayed"
    config = make_config(make_rules(relay.endpoint, queue), "eventbridge")
    replay_lines(tmp_path / "files", lines, config, replayed)
    text, step = TOML.format(queue=queue, endpoint=relay.endpoint), len(lines) // 4
    for number, point in enumerate(["", "epoch_durable:2", ""]):
        bodies = [line.decode() for line in lines[number * step : (number + 1) * step]]
        job = Process(tmp_path, text, live, point)
        aws.send(queue, bodies[: step // 2])
        if not point:
            wait_until(lambda: aws.count(queue) == (0, 0))
            relay.swallowed = b"DeleteMessageBatch"
        aws.send(queue, bodies[step // 2 :])
        wait_until(job.has_ended if point else relay.has_swallowed.is_set)
        job.kill()
        relay.swallowed = b""
        relay.has_swallowed.clear()
    aws.send(queue, [line.decode() for line in lines[3 * step :]])
    job = Process(tmp_path, text, live)
    expect_sessions(live, replayed)
    code, told = job.stop()
    relay.stop()
    assert code == 0, told
    assert_same(live, replayed)


def test_replay_of_an_eventbridge_archive_is_counted_and_changes_no_table(aws: FakeAws, tmp_path: Path) -> None:
    """In time it is a duplicate by the call's message id; moto gives the envelope another id, and a message is new."""
    queue, live, events = aws.make_queue(), tmp_path / "live", aws.connect("events")
    bus = aws.let_rule_fill(queue, {"source": ["shop"]})
    arn = f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/{bus}"
    archive = events.create_archive(ArchiveName=f"a-{bus}"[:40], EventSourceArn=arn)["ArchiveArn"]
    calls = [make_record(f"m{number}", "u", START_S + number, "view") for number in range(20)]
    config = make_config(make_rules(aws.endpoint, queue), "eventbridge")
    with running(live, config) as seen:
        put_events(aws, bus, calls)
        wait_until(lambda: seen[-1].records >= 20)
        events.start_replay(
            ReplayName=f"r-{bus}"[:40],
            EventSourceArn=archive,
            EventStartTime=time.time() - 3600,
            EventEndTime=time.time() + 3600,
            Destination={"Arn": arn},
        )
        wait_until(lambda: seen[-1].records >= 40)
        put_events(aws, bus, [END])
        wait_until(lambda: count_rows(live, "events") == 20)
    (row,) = ask(live, "SELECT received, accepted, duplicate, late, dead FROM ledger")
    assert row == "(41, 20, 20, 0, 0)"


@pytest.mark.parametrize(("minutes", "counts"), [(30, "(2, 1, 0, 0)"), (90, "(2, 0, 1, 0)")])
def test_event_with_the_same_id_is_a_duplicate_while_in_time_and_late_after(
    aws: FakeAws, tmp_path: Path, minutes: int, counts: str
) -> None:
    """Where a replay keeps an event's id, that tells; late is what is further behind than the hour that is allowed."""
    queue, live = aws.make_queue(True), tmp_path / "live"
    event = json.loads(wrap_eventbridge(make_record("m", "u", START_S, "view"), 1))
    event |= {"detail-type": "Viewed", "detail": {"userId": "u"}}
    newer = {**event, "id": "2", "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(START_S + 60 * minutes))}
    again = {**event, "replay-name": "once-more"}
    end = wrap_eventbridge(END, 3).decode()
    with running(live, make_config(make_rules(aws.endpoint, queue), "eventbridge")):
        aws.send(queue, [json.dumps(event), json.dumps(newer), json.dumps(again), end])
        wait_until(lambda: (live / "journeys.duckdb").exists() and count_rows(live, "events") == 2)
    (row,) = ask(live, "SELECT accepted, duplicate, late, dead FROM ledger")
    assert row == counts


def test_poison_is_counted_and_stops_nothing(aws: FakeAws, tmp_path: Path) -> None:
    queue, live = aws.make_queue(True), tmp_path / "live"
    good = wrap_eventbridge(make_record("good", "u", START_S, "view"), 1).decode()
    bodies = [
        "no json",
        " ",
        "{",
        "[]",
        "null",
        '"' + "x" * 5000,
        good.replace(", ", ",\n"),
        wrap_eventbridge(END, 2).decode(),
    ]
    with running(live, make_config(make_rules(aws.endpoint, queue), "eventbridge")):
        aws.send(queue, bodies)
        wait_until(lambda: (live / "journeys.duckdb").exists() and count_rows(live, "sessions") == 1)
    assert ask(live, "SELECT source_position FROM dead_letters") == [f"({offset},)" for offset in range(6)]
    assert ask(live, "SELECT event_id, source FROM events") == [f"('good', 's/{queue.rpartition('/')[2]}')"]
    assert aws.count(queue) == (0, 0)


def test_unknown_queue_ends_the_job_with_an_error(aws: FakeAws, tmp_path: Path) -> None:
    rules = make_rules(aws.endpoint, f"{aws.endpoint}/{ACCOUNT}/none")
    with (
        pytest.raises(ReceiverError, match="see that the queue exists"),
        running(tmp_path, make_config(rules, "eventbridge")),
    ):
        time.sleep(3)
