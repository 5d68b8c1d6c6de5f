"""The sources of a live job: secrets filled in, partitions found, receivers made."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from clock import Clock
from config import Config, InputRules, SourceRules, TopicRules
from errors import ConfigError
from flows.decoding import choose_input
from flows.growth import Look
from sinks.storage import pass_point
from sources.collector import make_collector
from sources.inbox import Inbox
from sources.inbox_feed import InboxPart, choose_folder
from sources.kafka import KafkaPart
from sources.kafka_messages import find_wanted
from sources.kafka_topics import PATIENCE_S, list_partitions
from sources.live import LivePart
from sources.rabbit import check_queues
from sources.rabbit_messages import Reading
from sources.rabbit_queue import QueueReceiver
from sources.rabbit_stream import StreamPart
from sources.receiving import Receiver
from sources.webhook import make_webhook

Rules = TypeVar("Rules", SourceRules, TopicRules)
LOOK_S = 1.0  # a stop waits for no longer than that


@dataclass(frozen=True)
class Surroundings:
    """What every source is made with; `limit`: the largest size of a record, `inboxes`: the folder of all inboxes.

    `input`: how records are read where a source does not say.
    """

    limit: int
    clock: Clock
    inboxes: Path
    input: InputRules = field(default_factory=InputRules)


@dataclass
class Sources:
    """Partitions to read, what fills those that are inboxes, and how to ask a source for the partitions it has now."""

    parts: list[LivePart] = field(default_factory=list)
    receivers: list[Receiver] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)


def find_sources(config: Config, environment: Mapping[str, str], around: Surroundings) -> Sources:
    """Find the partitions of all sources, and open their inboxes; raises ConfigError, InputError, FormatError."""
    found = Sources()
    for rules in config.sources:
        FINDERS[rules.kind](fill_in(rules, environment), around, found)
    return found


def _find_kafka(rules: SourceRules, around: Surroundings, found: Sources) -> None:
    wanted = find_wanted(choose_input(around.input, rules))

    def look(patience_s: float = LOOK_S) -> list[LivePart]:
        return [
            KafkaPart(rules, topic, number, around.limit, around.clock, wanted)
            for topic, number in list_partitions(rules, patience_s)
        ]

    found.parts += look(PATIENCE_S)
    found.looks.append(look)


def _find_rabbit(rules: SourceRules, around: Surroundings, found: Sources) -> None:
    check_queues(rules)
    reading = Reading(around.clock, choose_input(around.input, rules).format == "cloudevents")
    for queue in rules.queues:
        found.receivers.append(QueueReceiver(rules, queue, _add_inbox(rules, queue, around, found), reading))
    for stream in rules.streams:
        _add_part(StreamPart(rules, stream, around.limit, reading), found)


def _add_inbox(rules: SourceRules, queue: str, around: Surroundings, found: Sources) -> Inbox:
    inbox = Inbox(choose_folder(around.inboxes, rules, queue), rules.backlog)
    inbox.pass_point = pass_point
    _add_part(InboxPart(rules, queue, inbox, around.limit), found)
    return inbox


def _find_sqs(rules: SourceRules, around: Surroundings, found: Sources) -> None:
    # The clients of both clouds are loaded only where there is something to pull from them.
    from sources.sqs import make_receiver, name_queue

    for url in rules.queues:
        inbox = _add_inbox(rules, name_queue(rules, url), around, found)
        found.receivers.append(make_receiver(rules, url, inbox, around.clock))


def _find_eventgrid(rules: SourceRules, around: Surroundings, found: Sources) -> None:
    from sources.eventgrid import make_receiver

    for name in rules.subscriptions:
        found.receivers.append(make_receiver(rules, name, _add_inbox(rules, name, around, found), around.clock))


def _add_part(part: LivePart, found: Sources) -> None:
    if any(part.name == other.name for other in found.parts):
        raise ConfigError(
            f"[[source]] {part.rules.name}: two of its partitions would be called {part.name}",
            remedy="make one [[source]] for each, with names of their own",
        )
    found.parts.append(part)


def _find_collector(rules: SourceRules, around: Surroundings, found: Sources) -> None:
    found.receivers.append(make_collector(rules, _add_inbox(rules, "collector", around, found), around.clock))


def _find_webhook(rules: SourceRules, around: Surroundings, found: Sources) -> None:
    found.receivers.append(make_webhook(rules, _add_inbox(rules, "webhook", around, found), around.clock))


FINDERS: dict[str, Callable[[SourceRules, Surroundings, Sources], None]] = {
    "kafka": _find_kafka,
    "sqs": _find_sqs,
    "eventgrid": _find_eventgrid,
    "rabbitmq": _find_rabbit,
    "collector": _find_collector,
    "webhook": _find_webhook,
}


def fill_in(rules: Rules, environment: Mapping[str, str]) -> Rules:
    """Replace every ${NAME} in the settings of a source or sink by the environment's variable; raises ConfigError."""
    kind = "source" if isinstance(rules, SourceRules) else "sink"

    def find(match: re.Match[str]) -> str:
        if match[1] not in environment:
            raise ConfigError(
                f"[[{kind}]] {rules.name}: the variable {match[1]} is not set",
                remedy=f"set it: export {match[1]}=…",
            )
        return environment[match[1]]

    def fill(value: Any) -> Any:
        if isinstance(value, str):
            return re.sub(r"\$\{(\w+)\}", find, value)
        if isinstance(value, tuple):
            return tuple(fill(one) for one in value)
        if isinstance(value, dict):
            return {name: fill(one) for name, one in value.items()}
        return value

    return replace(rules, **{one.name: fill(getattr(rules, one.name)) for one in fields(rules)})
