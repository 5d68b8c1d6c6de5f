"""Receivers: what fills the inboxes of a live job, each in a thread of its own, from before the first read to after the last."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol


class Receiver(Protocol):
    """Takes records from somewhere into an inbox."""

    @property
    def name(self) -> str: ...

    def run(self, stop: threading.Event) -> None:
        """Receive until told to stop; goes on by itself when the other side was gone. Raises JourneyError if hopeless."""


@contextmanager
def receiving(receivers: Sequence[Receiver], fail: Callable[[Exception], None]) -> Iterator[None]:
    """Run the receivers beside what is done within; what one of them raises is told to `fail`, from its thread."""
    stop = threading.Event()

    def work(receiver: Receiver) -> None:
        try:
            receiver.run(stop)
        except Exception as problem:
            fail(problem)

    threads = [
        threading.Thread(target=work, args=(receiver,), name=f"receive {receiver.name}", daemon=True)
        for receiver in receivers
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


class RecentDeliveries:
    """The newest deliveries by id: for senders that give every record an id of its own, and may deliver it twice."""

    def __init__(self, known: Iterable[str] = (), size: int = 200_000) -> None:
        self.order: deque[str] = deque()
        self.size, self.ids = size, set[str]()
        for delivery in known:
            self.note(delivery)

    def is_known(self, delivery: str) -> bool:
        """Tell whether a delivery of this id was noted, without noting it."""
        return bool(delivery) and delivery in self.ids

    def note(self, delivery: str) -> None:
        """Remember a delivery whose record is safe."""
        if not delivery or delivery in self.ids:
            return
        self.order.append(delivery)
        self.ids.add(delivery)
        if len(self.order) > self.size:
            self.ids.discard(self.order.popleft())


class OpenDeliveries:
    """What was safe but perhaps not acknowledged when the last run ended: each may be delivered once more."""

    def __init__(self, known: Iterable[str]) -> None:
        self.waiting = Counter(known)

    def take(self, delivery: str) -> bool:
        """Tell whether this is one of them, which is thereby used up."""
        if self.waiting[delivery] <= 0:
            return False
        self.waiting[delivery] -= 1
        return True
