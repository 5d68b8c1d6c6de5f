"""Receivers that ask for records: borrow some, write them to the inbox, and only then tell that they may be forgotten."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from errors import InboxFullError, ReceiverError
from sources.inbox import Inbox, Received
from sources.receiving import RecentDeliveries

GRACE_S = 1.5  # how long a call may still take when the job stops; it is given up then
LOOK_S = 0.1
FULL_S = 0.2
SETTLE_TIMES = 3
DELAY_FIRST_S, DELAY_MOST_S = 0.2, 10.0
LOG = logging.getLogger(__name__)


class TryAgainError(Exception):
    """The other side could not be reached, or was busy; tells why."""


@dataclass(frozen=True)
class Taken:
    """A record on loan: `handle` settles it or gives it back, `again` tells that it may have been delivered before."""

    handle: str
    record: Received
    again: bool


class Puller(Protocol):
    """Calls to the other side. Each raises TryAgainError, or ReceiverError where trying again is of no use."""

    def take(self) -> list[Taken]:
        """Wait for records and borrow some; what is neither settled nor given back comes again by itself."""

    def settle(self, handles: Sequence[str]) -> list[str]:
        """Tell that records are safe; return the handles for which that should be told again."""

    def give_back(self, handles: Sequence[str]) -> None:
        """Let records come again at once."""


class PullReceiver:
    """Fills an inbox by way of a puller.

    Calls may last long, so they are made in a thread that is left behind when the job stops: what it still gets it gives
    back, and it never writes.
    """

    def __init__(self, name: str, connect: Callable[[], Puller], inbox: Inbox) -> None:
        self.name, self.connect, self.inbox = name, connect, inbox
        self.writing = threading.Lock()
        self.is_over = False
        self.unsettled: list[str] = []
        # Before the inbox is read by anyone, who might drop what is old.
        self.known = RecentDeliveries(inbox.list_deliveries())

    def run(self, stop: threading.Event) -> None:
        """Receive until told to stop; raises ReceiverError, and OSError where the inbox can't be written."""
        failures: list[Exception] = []

        def work() -> None:
            try:
                self._go_round(stop)
            except Exception as problem:
                failures.append(problem)

        thread = threading.Thread(target=work, name=f"pull {self.name}", daemon=True)
        thread.start()
        while thread.is_alive() and not stop.is_set():
            thread.join(LOOK_S)
        thread.join(GRACE_S)
        with self.writing:
            self.is_over = True
        if failures:
            raise failures[0]

    def _go_round(self, stop: threading.Event) -> None:
        puller = self.connect()
        delay = 0.0
        while not stop.is_set():
            try:
                if not self.unsettled:
                    self._borrow(puller, stop)
                self._settle(puller, stop)
            except TryAgainError as problem:
                if not delay and not stop.is_set():
                    LOG.warning("%s: %s; trying again", self.name, problem)
                delay = min(max(DELAY_FIRST_S, 2 * delay), DELAY_MOST_S)
                stop.wait(delay)
            else:
                if delay:
                    LOG.warning("%s: goes on", self.name)
                delay = 0.0

    def _borrow(self, puller: Puller, stop: threading.Event) -> None:
        taken = puller.take()
        handles = [one.handle for one in taken]
        if self._write([one.record for one in taken if not self._is_second(one)], stop):
            self.unsettled = handles
        else:
            self._give_back(puller, handles)

    def _give_back(self, puller: Puller, handles: Sequence[str]) -> None:
        try:
            puller.give_back(handles)
        except (TryAgainError, ReceiverError) as problem:  # no reason to fail at a stop: they come again by themselves
            LOG.warning("%s: %d records were not given back: %s", self.name, len(handles), problem)

    def _is_second(self, taken: Taken) -> bool:
        # Noted before it is written: where writing fails, this receiver ends.
        if taken.again and self.known.is_known(taken.record.delivery):
            return True
        self.known.note(taken.record.delivery)
        return False

    def _write(self, records: Sequence[Received], stop: threading.Event) -> bool:
        """Write records as soon as there is room for them; return False where the job stopped before."""
        if not records:
            return True
        while not stop.is_set():
            with self.writing:
                if self.is_over:
                    return False
                try:
                    self.inbox.append(records)
                except InboxFullError:
                    pass
                else:
                    return True
            stop.wait(FULL_S)
        return False

    def _settle(self, puller: Puller, stop: threading.Event) -> None:
        """Settle what is safe; what can't be settled comes again, and is known then."""
        for _ in range(SETTLE_TIMES):
            self.unsettled = puller.settle(self.unsettled) if self.unsettled else []
            if not self.unsettled or stop.wait(DELAY_FIRST_S):
                break
        self.unsettled = []
