"""Nasty streams: few persons and ids, times on a coarse grid, every limit hit exactly and missed by a microsecond."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple, TypeVar

import numpy as np
import orjson
import polars as pl
from hypothesis import strategies as st

from config import SECOND, Config, FunnelRules, SessionRules

from .oracle import RECORDS

T = TypeVar("T")

GRID = 10 * SECOND
MIDNIGHT = 1_709_251_200 * SECOND  # 2024-03-01, the day after a leap day
STEPS = ("a", "b", "c", "d", "other")
CHANNELS = ("web", "mobile", "store")
# "x1" is a device and a user: a person whose user_id is null in some events and known in others.
USERS = ("x1", "u1", "u2")
DEVICES = ("x1", "d1")
PEOPLE = [(device, user) for device in (*DEVICES, None) for user in (*USERS, None) if device or user]
SETUP_BYTES, RECORD_BYTES = 48, 8
FUNNEL_CASES: dict[str, type[pl.DataType]] = {
    "person": pl.Int64,
    "event_time": pl.Int64,
    "step": pl.String,
    "position": pl.Int64,
}


class Draft(NamedTuple):
    """A record before it has a place; one of `device_id` and `user_id` is always known."""

    event_id: str
    event_time: int
    device_id: str | None
    user_id: str | None
    channel: str
    step: str

    @property
    def person_id(self) -> str:
        """Return the user, else the device."""
        return self.user_id or self.device_id or ""


class Dice:
    """Choices read off bytes, the first option when they run out: plainer bytes make a plainer stream."""

    def __init__(self, numbers: bytes) -> None:
        self._numbers = iter(numbers)

    def roll(self, sides: int) -> int:
        """Return a number from 0 to `sides` - 1."""
        return next(self._numbers, 0) % sides

    def pick(self, options: Sequence[T]) -> T:
        """Return one of the options."""
        return options[self.roll(len(options))]


@dataclass
class Scene:
    """What the records of a stream have in common while it is made."""

    config: Config
    clock: int
    lags: list[int]
    people: list[tuple[str | None, str | None]]
    made: list[Draft] = field(default_factory=list)


def make_stream(rng: random.Random, rows: int) -> tuple[pl.DataFrame, Config]:
    """Return records (columns `RECORDS`; in order of partition, then position from 0) and the config to run them with.

    `make_stream(random.Random(seed), rows)` is the same for ever; `streams` lets hypothesis choose and shrink.
    """
    return build_stream(rng.randbytes(SETUP_BYTES), [rng.randbytes(RECORD_BYTES) for _ in range(rows)])


def streams(max_rows: int = 40) -> st.SearchStrategy[tuple[pl.DataFrame, Config]]:
    """Return a strategy of what `make_stream` returns, from no record at all to `max_rows`."""
    record = st.binary(min_size=RECORD_BYTES, max_size=RECORD_BYTES)
    setup = st.binary(min_size=SETUP_BYTES, max_size=SETUP_BYTES)
    return st.builds(build_stream, setup, st.lists(record, max_size=max_rows))


def build_stream(setup: bytes, record_bytes: list[bytes]) -> tuple[pl.DataFrame, Config]:
    """Return what `make_stream` returns, from the bytes that decide the config and each record."""
    dice = Dice(setup)
    config = make_config(dice)
    lanes: list[list[Draft]] = [[] for _ in range(1 + dice.roll(4))]
    lags = [GRID * dice.pick([0, 0, 1, 5]) for _ in lanes]
    start = MIDNIGHT - GRID * dice.roll(60)
    people = [dice.pick(PEOPLE) for _ in range(dice.pick([1, 2, 4]))]
    scene = Scene(config, start, lags, people)
    for numbers in record_bytes:
        dice = Dice(numbers)
        lane = dice.roll(len(lanes))
        draft = _make_draft(scene, dice, lane)
        scene.made.append(draft)
        lanes[lane].append(draft)
    placed = [
        (f"lane-{lane:03}", position, draft.event_id, draft.event_time, draft.person_id, *draft[2:])
        for lane, drafts in enumerate(lanes)
        for position, draft in enumerate(drafts)
    ]
    return pl.DataFrame(placed, schema=RECORDS, orient="row"), config


def make_config(dice: Dice) -> Config:
    """Return small session limits, each a few grid steps, and one to three funnels."""
    sessions = SessionRules(
        gap=GRID * dice.pick([3, 3, 1, 6]),
        max_session=GRID * dice.pick([30, 8, 8, 4]),
        allowed_lateness=GRID * dice.pick([1, 3, 0]),
        max_path_steps=dice.pick([50, 1, 2, 3]),
    )
    funnels = tuple(make_funnel(dice, f"funnel_{number}") for number in range(1 + dice.roll(3)))
    return Config(sessions=sessions, funnels=funnels)


def make_funnel(dice: Dice, name: str, *, shortest: int = 1) -> FunnelRules:
    """Return a funnel of up to five steps, repeats likely, with a window of 0 to many grid steps."""
    steps = tuple(dice.pick(STEPS[:4]) for _ in range(shortest + dice.roll(6 - shortest)))
    within = GRID * dice.pick([1000, 0, 1, 2, 3, 5, 8])
    return FunnelRules(name, steps, within, dice.pick(["person", "session"]))


def to_segment_lines(records: pl.DataFrame) -> dict[str, list[bytes]]:
    """Return the records as Segment track calls, one JSON line each without its newline, by source partition.

    Line number = position if positions run from 0. The step is the event's name, so no step rule may match.
    """
    lines: dict[str, list[bytes]] = {}
    for row in records.sort("source_partition", "source_position").iter_rows(named=True):
        if row["person_id"] != (row["user_id"] or row["device_id"]):
            raise ValueError(f"no Segment call gives this person: {row}")
        call = {
            "messageId": row["event_id"],
            "anonymousId": row["device_id"],
            "userId": row["user_id"],
            "type": "track",
            "event": row["step"],
            "timestamp": to_iso(row["event_time"]),
            "channel": row["channel"],
        }
        known = {key: value for key, value in call.items() if value is not None}
        lines.setdefault(row["source_partition"], []).append(orjson.dumps(known))
    return lines


def to_iso(time: int) -> str:
    """Return microseconds since 1970 as ISO 8601 text with six decimals and a Z."""
    moment = datetime(1970, 1, 1) + timedelta(microseconds=time)
    return moment.isoformat(timespec="microseconds") + "Z"


def make_funnel_cases(seed: int, persons: int) -> tuple[pl.DataFrame, FunnelRules]:
    """Return events (columns `FUNNEL_CASES`, in order of person, position) and one funnel of 2 to 5 steps.

    Each person has 3 to 12 events on so coarse a grid that many tie; `position` is the order of arrival, not of time.
    """
    rules = make_funnel(Dice(random.Random(seed).randbytes(SETUP_BYTES)), f"funnel_{seed}", shortest=2)
    numbers = np.random.default_rng(seed)
    counts = numbers.integers(3, 13, persons)
    total = int(counts.sum())
    nudge = numbers.choice([-1, 0, 0, 0, 0, 0, 0, 1], total)  # just inside and just outside of the window
    times = MIDNIGHT + GRID * numbers.integers(0, 10, total) + nudge
    starts = np.repeat(counts.cumsum() - counts, counts)
    frame = pl.DataFrame(
        {
            "person": np.repeat(np.arange(persons), counts),
            "event_time": times,
            "step": np.array(STEPS)[numbers.integers(0, len(STEPS), total)].tolist(),
            "position": np.arange(total) - starts,
        },
        schema=FUNNEL_CASES,
    )
    return frame, rules


def _make_draft(scene: Scene, dice: Dice, lane: int) -> Draft:
    kind = dice.roll(16)
    recent = scene.made[:-9:-1]
    if recent and kind >= 13:
        return _vary(dice, dice.pick(recent))
    device_id, user_id = dice.pick(scene.people)
    channel, step = dice.pick(CHANNELS), dice.pick(STEPS)
    if recent and kind >= 11:
        event_time = _aim_at_limit(scene, dice, dice.pick(recent))
        scene.clock = max(scene.clock, event_time)
    else:
        scene.clock += _roll_pause(scene, dice)
        event_time = scene.clock - scene.lags[lane] - _roll_disorder(scene, dice)
    return Draft(f"e{len(scene.made)}", event_time, device_id, user_id, channel, step)


def _vary(dice: Dice, draft: Draft) -> Draft:
    """Return a true duplicate (of the same or another content), or the id again with another time or person."""
    kind = dice.roll(6)
    if kind <= 1:
        return draft
    if kind <= 3:
        # The same event with another content: which copy is kept can be seen.
        return draft._replace(step=dice.pick(STEPS), channel=dice.pick(CHANNELS))
    if kind == 4:
        return draft._replace(event_time=draft.event_time + dice.pick([1, -1, GRID]))
    return draft._replace(user_id=dice.pick(USERS))


def _aim_at_limit(scene: Scene, dice: Dice, draft: Draft) -> int:
    """Return a time at which, seen from the draft, a gap, session or funnel window has just not or just run out."""
    rules = scene.config.sessions
    limits = [rules.gap, rules.max_session, *(funnel.within for funnel in scene.config.funnels)]
    return draft.event_time + min(dice.pick(limits), 30 * GRID) + dice.pick([0, 0, 1, -1])


def _roll_pause(scene: Scene, dice: Dice) -> int:
    """Return how far the clock moves: not at all or a grid step as a rule, sometimes past the gap."""
    return dice.pick([0] * 8 + [GRID] * 6 + [2 * GRID, scene.config.sessions.gap + GRID])


def _roll_disorder(scene: Scene, dice: Dice) -> int:
    """Return how much older than its partition's clock an event is."""
    lateness = scene.config.sessions.allowed_lateness
    return dice.pick([0] * 14 + [GRID, 1, lateness, lateness, lateness + 1, lateness + GRID])
