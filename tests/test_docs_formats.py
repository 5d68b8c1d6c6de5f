"""docs/formats.md against the formats: a section and a row for each, fields that are read, settings that load."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from events.formats.registry import FORMATS
from events.presets import MAPPED, build_mapping
from flows.settings import load_config

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "formats.md").read_text(encoding="utf-8")
SECTIONS = {section.splitlines()[0]: section for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]}
SUPPORT_DESK = Path(__file__).parents[1] / "data" / "examples" / "support-desk.toml"
DECIDING = {"snowplow": [("page", "event_name"), ("properties", "event")]}


def read_columns(section: str) -> list[str]:
    return re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE)


def test_every_format_has_its_section_and_its_row_at_the_top() -> None:
    assert list(SECTIONS)[: len(FORMATS)] == list(FORMATS)
    assert re.findall(r"^\| \[`(\w+)`\]\(#", PAGE, flags=re.MULTILINE) == [*FORMATS, "fields"]


@pytest.mark.parametrize("name", FORMATS)
def test_section_lists_the_columns_and_all_that_they_are_made_from(name: str) -> None:
    assert read_columns(SECTIONS[name]) == list(MAPPED)
    rows = {match[1]: match[2] for match in re.finditer(r"^\| `(\w+)` \| (.+) \|$", SECTIONS[name], flags=re.MULTILINE)}
    # Of nested columns the keys are told; what only decides on others, in words.
    plain = {source for source, kind in FORMATS[name].columns.items() if kind == "VARCHAR"}
    named = [
        (column, source) for column, sources in FORMATS[name].uses.items() for source in sources if source in plain
    ]
    missing = [pair for pair in named if f"`{pair[1]}`" not in rows[pair[0]]]
    assert missing == DECIDING.get(name, [])


@pytest.mark.parametrize("name", FORMATS)
def test_settings_of_a_section_are_accepted(name: str) -> None:
    (text,) = re.findall(r"^```toml\n(.*?)^```$", SECTIONS[name], flags=re.MULTILINE | re.DOTALL)
    rules = load_config(None, tomllib.loads(text)).input
    assert rules.format == name
    assert rules.fields
    assert build_mapping(rules).tabs == FORMATS[name].tabs


def test_support_desk_is_told_as_it_is_mapped() -> None:
    fields = load_config(SUPPORT_DESK).input.fields
    section = next(text for title, text in SECTIONS.items() if title.startswith("A support desk"))
    assert set(read_columns(section)) == {*fields, "channel"}
    assert all(f"`{path}`" in section for paths in fields.values() for path in paths)


def test_other_pages_name_every_format() -> None:
    row = next(
        line for line in (DOCS / "config.md").read_text(encoding="utf-8").splitlines() if "| `input.format` |" in line
    )
    assert all(f'`"{name}"`' in row for name in (*FORMATS, "segment", "rudderstack", "fields"))
    for page in (DOCS / "input.md", DOCS.parent / "README.md"):
        assert "formats.md)" in page.read_text(encoding="utf-8")
