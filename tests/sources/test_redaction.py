"""Records that mention somebody are emptied where they lie, and all others stay as they are."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from events.raw import RawBlock
from sources.archive import Archive, Origin, read_origin, read_pieces
from sources.inbox import Inbox, Received
from sources.redaction import find_records, redact_records

ANN = re.compile(rb"ann-whose-id")


def test_records_are_emptied_and_keep_their_places(tmp_path: Path) -> None:
    lines = [b'{"u":"ann-whose-id"}', b'{"u":"bob"}', b'{"u":"bob","friend":"ann-whose-id"}', b'{"u":"cid"}']
    inboxes, archives = tmp_path / "inbox", tmp_path / "archive"
    inbox = Inbox(inboxes / "shop" / "queue", 1 << 30, segment=1)
    for number, line in enumerate(lines):
        inbox.append([Received(line, number, f"d{number}"), Received(b"other", number)])
    archive = Archive(archives / "web", Origin("web/t", "web/t/0"), None)
    for first in (0, 4):
        times = np.arange(4, dtype=np.int64)
        archive.add(RawBlock("ndjson", "web/t", "web/t/0", first, b"\n".join(lines), lines=4, received=times))
    archive.finish()
    assert sum(find_records(inboxes, archives, ANN).values()) == 6
    assert sum(redact_records(inboxes, archives, ANN).values()) == 6
    assert find_records(inboxes, archives, ANN) == {}
    assert redact_records(inboxes, archives, ANN) == {}
    left = [b"null", lines[1], b"null", lines[3]]
    again = Inbox(inboxes / "shop" / "queue", 1 << 30)
    found = [record for frame, _ in again.read(0) for record in frame.records]
    assert [record.line for record in found[::2]] == left
    assert [record.delivery for record in found[::2]] == ["d0", "d1", "d2", "d3"]
    assert again.append([Received(b"more", 9)]) == 8
    (file,) = archives.rglob("*.arrows")
    assert read_origin(str(file)) == Origin("web/t", "web/t/0")
    assert [piece.lines.split(b"\n") for piece in read_pieces(str(file), 0)] == [left, left]
    assert not any(b"ann-whose-id" in path.read_bytes() for path in inboxes.rglob("*.inbox"))
