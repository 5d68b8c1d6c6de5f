"""The sources of a live job: secrets filled in, partitions found."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

from clock import Clock
from config import Config, SourceRules
from errors import ConfigError
from sources.kafka import KafkaPart
from sources.kafka_topics import list_partitions
from sources.live import LivePart

Finder = Callable[[SourceRules, Config, Clock], list[LivePart]]


def find_parts(config: Config, environment: Mapping[str, str], clock: Clock) -> tuple[LivePart, ...]:
    """List the partitions of all sources; raises ConfigError, InputError."""
    if not config.sources:
        raise ConfigError("there is no [[source]] to read from", remedy="add one to journey.toml: see docs/live.md")
    return tuple(
        part for rules in config.sources for part in FINDERS[rules.kind](fill_in(rules, environment), config, clock)
    )


def _find_kafka(rules: SourceRules, config: Config, clock: Clock) -> list[LivePart]:
    limit = config.input.max_record_bytes
    return [KafkaPart(rules, topic, number, limit, clock) for topic, number in list_partitions(rules)]


FINDERS: dict[str, Finder] = {"kafka": _find_kafka}


def fill_in(rules: SourceRules, environment: Mapping[str, str]) -> SourceRules:
    """Replace every ${NAME} in a source's settings by the environment's variable; raises ConfigError."""

    def find(match: re.Match[str]) -> str:
        if match[1] not in environment:
            raise ConfigError(
                f"[[source]] {rules.name}: the variable {match[1]} is not set",
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
