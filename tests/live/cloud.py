"""Records in the envelopes of both clouds, and replays of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from config import HOUR, SECOND, Config, InputRules, JobRules, SessionRules, SourceRules
from flows.replay import ReplayOptions, run_replay
from tests.live.support import FUNNELS, end_records, make_records


def make_calls(count: int, seed: int) -> list[bytes]:
    """Make Segment's calls of one partition with an event two days later at the end; those that are no JSON are left out."""
    (calls,) = end_records(make_records(1, count, seed))
    return [call for call in calls if call.endswith(b"}")]


def wrap_eventbridge(call: bytes, number: int) -> bytes:
    """Put a call into the envelope in which a rule of Amazon EventBridge delivers it."""
    detail = json.loads(call)
    event = {
        "version": "0",
        "id": f"e-{number}",
        "detail-type": detail["type"],
        "source": "aws.partner/segment.com/shop",
        "account": "123456789012",
        "time": detail["timestamp"][:19] + "Z",
        "region": "eu-west-1",
        "resources": [],
        "detail": detail,
    }
    return json.dumps(event).encode()


def wrap_cloudevent(call: bytes, number: int) -> bytes:
    """Put a call into a CloudEvent."""
    data = json.loads(call)
    event = {
        "specversion": "1.0",
        "id": f"e-{number}",
        "source": "/shop",
        "type": data["type"],
        "time": data["timestamp"],
    }
    return json.dumps({**event, "data": data}).encode()


def make_config(rules: SourceRules, form: str) -> Config:
    """Make the config of a job that reads one source, and of a replay of its records."""
    return Config(
        sessions=SessionRules(allowed_lateness=HOUR),
        input=InputRules(format=form),
        funnels=FUNNELS,
        sources=(rules,),
        job=JobRules(snapshot=SECOND // 2, archive=True),
    )


def replay_archive(warehouse: Path, config: Config, replayed: Path) -> None:
    """Replay the archive of a live job into a warehouse of its own."""
    options = ReplayOptions((str(warehouse / "_journeys" / "archive"),), replayed)
    assert run_replay(options, config).outcome == "finished"


def replay_lines(folder: Path, lines: list[bytes], config: Config, replayed: Path) -> None:
    """Replay lines from a file."""
    folder.mkdir(parents=True)
    (folder / "all.ndjson").write_bytes(b"".join(line + b"\n" for line in lines))
    options = ReplayOptions((f"{folder}/*.ndjson",), replayed)
    assert run_replay(options, replace(config, job=JobRules())).outcome == "finished"
