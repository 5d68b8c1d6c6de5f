"""A first look into a warehouse: what is in it, a funnel, where people go from each step, and the ways they take."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="First journey")


@app.cell
def _():
    import os
    from pathlib import Path

    import duckdb
    import marimo as mo
    import plotly.graph_objects as go

    return Path, duckdb, go, mo, os


@app.cell
def _(mo):
    mo.md("""
    # First journey

    What people did, from one warehouse of journeystream. Point it at your own with
    `JOURNEYS_WAREHOUSE=path/to/warehouse marimo edit notebooks/first_journey.py`;
    without it, the demo's is read, or a small one is made.
    """)
    return


@app.cell
def _(Path, mo, os):
    def make_small_warehouse(folder: Path, root: Path) -> None:
        """Generate a fortnight of a shop and replay it into the folder."""
        from flows.replay import ReplayOptions, run_replay
        from flows.settings import load_config
        from sources.synthetic import Shape, Truth, format_segment, generate_frames

        folder.parent.mkdir(parents=True, exist_ok=True)
        events = folder.parent / "events.ndjson"
        with events.open("w", encoding="utf-8") as file:
            for frame in generate_frames(Shape(events=30_000, visits_per_day=550, people=2_500), Truth()):
                file.writelines(f"{line}\n" for line in format_segment(frame).to_list())
        config = load_config(root / "data" / "examples" / "shop.toml")
        run_replay(ReplayOptions((str(events),), folder), config)

    root = Path(mo.notebook_dir() or ".").resolve().parent
    warehouse = Path(os.environ.get("JOURNEYS_WAREHOUSE") or root / "build" / "demo" / "warehouse")
    if not (warehouse / "journeys.duckdb").exists():
        make_small_warehouse(warehouse, root)
    return (warehouse,)


@app.cell
def _(duckdb, warehouse):
    # Read-only: a job may go on writing meanwhile. All views are of one epoch.
    shop = duckdb.connect(str(warehouse / "journeys.duckdb"), read_only=True)
    shop.execute("SET GLOBAL TimeZone = 'UTC'")

    def ask(query, *parameters):
        """Return the answer as a Polars frame."""
        return shop.cursor().sql(query, params=list(parameters)).pl()

    return ask, shop


@app.cell
def _(ask, mo):
    sizes = ask(
        """
        SELECT count(*), count(DISTINCT session_id), count(DISTINCT person_id),
               count(DISTINCT dt), min(dt), max(dt) FROM events
        """
    ).row(0)
    mo.hstack(
        [
            mo.stat(f"{sizes[0]:,}", label="events", bordered=True),
            mo.stat(f"{sizes[1]:,}", label="sessions", bordered=True),
            mo.stat(f"{sizes[2]:,}", label="persons", bordered=True),
            mo.stat(f"{sizes[3]:,}", label="days", caption=f"{sizes[4]} to {sizes[5]}", bordered=True),
        ],
        widths="equal",
    )
    return


@app.cell
def _(mo):
    mo.md("""
    ## What is in it
    """)
    return


@app.cell
def _(ask, mo):
    tables = {
        name: ask(f"FROM {name} LIMIT 100")
        for name in ("sessions", "events", "funnel_steps", "transitions", "paths", "daily_sessions", "journey_map")
    }
    mo.ui.tabs({name: mo.ui.table(frame, page_size=5, selection=None) for name, frame in tables.items()})
    return


@app.cell
def _():
    ACCENT = "#3b6fb6"
    STAGE_COLOURS = ["#7fa7d6", "#3b6fb6", "#e0973a", "#b5524a", "#6f9e6b", "#8a74b0"]
    QUIET = "#b9bec6"
    LAYOUT = {
        "template": "plotly_white",
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": "#2b2f36"},
        "margin": {"l": 10, "r": 10, "t": 34, "b": 10},
        "modebar": {"remove": ["select2d", "lasso2d", "zoom", "pan", "zoomin", "zoomout", "autoscale", "resetscale"]},
    }
    return ACCENT, LAYOUT, QUIET, STAGE_COLOURS


@app.cell
def _(mo):
    mo.md("""
    ## A funnel: how many get how far

    People who reached each step in order, as a share of the first step and of the one before.
    """)
    return


@app.cell
def _(ask, mo):
    funnels = ask("SELECT DISTINCT funnel FROM funnels ORDER BY funnel")["funnel"].to_list()
    choice = mo.ui.dropdown(funnels, value=funnels[0] if funnels else None, label="funnel")
    choice
    return (choice,)


@app.cell
def _(ACCENT, LAYOUT, ask, choice, go):
    conversion = ask("FROM funnel_conversion WHERE funnel = ? ORDER BY step_index", choice.value)
    funnel_figure = go.Figure(
        go.Funnel(
            y=conversion["step"].to_list(),
            x=conversion["persons"].to_list(),
            texttemplate="%{value:,}<br>%{percentInitial:.1%} of the first<br>%{percentPrevious:.1%} of the one before",
            marker={"color": ACCENT, "opacity": [1 - 0.12 * n for n in range(conversion.height)]},
            connector={"fillcolor": "#eef2f7"},
        )
    )
    funnel_figure.update_layout(**LAYOUT, height=420)
    funnel_figure.update_yaxes(ticklabelstandoff=8)
    funnel_figure
    return


@app.cell
def _(ask, choice, mo):
    times = ask(
        """
        SELECT step, arrivals, round(median_seconds_from_previous, 1) AS median_s_from_previous,
               round(median_seconds_from_entry, 1) AS median_s_from_entry, round(p90_seconds_from_entry, 1) AS p90_s_from_entry
        FROM time_to_convert WHERE funnel = ? ORDER BY step_index
        """,
        choice.value,
    )
    mo.vstack([mo.md("How long that takes, in seconds:"), mo.ui.table(times, selection=None, pagination=False)])
    return


@app.cell
def _(mo):
    mo.md("""
    ## From each step, where to?

    Of all that were at the step on the left, the share that went on to the one above; empty is never.
    """)
    return


@app.cell
def _(ask):
    # Steps in the order of the config, those without a stage last.
    order = ask(
        """
        SELECT step FROM events LEFT JOIN stages USING (step)
        GROUP BY step, step_order ORDER BY step_order NULLS LAST, count(*) DESC LIMIT 20
        """
    )["step"].to_list()
    shares = {
        (origin, target): share
        for origin, target, share in ask("SELECT from_step, to_step, share_of_exits FROM step_transitions").iter_rows()
    }
    return order, shares


@app.cell
def _(LAYOUT, go, order, shares):
    rows, columns = ["(start)", *order], [*order, "(end)"]
    cells = [[shares.get((origin, target)) for target in columns] for origin in rows]
    heatmap_figure = go.Figure(
        go.Heatmap(
            x=columns,
            y=rows,
            z=cells,
            text=[[f"{cell:.0%}" if cell and cell >= 0.005 else "" for cell in row] for row in cells],
            texttemplate="%{text}",
            colorscale=[[0, "#f4f7fb"], [0.35, "#9dbde2"], [1, "#1f4e8c"]],
            xgap=2,
            ygap=2,
            hovertemplate="%{y} → %{x}: %{z:.1%}<extra></extra>",
            colorbar={"tickformat": ".0%", "thickness": 12, "outlinewidth": 0},
        )
    )
    heatmap_figure.update_layout(**{**LAYOUT, "margin": {"l": 10, "r": 10, "t": 100, "b": 10}}, height=130 + 34 * len(rows))
    heatmap_figure.update_xaxes(side="top", showgrid=False, tickangle=-35)
    heatmap_figure.update_yaxes(autorange="reversed", showgrid=False, ticklabelstandoff=6)
    heatmap_figure
    return


@app.cell
def _(mo):
    mo.md("""
    ## The first steps of a visit

    Sessions from their first step on, repeats in a row counted once; the colours are the stages.
    """)
    return


@app.cell
def _(mo):
    depth = mo.ui.slider(2, 6, value=4, label="moves shown")
    depth
    return (depth,)


@app.cell
def _(ask, depth):
    moves = ask(
        """
        SELECT position, steps[position] AS origin, coalesce(steps[position + 1], '(end)') AS target, count(*) AS sessions
        FROM sessions, range(1, CAST(? AS BIGINT) + 1) AS places(position)
        WHERE position <= len(steps) GROUP BY ALL ORDER BY ALL
        """,
        depth.value,
    ).rows()
    return (moves,)


@app.cell
def _(LAYOUT, QUIET, STAGE_COLOURS, ask, go, moves):
    stage_of = dict(ask("SELECT step, stage_order FROM stages").iter_rows())

    def pick_colour(step: str) -> str:
        return STAGE_COLOURS[stage_of[step] % len(STAGE_COLOURS)] if step in stage_of else QUIET

    def fade(colour: str) -> str:
        red, green, blue = (int(colour[n : n + 2], 16) for n in (1, 3, 5))
        return f"rgba({red}, {green}, {blue}, 0.35)"

    nodes = sorted({(p, origin) for p, origin, _, _ in moves} | {(p + 1, target) for p, _, target, _ in moves})
    number_of = {node: number for number, node in enumerate(nodes)}
    sankey_figure = go.Figure(
        go.Sankey(
            node={
                "label": [step for _, step in nodes],
                "color": [pick_colour(step) for _, step in nodes],
                "pad": 14,
                "thickness": 14,
                "line": {"width": 0},
                "align": "left",
            },
            link={
                "source": [number_of[p, origin] for p, origin, _, _ in moves],
                "target": [number_of[p + 1, target] for p, _, target, _ in moves],
                "value": [sessions for *_, sessions in moves],
                "color": [fade(pick_colour(target)) for _, _, target, _ in moves],
            },
        )
    )
    sankey_figure.update_layout(**LAYOUT, height=560)
    sankey_figure
    return


@app.cell
def _(mo):
    mo.md("""
    ## Ask something yourself

    A cell of SQL over the warehouse; more of them are in `docs/recipes.md`.
    """)
    return


@app.cell
def _(mo, shop):
    answer = mo.sql(
        """
        SELECT entry_channel, count(*) AS sessions, round(avg(events), 2) AS mean_events,
               round(100 * count(*) FILTER (list_contains(steps, 'purchase')) / count(*), 2) AS purchase_percent
        FROM sessions GROUP BY entry_channel ORDER BY sessions DESC
        """,
        engine=shop,
    )
    return


if __name__ == "__main__":
    app.run()
