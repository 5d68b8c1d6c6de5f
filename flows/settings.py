"""journey.toml to the frozen settings of `config`; every mistake is a ConfigError that points at its place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from config import (
    Config,
    DeadLetterLimit,
    FunnelRules,
    InputRules,
    JobRules,
    LogRules,
    ServeRules,
    SessionRules,
    SourceRules,
    StepRule,
    TopicRules,
)
from errors import ConfigError
from events.steps import compile_rule
from flows.settings_document import Document, read_document, suggest
from flows.settings_keys import (
    DEAD_LETTERS,
    EVERY_SOURCE,
    FIELDS,
    FUNNEL,
    INPUT,
    JOB,
    LOG,
    SECTIONS,
    SERVE,
    SESSIONS,
    SINK,
    SOURCE,
    SOURCE_KINDS,
    STAGE,
    STEPS,
    TOP_LEVEL,
    Key,
    Keys,
    list_keys,
)
from flows.settings_lines import KeyPath
from flows.settings_values import BadValueError

__all__ = ["list_keys", "load_config"]

_NO_OVERRIDES: Mapping[str, object] = MappingProxyType({})


def load_config(path: Path | None, overrides: Mapping[str, object] = _NO_OVERRIDES) -> Config:
    """Read the settings from a file, or the defaults where there is none; raises ConfigError.

    `overrides` maps dotted keys (`sessions.gap`) to values that win over the file's; None counts as not given.
    """
    document = read_document(path, overrides)
    _refuse_unknown(document, (), TOP_LEVEL)
    shared = _read_input(document)
    return Config(
        sessions=SessionRules(**_read_section(document, ("sessions",), SESSIONS)),
        input=shared,
        steps=_read_steps(document),
        stages=_read_stages(document),
        funnels=_read_funnels(document),
        dead_letters=DeadLetterLimit(**_read_section(document, ("dead_letters",), DEAD_LETTERS)),
        job=JobRules(**_read_section(document, ("job",), JOB)),
        serve=ServeRules(**_read_section(document, ("serve",), SERVE)),
        log=LogRules(**_read_section(document, ("log",), LOG)),
        sources=_read_sources(document, shared),
        sinks=_read_sinks(document),
    )


def _read_section(document: Document, path: KeyPath, keys: Keys, *tables: str) -> dict[str, Any]:
    """Read the keys of one table as arguments of its dataclass; `tables` are the names of tables inside it."""
    values = _get_table(document, path)
    _refuse_unknown(document, path, (*keys, *tables))
    for name, key in keys.items():
        if key.required and name not in values:
            raise document.fail(path, f"the key {name!r} is missing", "see docs/config.md")
    return {
        key.field or name: _read_value(document, (*path, name), key) for name, key in keys.items() if name in values
    }


def _get_table(document: Document, path: KeyPath) -> dict[str, Any]:
    values = document.get(path)
    if values is None:
        return {}
    if not isinstance(values, dict):
        header = ".".join(str(part) for part in path) if path != ("funnels",) else "funnels.NAME"
        raise document.fail(path, "should be a table", f"write [{header}] on a line of its own, and its keys below")
    return values


def _refuse_unknown(document: Document, path: KeyPath, known: tuple[str, ...]) -> None:
    for name in _get_table(document, path):
        if name not in known:
            raise document.fail((*path, name), "unknown key", _suggest_key(path, name, known))


def _suggest_key(path: KeyPath, name: str, known: tuple[str, ...]) -> str:
    if path[:1] == ("source",) and name in FIELDS and name not in known:
        return f"{name!r} belongs in [source.fields]"
    here = ".".join(str(part) for part in path)
    for section, keys in SECTIONS.items():
        if name in keys and section != here and name not in known:
            return f"{name!r} belongs in [{section}]"
    return suggest(name, known)


def _read_value(document: Document, path: KeyPath, key: Key) -> Any:
    try:
        return key.read(document.get(path))
    except BadValueError as error:
        at = path if error.at is None else (*path, error.at)
        remedy = f"did you mean {error.nearest}?" if error.nearest else "see docs/config.md"
        raise document.fail(at, f"should be {error.expected}", remedy) from None


def _read_input(document: Document) -> InputRules:
    arguments = _read_section(document, ("input",), INPUT, "fields")
    rules = InputRules(**arguments, fields=_read_section(document, ("input", "fields"), FIELDS))
    if rules.format == "fields":
        _check_mapped(document, ("input",), rules.fields, rules.event_name)
    return rules


def _check_mapped(document: Document, section: KeyPath, fields: Mapping[str, tuple[str, ...]], event_name: str) -> None:
    """Refuse a mapping that stands alone and leaves out what every event needs."""
    place: KeyPath = (*section, "fields") if fields else (*section, "format")
    needed = 'with format = "fields" every column has to be mapped: '
    if "event_time" not in fields:
        raise document.fail(place, f"{needed}event_time is missing", 'for instance event_time = "timestamp"')
    if not {"device_id", "user_id"} & fields.keys():
        raise document.fail(place, f"{needed}device_id or user_id is missing", 'for instance user_id = "customer.id"')
    if not ({"event_name", "event_type"} & fields.keys() or event_name):
        raise document.fail(
            place, f"{needed}event_name is missing", 'for instance event_name = "action", or event_name under [input]'
        )


def _read_steps(document: Document) -> tuple[StepRule, ...]:
    entries = document.get(("steps",))
    if entries is None:
        return ()
    if not isinstance(entries, list):
        raise document.fail(("steps",), "should be a list of rules", "write [[steps]] above each rule's name and where")
    rules = []
    for number in range(len(entries)):
        path: KeyPath = ("steps", number)
        rule = StepRule(**_read_section(document, path, STEPS))
        try:
            compile_rule(rule)
        except ConfigError as error:
            raise document.fail((*path, "where"), error.problem, error.remedy) from None
        rules.append(rule)
    return tuple(rules)


def _read_sources(document: Document, shared: InputRules) -> tuple[SourceRules, ...]:
    entries = document.get(("source",))
    if entries is None:
        return ()
    if not isinstance(entries, list):
        raise document.fail(("source",), "should be a list of sources", "write [[source]] above each one's keys")
    sources: list[SourceRules] = []
    for number in range(len(entries)):
        path: KeyPath = ("source", number)
        arguments = _read_section(document, path, SOURCE, "fields")
        fields = _read_section(document, (*path, "fields"), FIELDS)
        sources.append(SourceRules(**arguments, fields=fields))
        if sources[-1].format == "fields":
            _check_mapped(document, path, fields, sources[-1].event_name or shared.event_name)
        _check_kind(document, path, sources[-1].kind)
        if any(other.name == sources[-1].name for other in sources[:-1]):
            raise document.fail((*path, "name"), "another source has this name", "give each source a name of its own")
    return tuple(sources)


def _read_sinks(document: Document) -> tuple[TopicRules, ...]:
    entries = document.get(("sink",))
    if entries is None:
        return ()
    if not isinstance(entries, list):
        raise document.fail(("sink",), "should be a list of sinks", "write [[sink]] above each one's keys")
    sinks = [TopicRules(**_read_section(document, ("sink", number), SINK)) for number in range(len(entries))]
    for number, rules in enumerate(sinks):
        if any(other.name == rules.name for other in sinks[:number]):
            raise document.fail(("sink", number, "name"), "another sink has this name", "give each a name of its own")
    return tuple(sinks)


def _check_kind(document: Document, path: KeyPath, kind: str) -> None:
    """Refuse a source that lacks what its kind needs, or has what only other kinds know."""
    needed, allowed = SOURCE_KINDS[kind]
    values = _get_table(document, path)
    for names in needed:
        if not any(name in values for name in names):
            missing = " or ".join(repr(name) for name in names)
            raise document.fail(path, f"the key {missing} is missing", f"a source of kind {kind!r} needs it")
    known = {*EVERY_SOURCE, *allowed, *(name for names in needed for name in names)}
    for name in values:
        if name not in known:
            remedy = f"{kind!r} knows: {', '.join(sorted(known))}"
            raise document.fail((*path, name), f"not a key of a source of kind {kind!r}", remedy)


def _read_stages(document: Document) -> dict[str, tuple[str, ...]]:
    stages: dict[str, tuple[str, ...]] = {}
    stage_of: dict[str, str] = {}
    for stage in _get_table(document, ("stages",)):
        path: KeyPath = ("stages", stage)
        _refuse_blank(document, path)
        stages[stage] = _read_value(document, path, STAGE)
        for number, step in enumerate(stages[stage]):
            if step in stage_of:
                raise document.fail(
                    (*path, number), f"the step is in {stage_of[step]!r} already", "give a step one stage, named once"
                )
            stage_of[step] = stage
    return stages


def _refuse_blank(document: Document, path: KeyPath) -> None:
    if not str(path[-1]).strip():
        raise document.fail(path, "has no name", "give it a name, as in [funnels.purchase] or Purchase = [...]")


def _read_funnels(document: Document) -> tuple[FunnelRules, ...]:
    names = _get_table(document, ("funnels",))
    for name in names:
        _refuse_blank(document, ("funnels", name))
        if not isinstance(names[name], dict):
            table = f"[funnels.{name}]" if name not in FUNNEL else "[funnels.NAME], with a name of your own"
            raise document.fail(("funnels", name), "should be a table", f"write {table}, with steps below")
    return tuple(FunnelRules(name=name, **_read_section(document, ("funnels", name), FUNNEL)) for name in names)
