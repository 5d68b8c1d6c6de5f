"""A receiver at work beside a test, and what is in its inbox."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sources.inbox import Inbox, Received
from sources.receiving import Receiver, receiving

PATIENCE_S = 60.0


@contextmanager
def at_work(receiver: Receiver) -> Iterator[list[Exception]]:
    """Let a receiver run; what it fails with is in the list, and raised at the end if nobody took it out."""
    failures: list[Exception] = []
    with receiving([receiver], failures.append):
        yield failures
    if failures:
        raise failures[0]


def run_to_end(receiver: Receiver) -> None:
    """Run a receiver that ends by itself; raises what it fails with."""
    stop = threading.Event()
    guard = threading.Timer(PATIENCE_S, stop.set)
    guard.start()
    try:
        receiver.run(stop)
    finally:
        guard.cancel()


def read_all(inbox: Inbox) -> list[Received]:
    """Return all records of an inbox."""
    return [record for frame, _ in inbox.read(0) for record in frame.records]


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    until = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.05)
