"""Seeded, realistic shop journeys whose right answer is known from how they were made.

Visits of one person never come closer than the session gap, so the number of sessions, the
length of each and the people who reach each funnel step are facts of the generator, not
something to be computed back from its output.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import numpy as np
import polars as pl

I64 = np.ndarray[Any, np.dtype[np.int64]]

STEPS = (
    "Home Viewed",
    "Products Searched",
    "Product List Viewed",
    "Product Viewed",
    "Product Added",
    "Cart Viewed",
    "Checkout Started",
    "Payment Info Entered",
    "Order Completed",
    "Support Call Started",
)
END = len(STEPS)
LOGIN_FROM = 6  # from the checkout on, a visitor is known; until identities are joined that is another person
# Rows: from; columns: to, the last one leaves. Support calls come from people who already bought.
TRANSITIONS = np.array(
    [
        [0.05, 0.25, 0.25, 0.15, 0.00, 0.02, 0.00, 0.00, 0.00, 0.01, 0.27],
        [0.03, 0.20, 0.20, 0.35, 0.00, 0.01, 0.00, 0.00, 0.00, 0.00, 0.21],
        [0.03, 0.10, 0.15, 0.45, 0.00, 0.01, 0.00, 0.00, 0.00, 0.00, 0.26],
        [0.03, 0.08, 0.15, 0.32, 0.16, 0.01, 0.00, 0.00, 0.00, 0.00, 0.25],
        [0.00, 0.05, 0.10, 0.20, 0.05, 0.40, 0.08, 0.00, 0.00, 0.00, 0.12],
        [0.02, 0.03, 0.05, 0.15, 0.00, 0.05, 0.50, 0.00, 0.00, 0.00, 0.20],
        [0.00, 0.00, 0.00, 0.05, 0.00, 0.10, 0.05, 0.60, 0.00, 0.02, 0.18],
        [0.00, 0.00, 0.00, 0.00, 0.00, 0.03, 0.02, 0.05, 0.75, 0.03, 0.12],
        [0.10, 0.02, 0.05, 0.05, 0.00, 0.00, 0.00, 0.00, 0.00, 0.03, 0.75],
        [0.05, 0.00, 0.00, 0.05, 0.00, 0.05, 0.00, 0.00, 0.00, 0.10, 0.75],
    ]
)
ENTRY = np.array([0.45, 0.15, 0.15, 0.20, 0.0, 0.02, 0.0, 0.0, 0.0, 0.03])
CHANNELS = ("web", "mobile", "email")
FUNNEL = ("Product Viewed", "Product Added", "Checkout Started", "Payment Info Entered", "Order Completed")
MAX_VISIT_EVENTS = 40
MAX_PAUSE_S = 900.0
DAY_US = 86_400_000_000


@dataclass(frozen=True)
class Shape:
    """How much to generate and how untidy it is; equal shapes give equal bytes."""

    events: int
    seed: int = 7
    start: datetime = datetime(2026, 1, 5, tzinfo=timezone.utc)
    visits_per_day: int = 60_000
    people: int = 400_000
    duplicates: float = 0.01
    disorder_s: float = 20.0


@dataclass
class Truth:
    """What a right analysis of the generated events must find."""

    events: int = 0
    duplicates: int = 0
    sessions: int = 0
    step_counts: dict[str, int] = field(default_factory=dict)


def generate_frames(shape: Shape, truth: Truth) -> Iterator[pl.DataFrame]:
    """Yield frames of events in arrival order, one a day, and fill in `truth` on the way.

    Output columns: id, type, event, device, user (null while unknown), time (Int64, us),
    channel, product (Int32), price (Float64), search (str or null). n -> m; ordered by arrival.
    """
    rng = np.random.default_rng(shape.seed)
    carried: pl.DataFrame | None = None
    first_us = int(shape.start.timestamp() * 1_000_000)
    made, day = 0, 0
    while made < shape.events:
        frame = _make_day(rng, shape, first_us + day * DAY_US, day)
        left = shape.events - made
        if frame.height > left:
            frame = frame.head(left)
        made += frame.height
        truth.events += frame.height
        truth.sessions += frame.select(pl.struct("visit", pl.col("user").is_null()).n_unique()).item()
        for name, count in frame["event"].value_counts().iter_rows():
            truth.step_counts[name] = truth.step_counts.get(name, 0) + count
        copies = frame.filter(pl.Series(rng.random(frame.height) < shape.duplicates))
        truth.duplicates += copies.height
        sent = pl.concat([frame, copies])
        delay = pl.Series(rng.integers(0, max(1, int(shape.disorder_s * 1e6)), sent.height))
        sent = sent.with_columns((pl.col("time") + delay).alias("arrival"))
        if carried is not None:
            sent = pl.concat([carried, sent])
        sent = sent.sort("arrival", maintain_order=True)
        horizon = first_us + (day + 1) * DAY_US
        last = made >= shape.events
        yield (sent if last else sent.filter(pl.col("arrival") < horizon)).drop("arrival", "visit")
        carried = sent.filter(pl.col("arrival") >= horizon)
        day += 1


def _make_day(rng: np.random.Generator, shape: Shape, day_us: int, day: int) -> pl.DataFrame:
    visits = shape.visits_per_day
    people = rng.choice(shape.people, size=min(visits, shape.people), replace=False)
    n = people.size
    # Between 06:00 and 16:00, so that a visit (at most 40 pauses of 15 minutes) ends before the next day's.
    clock = np.clip(rng.normal(11.0, 2.5, n), 6.0, 16.0) * 3_600_000_000
    step = rng.choice(len(STEPS), size=n, p=ENTRY)
    now = day_us + clock.astype(np.int64) + rng.integers(0, 1_000_000, n)
    walk = _walk_visits(rng, now, step, people % 3 == 0)
    return _lay_out(rng, shape, walk, people, day)


@dataclass(frozen=True)
class _Walk:
    """Every event of a day's visits, not in order: visit number, time, step code, whether the visitor is known."""

    visit: I64
    time: I64
    code: I64
    known: np.ndarray[Any, np.dtype[np.bool_]]


