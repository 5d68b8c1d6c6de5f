"""The only place that asks what time it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

Clock = Callable[[], datetime]


def read_system_clock() -> datetime:
    """Return the wall clock's time, UTC."""
    return datetime.now(timezone.utc)


def read_stopwatch() -> float:
    """Return monotonic seconds, for progress and rates only."""
    return time.monotonic()


def to_us(moment: datetime) -> int:
    """Convert an aware datetime to microseconds since 1970-01-01 UTC."""
    delta = moment - datetime(1970, 1, 1, tzinfo=timezone.utc)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def from_us(us: int) -> datetime:
    """Convert microseconds since 1970-01-01 UTC to an aware datetime."""
    return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=us)
