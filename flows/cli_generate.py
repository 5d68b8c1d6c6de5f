"""`journeys generate`: seeded shop journeys whose right answer is known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from errors import UsageError
from flows.cli_common import AsJson, print_json, speak_out
from flows.generating import ENDINGS, SPLITS, generate_files, plan_shape, write_truth


def generate(
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="File to write, or with --split a folder.", show_default=False)
    ],
    events: Annotated[int, typer.Option(min=1, metavar="N", help="Events, duplicates not counted.")] = 100_000,
    days: Annotated[int, typer.Option(min=1, metavar="N", help="Days they are spread over.")] = 7,
    seed: Annotated[int, typer.Option(metavar="N", help="Equal seeds give equal files.")] = 7,
    split: Annotated[str, typer.Option(metavar="|".join(SPLITS), help="A file a day, a channel, or both.")] = "one",
    ending: Annotated[
        str, typer.Option(metavar="ENDING", help=f"Kind of the files of a split: {', '.join(ENDINGS)}.")
    ] = ".ndjson",
    truth: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where the known truth goes.", show_default="_NAME.truth.json beside OUT"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write seeded, realistic shop events in Segment's form, with the known truth beside them."""
    if split not in SPLITS:
        raise UsageError(f"--split {split}: should be one of {', '.join(SPLITS)}")
    if split == "one":
        ending = "".join(out.suffixes[-2:]) if out.suffix in (".gz", ".zst") else out.suffix
        if out.is_dir():
            raise UsageError(f"{out} is a folder", remedy="name a file, or give --split day, channel or both")
    else:
        ending = ending if ending.startswith(".") else f".{ending}"
        if out.exists() and not out.is_dir():
            raise UsageError(f"{out} is a file", remedy="with --split, OUT is a folder")
    made = generate_files(plan_shape(events, days, seed), out, split, ending)
    # A name that begins with _ is no input to a replay of the folder.
    place = truth or out.parent / f"_{out.name}.truth.json"
    write_truth(made, place)
    if as_json:
        print_json({**made.to_dict(), "truth_file": str(place)})
        return
    records = sum(made.files.values())
    console = speak_out()
    files = f"{len(made.files)} file{'s' if len(made.files) > 1 else ''}"
    console.print(f"{records:,} records in {files} at {out}; the truth about them: {place}", soft_wrap=True)
    console.print(
        f"{made.truth.events:,} events and {made.truth.duplicates:,} duplicates; {made.truth.sessions:,} sessions"
    )
