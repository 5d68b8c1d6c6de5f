"""The inbox of a source as a partition that can be read again from any offset."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from config import SourceRules
from errors import FormatError
from events.raw import RawBlock
from sources.inbox import Inbox, Received
from sources.live import make_block, to_file_name

WAIT_S = 0.25
BLOCK_RECORDS = 20_000


@dataclass(frozen=True)
class InboxPart:
    """The inbox of a queue of a source; `limit`: the largest size of a record."""

    rules: SourceRules
    queue: str
    inbox: Inbox
    limit: int

    @property
    def source(self) -> str:
        """The source and queue, as the tables name them."""
        return f"{self.rules.name}/{self.queue}"

    @property
    def name(self) -> str:
        """The partition, as the tables and the recovery store name it."""
        return f"{self.source}/0"

    def open(self, offset: int | None) -> InboxFeed:
        """Go on at an offset, or at the first record of the inbox; raises FormatError."""
        return InboxFeed(self, offset or 0)


class InboxFeed:
    """Reads an inbox, frame by frame."""

    def __init__(self, part: InboxPart, offset: int) -> None:
        self.part, self.offset = part, offset
        self.place: tuple[str, int] | None = None
        if offset > part.inbox.next_offset:
            raise FormatError(
                f"{part.inbox.folder}: ends at record {part.inbox.next_offset:,}, and the job goes on at {offset:,}",
                remedy="put the folder back as it was with this warehouse, or run into a new --warehouse",
            )
        part.inbox.note_consumed(offset)

    def tell_next(self) -> int:
        return self.offset

    def tell_lag(self) -> int | None:
        return self.part.inbox.next_offset - self.offset

    def fetch(self) -> list[RawBlock]:
        if not self.part.inbox.wait(self.offset, WAIT_S):
            return []
        first, records = self.offset, list[Received]()
        for frame, place in self.part.inbox.read(self.offset, self.place):
            records += frame.records
            self.offset, self.place = frame.next, place
            if len(records) >= BLOCK_RECORDS:
                break
        received = np.array([record.received for record in records], dtype=np.int64)
        return [make_block(self.part, first, b"\n".join([record.line for record in records]), received)]

    def note_durable(self, offset: int) -> None:
        self.part.inbox.note_consumed(offset)

    def close(self) -> None:
        """Nothing is kept open between two reads."""


def choose_folder(root: Path, rules: SourceRules, queue: str) -> Path:
    """Return the folder of a queue's inbox; a queue's name may hold what a file's may not."""
    return root / rules.name / to_file_name(queue)
