"""Settings as frozen values, one per stage; made by `flows.settings` from journey.toml."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


@dataclass(frozen=True)
class SessionRules:
    """Session gap, longest session and allowed lateness, microseconds."""

    gap: int = 30 * MINUTE
    max_session: int = 24 * HOUR
    allowed_lateness: int = MINUTE
    max_path_steps: int = 50


@dataclass(frozen=True)
class InputRules:
    """How records become events: `fields` maps a canonical column to source paths, the first present wins."""

    format: str = "segment"
    fields: dict[str, tuple[str, ...]] = field(default_factory=dict)
    time_unit: str = "auto"
    channel: str = "unknown"
    event_name: str = ""
    max_record_bytes: int = 1 << 20
    max_future: int = HOUR
    lanes: str = "auto"


@dataclass(frozen=True)
class StepRule:
    """Events for which the SQL condition holds get the step `name`; the first rule wins."""

    name: str
    where: str


@dataclass(frozen=True)
class FunnelRules:
    """Steps to be reached in order within the window (microseconds, inclusive), per person or per session."""

    name: str
    steps: tuple[str, ...]
    within: int = 7 * DAY
    scope: str = "person"


@dataclass(frozen=True)
class DeadLetterLimit:
    """The job stops past `share` of the records once `count` of them are dead."""

    count: int = 1_000
    share: float = 0.5


@dataclass(frozen=True)
class SourceRules:
    """What to read live, by `kind`; a field that a kind does not know stays as it is here.

    `format` is the kind's own where it is empty, or else that of `[input]`, as are `channel`, `event_name`, `time_unit`;
    `fields` lies over the format. `backlog`: bytes that may wait in an inbox.
    """

    name: str
    kind: str = "kafka"
    format: str = ""
    fields: dict[str, tuple[str, ...]] = field(default_factory=dict)
    time_unit: str = ""
    channel: str = ""
    event_name: str = ""
    servers: str = ""
    topics: tuple[str, ...] = ()
    group: str = "journeystream"
    start: str = "earliest"
    settings: dict[str, str] = field(default_factory=dict)
    url: str = ""
    queues: tuple[str, ...] = ()
    streams: tuple[str, ...] = ()
    prefetch: int = 2_000
    region: str = ""
    endpoint: str = ""
    subscriptions: tuple[str, ...] = ()
    key: str = ""
    listen: str = ""
    keys: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    max_body: int = 1 << 20
    backlog: int = 1 << 28


# The fields of a source that say how its records are read, as `[input]` does for those that don't say.
READING = ("format", "fields", "time_unit", "channel", "event_name")


@dataclass(frozen=True)
class TopicRules:
    """Where committed rows are sent to: a topic, which tables, and the column that is a message's key, where it is one."""

    name: str
    kind: str = "kafka"
    servers: str = ""
    topic: str = ""
    tables: tuple[str, ...] = ("sessions", "funnel_steps")
    key: str = "person_id"
    settings: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class JobRules:
    """How the job runs; of these only `key_groups` and `writers` are fixed when a warehouse is made."""

    key_groups: int = 8
    writers: int = 1
    snapshot: int = 10 * SECOND
    block_bytes: int = 24 << 20
    release_rows: int = 75_000
    idle_after: int = MINUTE
    archive: bool = False
    compact_every: int = HOUR  # of a live job; 0: never


@dataclass(frozen=True)
class ServeRules:
    """Where a live job answers for its metrics and its health, as HOST:PORT; nowhere if empty."""

    listen: str = ""


@dataclass(frozen=True)
class LogRules:
    """How a live job writes its log: text | json."""

    format: str = "text"


@dataclass(frozen=True)
class Config:
    """All settings of a job."""

    sessions: SessionRules = SessionRules()
    input: InputRules = InputRules()
    steps: tuple[StepRule, ...] = ()
    stages: dict[str, tuple[str, ...]] = field(default_factory=dict)
    funnels: tuple[FunnelRules, ...] = ()
    dead_letters: DeadLetterLimit = DeadLetterLimit()
    job: JobRules = JobRules()
    serve: ServeRules = ServeRules()
    log: LogRules = LogRules()
    sources: tuple[SourceRules, ...] = ()
    sinks: tuple[TopicRules, ...] = ()

    def fingerprint(self) -> dict[str, str]:
        """Return a digest per part whose change would change the tables."""
        return {
            "sessions": _digest(asdict(self.sessions)),
            "input": _digest({k: v for k, v in asdict(self.input).items() if k != "lanes"}),
            "steps": _digest([asdict(rule) for rule in self.steps]),
            "funnels": _digest(sorted((asdict(rule) for rule in self.funnels), key=lambda rule: str(rule["name"]))),
            **{f"[[source]] {rules.name}": _digest([asdict(rules)[key] for key in READING]) for rules in self.sources},
        }


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def split_address(text: str) -> tuple[str, int]:
    """Split `HOST:PORT` or `[IPV6]:PORT`; raises ValueError."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:/\[\]]+)):(\d{1,5})", text)
    if match is None or int(match[3]) > 65_535:
        raise ValueError("not HOST:PORT")
    return match[1] or match[2], int(match[3])


def join_address(host: str, port: int) -> str:
    """Write what `split_address` splits."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
