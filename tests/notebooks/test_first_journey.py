"""The notebook is run from top to bottom; what it shows is compared with the warehouse."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.sample_warehouse import connect, get_finished, read

pytest.importorskip("marimo")
pytest.importorskip("plotly")

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "first_journey.py"
RUN = """
import json, sys
from first_journey import app
_, names = app.run()
shown = {name: json.loads(names[name].to_json())["data"] for name in names if name.endswith("_figure")}
shown |= {"events": names["sizes"][0], "sessions": names["sizes"][1], "funnel": names["choice"].value}
shown |= {"tables": {name: frame.height for name, frame in names["tables"].items()}}
shown |= {"answer": names["answer"]["sessions"].to_list()}
open(sys.argv[1], "w").write(json.dumps(shown))
"""


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return get_finished(tmp_path_factory)


@pytest.fixture(scope="module")
def shown(warehouse: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run the notebook in a process of its own and return what its cells define, figures as Plotly's JSON."""
    out = tmp_path_factory.mktemp("shown") / "shown.json"
    environment = {**os.environ, "JOURNEYS_WAREHOUSE": str(warehouse), "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, "-c", RUN, str(out)], cwd=ROOT / "notebooks", env=environment, check=True, timeout=300
    )
    names: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return names


def test_sizes_and_tables_are_those_of_the_warehouse(shown: dict[str, Any], warehouse: Path) -> None:
    with connect(warehouse) as shop:
        assert shown["events"] == read(shop, "FROM events").height
        assert shown["sessions"] == read(shop, "FROM sessions").height
    assert min(shown["tables"].values()) > 0


def test_funnel_shows_the_people_at_each_step(shown: dict[str, Any], warehouse: Path) -> None:
    (bars,) = shown["funnel_figure"]
    with connect(warehouse) as shop:
        steps = read(shop, "FROM funnel_steps").filter(pl.col("funnel") == shown["funnel"])
    people = [steps.filter(pl.col("step") == step)["person_id"].n_unique() for step in bars["y"]]
    assert bars["x"] == people
    assert shown["funnel"] == "purchase"
    assert people[0] > people[-1] > 0


def test_heatmap_shows_where_people_go_from_each_step(shown: dict[str, Any], warehouse: Path) -> None:
    (heat,) = shown["heatmap_figure"]
    with connect(warehouse) as shop:
        steps = read(shop, "FROM events")["step"].n_unique()
        ends = read(shop, "FROM sessions")["exit_step"].value_counts()
        of_home = read(shop, "FROM events").filter(pl.col("step") == "home").height
    assert len(heat["x"]) == len(heat["y"]) == steps + 1
    left = heat["z"][heat["y"].index("home")][heat["x"].index("(end)")]
    assert left == pytest.approx(ends.filter(pl.col("exit_step") == "home")["count"][0] / of_home)
    for row in heat["z"]:
        assert sum(share or 0 for share in row) == pytest.approx(1)


def test_sankey_carries_every_session_from_its_first_step(shown: dict[str, Any], warehouse: Path) -> None:
    (sankey,) = shown["sankey_figure"]
    labels, link = sankey["node"]["label"], sankey["link"]
    carried: dict[str, int] = {}
    for source, value in zip(link["source"], link["value"], strict=True):
        if source not in link["target"]:
            carried[labels[source]] = carried.get(labels[source], 0) + value
    with connect(warehouse) as shop:
        assert carried == dict(read(shop, "FROM sessions")["entry_step"].value_counts().iter_rows())
    assert len(labels) == len(sankey["node"]["color"]) > 10


def test_sql_cell_answers(shown: dict[str, Any], warehouse: Path) -> None:
    with connect(warehouse) as shop:
        assert sum(shown["answer"]) == read(shop, "FROM sessions").height


@pytest.mark.slow
def test_notebook_makes_a_small_warehouse_where_there_is_none_and_exports(tmp_path: Path) -> None:
    """As a page: with marimo's own command, from a folder that has no demo yet."""
    for name in ("notebooks", "data"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("real", "__*__"))
    page = tmp_path / "page.html"
    environment = {key: value for key, value in os.environ.items() if key != "JOURNEYS_WAREHOUSE"}
    environment["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, "-m", "marimo", "export", "html", "notebooks/first_journey.py", "-o", str(page)]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "build" / "demo" / "warehouse" / "journeys.duckdb").exists()
    html = page.read_text(encoding="utf-8")
    for word in ("First journey", "add_to_cart", "30,000", "plotly", "sankey"):
        assert word in html, word


def test_notebook_is_well_formed() -> None:
    """Marimo finds no name defined twice, no cycle and nothing to tidy."""
    command = [sys.executable, "-m", "marimo", "check", "--strict", str(NOTEBOOK)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
