"""docs/commands.md, README.md and docs/dependencies.md against the command line, the Makefile and pyproject.toml."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer

from flows.cli import app
from sources.discover import KINDS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
DEPENDENCIES = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")


class Row(NamedTuple):
    """One option in a table of the page."""

    command: str
    names: tuple[str, ...]
    default: str


def read_rows() -> list[Row]:
    rows, command = [], ""
    for line in PAGE.splitlines():
        if line.startswith("## "):
            command = line.removeprefix("## journeys ")
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 3 and cells[0].startswith("`"):
            rows.append(Row(command, tuple(re.findall(r"`([^`]+)`", cells[0])), cells[2]))
    return rows


def list_parameters() -> dict[tuple[str, str], Any]:
    """Return every visible option and argument of the real command line by command and first name."""
    group: Any = typer.main.get_command(app)
    return {
        (name, parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.metavar): parameter
        for name, command in group.commands.items()
        for parameter in command.params
        if not getattr(parameter, "hidden", False) and parameter.name != "help"
    }


ROWS = read_rows()
PARAMETERS = list_parameters()


def test_every_command_has_its_section_and_no_other() -> None:
    sections = re.findall(r"^## journeys (\w+)$", PAGE, re.MULTILINE)
    assert sections == list(dict.fromkeys(command for command, _ in PARAMETERS))


def test_documented_options_are_the_real_ones_each_once() -> None:
    assert sorted((row.command, row.names[0]) for row in ROWS) == sorted(PARAMETERS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.command} {row.names[0]}")
def test_names_and_default_are_the_real_ones(row: Row) -> None:
    parameter = PARAMETERS[row.command, row.names[0]]
    if row.names[0].startswith("-"):
        assert set(row.names) == set(parameter.opts)
    if parameter.required:
        assert row.default == "required"
    elif parameter.default is False:
        assert row.default == "off"
    elif isinstance(getattr(parameter, "show_default", None), str):
        assert row.default.replace("`", "") == parameter.show_default
    else:
        assert row.default == f"`{parameter.default}`"


def test_every_command_is_in_the_overview() -> None:
    overview = PAGE[: PAGE.index("## journeys")]
    assert set(re.findall(r"\]\(#journeys-(\w+)\)", overview)) == {command for command, _ in PARAMETERS}


def test_every_ending_that_a_replay_reads_is_named() -> None:
    assert all(f"`{ending}`" in PAGE for ending in KINDS)


def test_make_help_lists_the_targets_of_the_readme_and_all_others() -> None:
    if shutil.which("make") is None:
        pytest.skip("no make here")
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    helped = {line.split()[0] for line in listed.splitlines() if line.startswith("  ")}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)", README)) == helped == targets
    phony = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert phony is not None
    assert set(phony[1].split()) == targets


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", "data/README.md", "docs/commands.md", "docs/deploy.md"]
)
def test_links_lead_to_files(page: str) -> None:
    path = ROOT / page
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
    missing = [target for target in targets if "://" not in target and not (path.parent / target).exists()]
    assert missing == []


def test_every_dependency_has_a_line_that_says_why() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    names = {match[0] for one in wanted if (match := re.match(r"[\w-]+", one))}
    assert set(re.findall(r"^\| `([\w-]+)` \|", DEPENDENCIES, re.MULTILINE)) == names


def test_every_dependency_has_an_exact_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower().splitlines()
    pinned = {line.split("==")[0].strip() for line in lines if not line.startswith("#")}
    assert {re.split(r"[^\w-]", one)[0].lower() for one in wanted} <= pinned
