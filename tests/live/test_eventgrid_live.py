"""A live job on a stand-in for Event Grid: the tables of a replay, whatever happens to the job, the namespace or the events."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from config import SourceRules
from errors import ReceiverError
from tests.brokers.eventgrid import KEY, FakeEventGrid
from tests.live.cloud import make_calls, make_config, replay_archive, replay_lines, wrap_cloudevent
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
TOML = """
[sessions]
allowed_lateness = "1h"
[job]
snapshot = "300ms"
archive = true
[funnels.purchase]
steps = ["view", "add", "buy"]
[input]
format = "cloudevents"
[[source]]
name = "s"
kind = "eventgrid"
endpoint = "{endpoint}"
key = "{key}"
subscriptions = ["clicks/journeys"]
"""


def make_rules(grid: FakeEventGrid, key: str = KEY) -> SourceRules:
    return SourceRules("s", "eventgrid", endpoint=grid.endpoint, key=key, subscriptions=("clicks/journeys",))


def test_killed_between_inbox_and_acknowledgement_a_job_gives_the_same_tables(
    event_grid: FakeEventGrid, tmp_path: Path
) -> None:
    """Killed by SIGKILL at points of the commit too, and with the namespace gone for a while."""
    lines = [wrap_cloudevent(call, number) for number, call in enumerate(make_calls(1_000, seed=7))]
    config, live, replayed = (
        make_config(make_rules(event_grid), "cloudevents"),
        tmp_path / "live",
        tmp_path / "replayed",
    )
    replay_lines(tmp_path / "files", lines, config, replayed)
    subscription = event_grid.subscribe("clicks", "journeys", lock_s=1)
    text, step = TOML.format(endpoint=event_grid.endpoint, key=KEY), len(lines) // 4
    for number, point in enumerate(["", "epoch_durable:2", ""]):
        part = lines[number * step : (number + 1) * step]
        job = Process(tmp_path, text, live, point)
        event_grid.put("clicks", *part[:100])
        if not point:
            wait_until(lambda: not subscription.waiting and not subscription.locked)
            event_grid.holding = "acknowledge"
        event_grid.put("clicks", *part[100:])
        wait_until(job.has_ended if point else event_grid.has_held.is_set)
        job.kill()
        event_grid.holding = ""
        event_grid.has_held.clear()
    job = Process(tmp_path, text, live)
    event_grid.put("clicks", *lines[3 * step : -100])
    wait_until(lambda: not subscription.waiting)
    event_grid.stop()
    time.sleep(0.5)
    event_grid.start()
    event_grid.put("clicks", *lines[-100:])
    expect_sessions(live, replayed)
    code, told = job.stop()
    assert code == 0, told
    assert subscription.dead == []
    assert_same(live, replayed)
    replay_archive(live, config, tmp_path / "proof")
    assert_same(live, tmp_path / "proof")


def test_poison_is_counted_and_stops_nothing(event_grid: FakeEventGrid, tmp_path: Path) -> None:
    subscription, live = event_grid.subscribe("clicks", "journeys"), tmp_path / "live"
    good = wrap_cloudevent(make_record("good", "u", START_S, "view"), 1)
    poison = [b"null", b"{}", b"[]", b'"x"', b'{"id":"1","source":"/s","data":' + b"[" * 3_000 + b"]" * 3_000 + b"}"]
    end = make_record("end", SENTINEL, START_S + 90_000, SENTINEL)
    with running(live, make_config(make_rules(event_grid), "cloudevents")):
        event_grid.put("clicks", *poison, good.replace(b", ", b",\n"), wrap_cloudevent(end, 2))
        wait_until(lambda: (live / "journeys.duckdb").exists() and count_rows(live, "sessions") == 1)
    assert ask(live, "SELECT source_position FROM dead_letters") == [f"({offset},)" for offset in range(5)]
    assert ask(live, "SELECT event_id, source FROM events") == ["('good', 's/clicks/journeys')"]
    assert not subscription.locked


def test_wrong_key_ends_the_job_with_an_error(event_grid: FakeEventGrid, tmp_path: Path) -> None:
    event_grid.subscribe("clicks", "journeys")
    config = make_config(make_rules(event_grid, "wrong"), "cloudevents")
    with pytest.raises(ReceiverError, match="access keys"), running(tmp_path, config):
        time.sleep(3)
