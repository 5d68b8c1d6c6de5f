"""`journeys demo`: generate a shop's events, replay them, check them against the known truth, show what was found."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from clock import read_stopwatch
from errors import JourneyError, UsageError
from flows.cli_common import AsJson, print_json, speak_aside, speak_out
from flows.cli_replay import describe_result, run_first
from flows.generating import Made, generate_files, plan_shape, write_truth
from flows.replay import ReplayOptions
from flows.settings import load_config
from maps.pictures import draw_days, draw_funnel, draw_ledger, draw_paths, draw_transitions, list_funnels
from maps.status import WarehouseStatus, read_status
from sinks.catalog import open_views
from sinks.storage import Folders

EXAMPLE = Path(__file__).parents[1] / "data" / "examples" / "shop.toml"
FOLDER = Path("build/demo")
MARK = "demo.json"
STARTER = """\
[input]
format = "fields"              # or "segment", if your events are Segment's or RudderStack's

[input.fields]                 # yours on the right
event_time = "timestamp"
user_id = "customer.id"
device_id = "cookie"
event_name = "action"
channel = "touchpoint"
page = "url"

[[steps]]                      # the first rule that holds names the step; else it is the event's name
name = "product"
where = "page like '/product/%'"

[funnels.purchase]
steps = ["product", "add_to_cart", "order"]
within = "7d"
"""


def demo(
    folder: Annotated[Path, typer.Option(metavar="DIR", help="Where events and tables go.")] = FOLDER,
    events: Annotated[int, typer.Option(min=1000, metavar="N", help="Events to generate.")] = 300_000,
    days: Annotated[int, typer.Option(min=1, metavar="N", help="Days they are spread over.")] = 14,
    seed: Annotated[int, typer.Option(metavar="N", help="Another seed, another shop.")] = 7,
    workers: Annotated[int, typer.Option(min=1, metavar="N", help="Threads of the replay.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Generate a shop's events, replay them and show what they tell; begins anew each time."""
    remarks = speak_aside()
    inputs, warehouse = clear_folder(folder)
    remarks.print(f"1. Generating {events:,} events of a shop, a file for each channel, in {inputs} …", soft_wrap=True)
    made = generate_files(plan_shape(events, days, seed), inputs, "channel", ".ndjson")
    write_truth(made, folder / MARK)
    remarks.print(f"2. Replaying them into {warehouse} …", soft_wrap=True)
    began = read_stopwatch()
    options = ReplayOptions((str(inputs),), warehouse, workers=workers)
    result = run_first(options, load_config(EXAMPLE), 1, [])
    seconds = read_stopwatch() - began
    status = read_status(Folders(warehouse))
    differences = compare_truth(made, status)
    if as_json:
        found = describe_result(result, status, seconds)
        print_json({**found, "truth": asdict(made.truth), "differences": differences})
    else:
        out = speak_out()
        print_pictures(Folders(warehouse), out)
        _print_end(out, made, status, seconds)
    if differences:
        raise JourneyError("the tables differ from the known truth: " + "; ".join(differences))


def clear_folder(folder: Path) -> tuple[Path, Path]:
    """Remove what an earlier demo left; returns the folders of events and tables; raises UsageError."""
    inputs, warehouse = folder / "events", folder / "warehouse"
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise UsageError(f"{folder} holds something other than a demo", remedy="name another --folder")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).write_text(json.dumps({}), encoding="utf-8")
    for one in (inputs, warehouse):
        shutil.rmtree(one, ignore_errors=True)
    return inputs, warehouse


def compare_truth(made: Made, status: WarehouseStatus) -> list[str]:
    """List where the tables differ from what the generator knows."""
    truth, total = made.truth, status.total
    pairs = {
        "records": (sum(made.files.values()), total.received),
        "events": (truth.events, status.rows("events")),
        "duplicates": (truth.duplicates, total.duplicate),
        "sessions": (truth.sessions, status.rows("sessions")),
    }
    return [f"{name}: {made_:,} made, {found:,} found" for name, (made_, found) in pairs.items() if made_ != found]


def print_pictures(folders: Folders, out: Console) -> None:
    """Print pictures of everything a replay found."""
    views, _ = open_views(folders)
    with views:
        found = read_status(folders)
        funnels = [draw_funnel(views, name) for name in list_funnels(views)]
        transitions = draw_transitions(views, out.width)
        for picture in (draw_days(views), *funnels, draw_paths(views), transitions):
            out.print()
            out.print(picture)
    out.print()
    out.print(draw_ledger(found.ledger, found.total))


def _print_end(out: Console, made: Made, status: WarehouseStatus, seconds: float) -> None:
    home = status.warehouse
    out.print()
    out.print(
        f"The generator knows the truth: {made.truth.events:,} events, {made.truth.duplicates:,} duplicates,"
        f" {made.truth.sessions:,} sessions. The tables hold the same; the replay took {seconds:.1f} s."
    )
    out.print("\n[bold]Ask the tables[/]")
    out.print(f'  .venv/bin/journeys sql "FROM time_to_convert" --warehouse {home}', markup=False, soft_wrap=True)
    out.print(f"  .venv/bin/journeys status --warehouse {home}", markup=False, soft_wrap=True)
    out.print(f"  duckdb {home}/journeys.duckdb          # any DuckDB shell or client", markup=False, soft_wrap=True)
    out.print("\n[bold]Go on with your own events[/]: save this as journey.toml, change the right-hand sides")
    starter = "\n".join(f"  {line}".rstrip() for line in STARTER.splitlines())
    out.print(starter, markup=False, soft_wrap=True)
    out.print("and replay them:", markup=False)
    out.print("  .venv/bin/journeys replay YOUR_EVENTS.ndjson && .venv/bin/journeys show", markup=False, soft_wrap=True)
    out.print("\nEvery setting: docs/config.md. Every command: docs/commands.md. Every table: docs/tables.md.")
