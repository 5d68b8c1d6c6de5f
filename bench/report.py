"""Medians, ratios and agreement of the runs, as tables and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from contenders import BARE, BYTEWAX, DUCKDB, OURS, SPARK, Run
from figures import list_differences
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

# Of the peer's time per record to ours: at least. Ours without recovery is the other way round: at most.
WANTED = {DUCKDB: 2.0, BYTEWAX: 30.0, SPARK: 4.0}
RECOVERY_AT_MOST = 1.3
HEADINGS = ("contender", "runs", "records", "seconds", "rec/s", "CPU s", "peak MB", "CPU", "ratio", "wanted", "")
# What a contender that does only a part of the job can be asked for. Bytewax is asked about its part, apart from these.
COMPARED = {BARE: None, DUCKDB: None, SPARK: ("sessions",)}


def group_runs(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Return the runs by contender, in order of first appearance."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.name, []).append(run)
    return groups


def summarise(runs: Sequence[Run]) -> dict[str, dict[str, float]]:
    """Return each contender's medians of time and CPU, whole and per record, and its largest peak."""
    return {
        name: {
            "runs": len(group),
            "records": group[0].records,
            "seconds": median(run.cost.seconds for run in group),
            "us_per_record": median(run.us_per_record for run in group),
            "cpu_us_per_record": median(run.cost.cpu_seconds / run.records * 1e6 for run in group),
            "cpu_seconds": median(run.cost.cpu_seconds for run in group),
            "peak_mb": max(run.cost.peak_mb for run in group),
        }
        for name, group in group_runs(runs).items()
    }


def compute_ratios(medians: dict[str, dict[str, float]], cost: str = "us_per_record") -> dict[str, float]:
    """Return how many times more each contender spends per record than ours: wall time, or another cost."""
    if OURS not in medians:
        return {}
    ours = medians[OURS][cost]
    return {name: values[cost] / ours for name, values in medians.items() if name != OURS}


def judge(ratios: dict[str, float]) -> dict[str, bool]:
    """Return which of the wanted ratios were reached."""
    verdicts = {name: ratios[name] >= least for name, least in WANTED.items() if name in ratios}
    if BARE in ratios:
        verdicts[BARE] = 1 / ratios[BARE] <= RECOVERY_AT_MOST
    return verdicts


def find_differences(runs: Sequence[Run], part_sessions: int | None) -> list[str]:
    """Return what runs disagree about; Bytewax is held against the sessions of its part of the file."""
    groups = group_runs(runs)
    reference = groups.get(OURS) or groups.get(BARE) or groups.get(DUCKDB) or []
    wrong = []
    for run in [*reference[1:], *(run for name in COMPARED for run in groups.get(name, []))]:
        names = COMPARED.get(run.name) or tuple(run.found)
        if reference and run is not reference[0]:
            found = {name: run.found[name] for name in names if name in run.found}
            wrong += [f"{run.name}: {line}" for line in list_differences(reference[0].found, found)]
    for run in groups.get(BYTEWAX, []):
        if part_sessions is not None and run.found["sessions"] != part_sessions:
            wrong.append(f"{run.name}: sessions: {part_sessions} against {run.found['sessions']}")
    return wrong


def print_report(console: Console, runs: Sequence[Run], differences: Sequence[str]) -> None:
    """Print the comparison, the stages where they are known and whether the results agree."""
    medians = summarise(runs)
    ratios = compute_ratios(medians)
    cpu_ratios = compute_ratios(medians, "cpu_us_per_record")
    verdicts = judge(ratios)
    table = Table(
        box=SIMPLE, title="per record, median of the runs; CPU and ratio: the contender's CPU and wall time to ours"
    )
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading == "contender" else "right", no_wrap=True)
    for name, values in medians.items():
        table.add_row(
            name,
            str(values["runs"]),
            f"{values['records']:,}",
            f"{values['seconds']:.2f}",
            f"{1e6 / values['us_per_record']:,.0f}",
            f"{values['cpu_seconds']:.1f}",
            f"{values['peak_mb']:,.0f}",
            f"{cpu_ratios[name]:.2f}x" if name in ratios else "",
            f"{ratios[name]:.2f}x" if name in ratios else "",
            _describe_wish(name),
            {True: "[green]yes[/]", False: "[red]no[/]", None: ""}[verdicts.get(name)],
        )
    console.print(table)
    _print_stages(console, runs)
    if differences:
        console.print("[red]results differ[/] (ours against the other):")
        for line in differences:
            console.print(f"  {line}", markup=False)
    else:
        console.print("results agree")


def _describe_wish(name: str) -> str:
    if name == BARE:
        return f">= {1 / RECOVERY_AT_MOST:.2f}x"
    return f">= {WANTED[name]:g}x" if name in WANTED else ""


def _print_stages(console: Console, runs: Sequence[Run]) -> None:
    for name, group in group_runs(runs).items():
        if not group[0].stages:
            continue
        line = ", ".join(
            f"{stage} {median(run.stages.get(stage, 0.0) for run in group):.2f}" for stage in group[0].stages
        )
        console.print(f"{name}, seconds by stage: {line}", highlight=False)


def describe_runs(runs: Sequence[Run], differences: Sequence[str], about: dict[str, Any]) -> dict[str, Any]:
    """Return all of it as one JSON-able object."""
    medians = summarise(runs)
    ratios = compute_ratios(medians)
    return {
        "about": about,
        "medians": medians,
        "ratios": ratios,
        "cpu_ratios": compute_ratios(medians, "cpu_us_per_record"),
        "reached": judge(ratios),
        "differences": list(differences),
        "runs": [
            {"name": run.name, "records": run.records, **run.cost.to_dict(), "found": run.found, "stages": run.stages}
            for run in runs
        ],
    }