def _walk_visits(rng: np.random.Generator, now: I64, step: I64, known: np.ndarray[Any, np.dtype[np.bool_]]) -> _Walk:
    """Walk every visit on from its first step and time until it leaves."""
    cumulative = TRANSITIONS.cumsum(axis=1)
    who, when, what, logged = [], [], [], []
    alive = np.arange(now.size)
    for _ in range(MAX_VISIT_EVENTS):
        who.append(alive)
        when.append(now[alive])
        what.append(step[alive])
        known[alive] |= step[alive] >= LOGIN_FROM
        logged.append(known[alive])
        draw = rng.random(alive.size)
        following = (draw[:, None] > cumulative[step[alive]]).sum(axis=1).clip(0, END)
        pause = np.clip(rng.lognormal(3.2, 1.2, alive.size), 0.2, MAX_PAUSE_S)
        stays = following < END
        alive, following, pause = alive[stays], following[stays], pause[stays]
        step[alive] = following
        now[alive] += (pause * 1_000).astype(np.int64) * 1_000
        if alive.size == 0:
            break
    return _Walk(np.concatenate(who), np.concatenate(when), np.concatenate(what), np.concatenate(logged))


def _lay_out(rng: np.random.Generator, shape: Shape, walk: _Walk, people: I64, day: int) -> pl.DataFrame:
    """Make a day's events out of its visits, in order of time."""
    person = people[walk.visit]
    channel = np.where(walk.code == 9, 3, (person * 7 + day) % 10 // 4)
    frame = pl.DataFrame(
        {
            "visit": walk.visit,
            "time": walk.time // 1000 * 1000,
            "person": person,
            "code": walk.code.astype(np.uint8),
            "known": walk.known,
            "channel": channel.astype(np.uint8),
            "product": rng.zipf(1.5, person.size).clip(1, 50_000).astype(np.int32),
            "price": np.round(rng.gamma(2.0, 20.0, person.size), 2),
        }
    ).sort("time", "visit", maintain_order=True)
    names = pl.Series(STEPS)
    channels = pl.Series([*CHANNELS, "support"])
    serial = pl.int_range(pl.len(), dtype=pl.Int64) + day * 10_000_000
    return frame.select(
        "visit",
        (pl.lit(f"m{shape.seed:x}-") + serial.cast(pl.String).str.zfill(11)).alias("id"),
        pl.when(pl.col("code").is_in([0, 2])).then(pl.lit("page")).otherwise(pl.lit("track")).alias("type"),
        names.gather(frame["code"]).alias("event"),
        (pl.lit("d-") + pl.col("person").cast(pl.String).str.zfill(8)).alias("device"),
        pl.when(pl.col("known")).then(pl.lit("u-") + pl.col("person").cast(pl.String).str.zfill(8)).alias("user"),
        "time",
        channels.gather(frame["channel"]).alias("channel"),
        "product",
        "price",
        pl.when(pl.col("code") == 1)
        .then(pl.lit("shoes size ") + (pl.col("product") % 50).cast(pl.String))
        .alias("search"),
    )


def format_segment(frame: pl.DataFrame) -> pl.Series:
    """Format generated events as Segment JSON lines; n -> n, same order."""
    time = pl.col("time").cast(pl.Datetime("us")).dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ")
    query = pl.format(',"query":"{}"', pl.col("search"))
    search = pl.when(pl.col("search").is_null()).then(pl.lit("")).otherwise(query)
    user = pl.when(pl.col("user").is_null()).then(pl.lit("null")).otherwise(pl.format('"{}"', pl.col("user")))
    line = pl.format(
        '{{"messageId":"{}","type":"{}","{}":"{}","anonymousId":"{}","userId":{},"timestamp":"{}","channel":"{}",'
        '"properties":{{"product":{{"id":"p{}","price":{}}}{}}}}}',
        pl.col("id"),
        pl.col("type"),
        pl.when(pl.col("type") == "page").then(pl.lit("name")).otherwise(pl.lit("event")),
        pl.col("event"),
        pl.col("device"),
        user,
        time,
        pl.col("channel"),
        pl.col("product"),
        pl.col("price"),
        search,
    )
    return frame.select(line).to_series()
