"""Group commit: what several requests bring at the same time is written to the inbox together, with one sync.

Requests wait on an event loop, the writing is done by a thread: the loop never waits for the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from errors import InboxFullError, JourneyError
from sources.inbox import Inbox, Received
from sources.receiving import RecentDeliveries

GROUP_RECORDS = 20_000
GROUP_BYTES = 8 << 20


class ClosedError(JourneyError):
    """Nothing more is taken: the job stops."""


@dataclass
class _Waiting:
    records: Sequence[Received]
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[int]


class Committer:
    """Writes to an inbox; what was delivered before is not written again. A context: leaving it writes what still waits."""

    def __init__(self, inbox: Inbox) -> None:
        self.inbox = inbox
        self.known = RecentDeliveries(inbox.list_deliveries())
        self.failure: Exception | None = None  # what keeps it from ever writing again
        self.written = self.repeated = 0
        self.waiting: deque[_Waiting] = deque()
        self.changed = threading.Condition()
        self.closed = False
        self.thread = threading.Thread(target=self._work, name="commit", daemon=True)

    def __enter__(self) -> Committer:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self.changed:
            self.closed = True
            self.changed.notify_all()
        self.thread.join()

    async def commit(self, records: Sequence[Received]) -> int:
        """Return, once all of them are on disk, how many were new; raises InboxFullError, ClosedError, OSError."""
        loop = asyncio.get_running_loop()
        one = _Waiting(records, loop, loop.create_future())
        with self.changed:
            if self.closed:
                raise ClosedError("the job stops")
            self.waiting.append(one)
            self.changed.notify_all()
        return await one.done

    def _work(self) -> None:
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.waiting or self.closed)
                group = self._take_group()
            if not group:
                return
            try:
                counts = self._write(group)
            except InboxFullError as problem:
                _answer(group, [problem] * len(group))
            except Exception as problem:  # a full disk, for one: nobody may be told that it arrived
                with self.changed:
                    self.failure, self.closed = problem, True
                    group += self.waiting
                    self.waiting.clear()
                _answer(group, [problem] * len(group))
                return
            else:
                _answer(group, counts)

    def _take_group(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        records = size = 0
        while self.waiting and (not group or (records < GROUP_RECORDS and size < GROUP_BYTES)):
            group.append(self.waiting.popleft())
            records += len(group[-1].records)
            size += sum(len(record.line) for record in group[-1].records)
        return group

    def _write(self, group: list[_Waiting]) -> list[int]:
        fresh: list[Received] = []
        counts: list[int] = []
        now = set[str]()
        for one in group:
            before = len(fresh)
            for record in one.records:
                if record.delivery and (record.delivery in now or self.known.is_known(record.delivery)):
                    continue
                fresh.append(record)
                now.add(record.delivery)
            counts.append(len(fresh) - before)
        if fresh:
            self.inbox.append(fresh)
        for record in fresh:
            self.known.note(record.delivery)
        self.written += len(fresh)
        self.repeated += sum(len(one.records) for one in group) - len(fresh)
        return counts


def _answer(group: Sequence[_Waiting], answers: Sequence[int | Exception]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[int], int | Exception]]] = {}
    for one, answer in zip(group, answers, strict=True):
        by_loop.setdefault(one.loop, []).append((one.done, answer))
    for loop, pairs in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it everybody who asked
            loop.call_soon_threadsafe(_resolve, pairs)


def _resolve(pairs: list[tuple[asyncio.Future[int], int | Exception]]) -> None:
    for future, answer in pairs:
        if future.done():  # the request was given up
            continue
        if isinstance(answer, int):
            future.set_result(answer)
        else:
            future.set_exception(answer)
