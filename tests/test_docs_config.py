"""docs/config.md against the table of keys: nothing missing, nothing invented, defaults and examples right."""

from __future__ import annotations

import re
import sys
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from config import Config, FunnelRules, SourceRules, TopicRules
from events.steps import FUNCTIONS, RULE_COLUMNS
from flows.settings import list_keys, load_config
from flows.settings_keys import SINK, SOURCE_KINDS, STEPS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PAGE = (Path(__file__).parents[1] / "docs" / "config.md").read_text(encoding="utf-8")
SECTION_OF = {"steps": "[[steps]]", "sink": "[[sink]]", "source": "[[source]]", "input.fields": "[input.fields]"}


class Row(NamedTuple):
    """One line of a table of the page."""

    section: str
    key: str
    default: str
    example: str


def read_rows() -> list[Row]:
    rows, section = [], ""
    for line in PAGE.splitlines():
        if line.startswith("#"):
            section = line.lstrip("# ")
        match = re.fullmatch(r"\| `([\w.]+)` \| (.+?) \| ([^|]+) \| ([^|]+) \|", line)
        if match:
            rows.append(Row(section, match[1], match[3].strip(), match[4].strip()))
    return rows


def read_value(cell: str) -> Any:
    return tomllib.loads(f"value = {cell[2:-2] if cell.startswith('``') else cell[1:-1]}")["value"]


ROWS = read_rows()


def test_documented_keys_are_the_accepted_ones_each_once() -> None:
    assert sorted(row.key for row in ROWS) == sorted(list_keys())


def test_every_table_row_of_the_page_was_understood() -> None:
    assert len(ROWS) == sum(line.startswith("| `") for line in PAGE.splitlines())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_key_stands_under_its_section(row: Row) -> None:
    section = row.key.rpartition(".")[0]
    assert row.section == SECTION_OF.get(section, f"[{section}]")


def get_default(row: Row) -> object:
    """Return the value that the code falls back to."""
    section, _, name = row.key.rpartition(".")
    if section == "funnels.NAME":
        return next(one.default for one in fields(FunnelRules) if one.name == name)
    if section in ("source", "sink"):
        rules = SourceRules if section == "source" else TopicRules
        return next(one.default for one in fields(rules) if one.name == name)
    return getattr(getattr(Config(), section), list_keys()[row.key].field or name)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_documented_default_is_the_one_in_code(row: Row) -> None:
    key = list_keys()[row.key]
    if key.required:
        assert row.default == "required"
    elif row.key.startswith("input.fields."):
        assert row.default == "preset"
    elif row.default == "none":
        assert row.key in ("stages.NAME", "source.fields.COLUMN") or get_default(row) in ((), "", MISSING)
    elif row.default == "as `[input]`":
        assert row.key.startswith("source.")
        assert get_default(row) == ""
    else:
        assert key.read(read_value(row.default)) == get_default(row)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_example_is_accepted_and_is_not_the_default(row: Row) -> None:
    value = list_keys()[row.key].read(read_value(row.example))
    only_one = row.key == "sink.kind"  # so far
    words = ("required", "preset", "none", "as `[input]`")
    assert row.default in words or value != get_default(row) or only_one


def test_all_examples_together_are_a_config() -> None:
    options: dict[str, Any] = {
        row.key: read_value(row.example) for row in ROWS if not row.key.startswith(("steps.", "source.", "sink."))
    }
    examples = {row.key: read_value(row.example) for row in ROWS}
    options["sink"] = [{name: examples[f"sink.{name}"] for name in SINK}]
    options["steps"] = [{name: examples[f"steps.{name}"] for name in STEPS}]
    options["source"] = [
        {name: examples[f"source.{name}"] for name in ("format", *(one for names in needed for one in names), *allowed)}
        | {"name": kind, "kind": kind}
        for kind, (needed, allowed) in SOURCE_KINDS.items()
    ]
    config = load_config(None, options)
    assert len(config.input.fields) == 12
    assert config.steps[0].name == "product"
    assert config.sources[0].settings == {"security.protocol": "SASL_SSL"}


def find_names(start: str, end: str) -> set[str]:
    text = PAGE[PAGE.index(start) + len(start) :]
    return set(re.findall(r"`(\w+)`", text[: text.index(end)]))


def test_columns_and_functions_of_conditions_are_all_named() -> None:
    assert find_names("The columns:", "(JSON text)") == set(RULE_COLUMNS)
    assert find_names("Only functions of one event can be called:", "Aggregates") == set(FUNCTIONS)


def test_the_error_shown_on_the_page_is_the_one_a_user_gets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("journey.toml").write_text('[sessions]\ngap = "30min"\n', encoding="utf-8")
    with pytest.raises(Exception, match="30min") as caught:
        load_config(Path("journey.toml"))
    assert f"```\n{caught.value}\n```" in PAGE
