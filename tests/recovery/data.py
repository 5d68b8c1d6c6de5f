"""Events for the recovery tests: lanes of several kinds, persons who stay quiet for days, and every kind of record."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

START = datetime(2026, 3, 2, 6, tzinfo=timezone.utc)
STEPS = ("home", "search", "product", "add_to_cart", "checkout", "purchase", "help")
FUNNEL = ("product", "add_to_cart", "checkout", "purchase")
CHANNELS = ("web", "mobile", "support")
QUIET = 40  # persons heard of at the very beginning and at the very end only
FILLER = "x" * 1_500  # few events, many blocks: a kill has many epochs to choose from


@dataclass(frozen=True)
class Shape:
    """How much to make: events a day and lane, and days."""

    events: int = 1_000
    days: int = 3
    persons: int = 400
    seed: int = 11
    filler: int = len(FILLER)


def write_inputs(folder: Path, shape: Shape) -> None:
    """Write three lanes: `web` a file a day, `mobile` one gzip file, `support` one that is quiet but for its ends."""
    chance = random.Random(shape.seed)
    folder.mkdir(parents=True, exist_ok=True)
    days = [list(_write_day(chance, shape, "web", day)) for day in range(shape.days)]
    for day, lines in enumerate(days):
        (folder / f"web-{day}.ndjson").write_text("\n".join(lines) + "\n")
    mobile = [line for day in range(shape.days) for line in _write_day(chance, shape, "mobile", day)]
    with gzip.open(folder / "mobile.ndjson.gz", "wt", compresslevel=1) as out:
        out.write("\n".join(mobile) + "\n")
    ends = [line for day in (0, shape.days - 1) for line in _write_support(chance, shape, day)]
    (folder / "support.ndjson").write_text("\n".join(ends) + "\n")


def write_day(folder: Path, shape: Shape, day: int) -> None:
    """Write one more day of `web`, which goes on where that lane ended."""
    chance = random.Random(shape.seed + 1_000 + day)
    lines = list(_write_day(chance, shape, "web", day))
    (folder / f"web-{day}.ndjson").write_text("\n".join(lines) + "\n")


def _write_day(chance: random.Random, shape: Shape, channel: str, day: int) -> Iterator[str]:
    opened = START + timedelta(days=day)
    pause = timedelta(hours=14) / shape.events
    recent: list[str] = []
    for number in range(shape.events):
        # Out of order by up to 50 s, inside the allowed lateness of a minute.
        moment = opened + number * pause - timedelta(seconds=chance.uniform(0, 50))
        person = f"p{chance.randrange(shape.persons)}"
        kind = chance.random()
        if kind < 0.01 and recent:
            yield chance.choice(recent)
        if kind > 0.995:
            yield '{"broken": ' + str(number)
        if 0.98 < kind < 0.985:
            moment -= timedelta(minutes=5)
        line = _format(chance, person, channel, moment, f"{channel}-{day}-{number}", shape)
        recent = [*recent[-3:], line]
        yield line
    if day in (0, shape.days - 1):
        at = opened if day == 0 else opened + timedelta(hours=14)
        for number in range(QUIET):
            moment = at + timedelta(seconds=number / 2)
            yield _format(chance, f"quiet{number}", channel, moment, f"{channel}-{day}-q{number}", shape)


def _write_support(chance: random.Random, shape: Shape, day: int) -> Iterator[str]:
    # Late in the day: several epochs pass before the lane is touched at all.
    opened = START + timedelta(days=day, hours=9 if day == 0 else 13)
    for number in range(shape.events // 4):
        moment = opened + timedelta(seconds=number * 3_000 / shape.events)
        person = f"p{chance.randrange(shape.persons)}"
        yield _format(chance, person, "support", moment, f"support-{day}-{number}", shape)


def _format(chance: random.Random, person: str, channel: str, moment: datetime, name: str, shape: Shape) -> str:
    return json.dumps(
        {
            "messageId": name,
            "type": "track",
            "event": chance.choice(STEPS),
            "anonymousId": f"d-{person}",
            "userId": person if chance.random() < 0.8 else None,
            "timestamp": moment.isoformat(timespec="milliseconds"),
            "channel": channel,
            "properties": {"filler": FILLER[: shape.filler], "n": chance.randrange(100)},
        },
        separators=(",", ":"),
    )
