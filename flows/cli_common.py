"""What the commands share: options, where words and data go, and how errors end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

DEFAULT_WAREHOUSE = Path("warehouse")
DEFAULT_CONFIG = Path("journey.toml")

Warehouse = Annotated[
    Path, typer.Option("--warehouse", "-w", metavar="DIR", help="Folder of the tables.", show_default="warehouse")
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="Settings.", show_default="journey.toml, if there is one"),
]
Recovery = Annotated[
    Path | None,
    typer.Option(
        "--recovery", metavar="DIR", help="Folder of the recovery store.", show_default="inside the warehouse"
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def speak_out() -> Console:
    """Return the console of results: standard output."""
    return Console(highlight=False, soft_wrap=False)


def speak_aside() -> Console:
    """Return the console of progress and remarks: standard error."""
    return Console(stderr=True, highlight=False)


def print_json(value: Any) -> None:
    """Print a value as JSON on standard output."""
    typer.echo(json.dumps(value, indent=1, default=str))


def find_config(given: Path | None) -> Path | None:
    """Return the config to use: the one named, else journey.toml where there is one."""
    return given if given is not None or not DEFAULT_CONFIG.exists() else DEFAULT_CONFIG
