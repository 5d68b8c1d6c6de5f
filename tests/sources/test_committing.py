"""Group commit: one sync for many, no answer before it, and none at all where it failed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from errors import InboxFullError
from sources.committing import ClosedError, Committer
from sources.inbox import Inbox, Received


class SlowInbox(Inbox):
    """A real inbox that waits for the test before it writes, and counts how often it does."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, 1 << 20)
        self.may_write = threading.Event()
        self.begun = threading.Event()
        self.groups: list[int] = []

    def append(self, records: Sequence[Received]) -> int:
        self.begun.set()
        assert self.may_write.wait(20)
        self.groups.append(len(records))
        return super().append(records)


class BrokenInbox(Inbox):
    """An inbox on a disk that is full."""

    def append(self, records: Sequence[Received]) -> int:
        raise OSError(28, "No space left on device")


def make(name: str, delivery: str = "") -> Received:
    return Received(name.encode(), 1, delivery)


def read(inbox: Inbox) -> list[bytes]:
    return [record.line for frame, _ in inbox.read(0) for record in frame.records]


def test_requests_that_wait_together_share_one_write_and_are_answered_after_it(tmp_path: Path) -> None:
    inbox = SlowInbox(tmp_path)

    async def ask() -> None:
        first = asyncio.create_task(committer.commit([make("0")]))
        while not inbox.begun.is_set():
            await asyncio.sleep(0.01)
        others = [asyncio.create_task(committer.commit([make(f"{n}"), make(f"{n}b")])) for n in range(1, 50)]
        await asyncio.sleep(0.1)  # the loop is free while the disk is waited for
        assert not first.done()
        assert not any(task.done() for task in others)
        inbox.may_write.set()
        assert await first == 1
        assert await asyncio.gather(*others) == [2] * 49

    with Committer(inbox) as committer:
        asyncio.run(ask())
    assert inbox.groups == [1, 98]
    assert read(inbox) == [b"0", *(text.encode() for n in range(1, 50) for text in (f"{n}", f"{n}b"))]


def test_what_was_delivered_before_is_not_written_again_not_even_by_the_next_run(tmp_path: Path) -> None:
    with Committer(Inbox(tmp_path, 1 << 20)) as committer:
        assert asyncio.run(committer.commit([make("a", "x"), make("b", "x"), make("c"), make("c")])) == 3
        assert asyncio.run(committer.commit([make("a", "x"), make("d", "y")])) == 1
        assert (committer.written, committer.repeated) == (4, 2)
    inbox = Inbox(tmp_path, 1 << 20)
    with Committer(inbox) as committer:
        assert asyncio.run(committer.commit([make("a", "x"), make("d", "y")])) == 0
    assert read(inbox) == [b"a", b"c", b"c", b"d"]


def test_full_inbox_is_told_and_the_same_records_are_taken_later(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path, 1_000)
    with Committer(inbox) as committer:
        asyncio.run(committer.commit([make("x" * 2_000)]))
        with pytest.raises(InboxFullError):
            asyncio.run(committer.commit([make("y", "delivery")]))
        inbox.note_consumed(1)
        assert asyncio.run(committer.commit([make("y", "delivery")])) == 1


def test_full_disk_answers_nobody_and_is_the_end(tmp_path: Path) -> None:
    with Committer(BrokenInbox(tmp_path, 1 << 20)) as committer:
        with pytest.raises(OSError, match="No space"):
            asyncio.run(committer.commit([make("a")]))
        assert isinstance(committer.failure, OSError)
        with pytest.raises(ClosedError):
            asyncio.run(committer.commit([make("a")]))


def test_closing_writes_what_still_waits_and_takes_nothing_more(tmp_path: Path) -> None:
    inbox = SlowInbox(tmp_path)

    async def ask() -> list[int]:
        tasks = [asyncio.create_task(committer.commit([make(f"{n}")])) for n in range(5)]
        await asyncio.sleep(0.1)
        closing = asyncio.get_running_loop().run_in_executor(None, committer.__exit__)
        inbox.may_write.set()
        await closing
        return await asyncio.gather(*tasks)

    committer = Committer(inbox).__enter__()
    assert asyncio.run(ask()) == [1] * 5
    assert len(read(inbox)) == 5
    with pytest.raises(ClosedError):
        asyncio.run(committer.commit([make("late")]))
