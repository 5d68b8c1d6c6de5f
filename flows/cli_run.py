"""`journeys run`."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli_common import DEFAULT_WAREHOUSE, ConfigFile, Recovery, Warehouse, find_config, speak_aside, speak_out
from flows.live import LiveOptions, run_live
from flows.progress import ReplayProgress
from flows.settings import load_config
from maps.status import read_status
from sinks.storage import Folders


def run(
    config: ConfigFile = None,
    warehouse: Warehouse = DEFAULT_WAREHOUSE,
    workers: Annotated[int, typer.Option(min=1, metavar="N", help="Threads of the process.")] = 1,
    recovery: Recovery = None,
) -> None:
    """Consume the brokers of journey.toml into the warehouse until Ctrl-C or SIGTERM."""
    settings = load_config(find_config(config))
    options = LiveOptions(warehouse, workers=workers, recovery=recovery)
    with ReplayProgress(speak_aside()) as shown:
        run_live(options, settings, shown.watch)
    status = read_status(Folders(warehouse))
    speak_out().print(
        f"Stopped at an epoch; {warehouse} holds {status.rows('sessions'):,} sessions of"
        f" {status.rows('events'):,} events so far. Give the same command again to go on."
    )
