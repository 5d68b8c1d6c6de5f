"""The inbox: nothing that was appended is lost, cut or read twice, whatever is left of the process and its files."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from errors import FormatError, InboxFullError
from sources.inbox import REMEMBERED_US, Inbox, Received

ROOMY = 1 << 30
ROOT = Path(__file__).parents[2]


def make(*lines: bytes, at: int = 0) -> list[Received]:
    return [Received(line, at, f"d-{line.decode(errors='replace')}") for line in lines]


def read_all(inbox: Inbox, offset: int = 0) -> list[bytes]:
    return [record.line for frame, _ in inbox.read(offset) for record in frame.records]


batches = st.lists(st.lists(st.binary(max_size=50), min_size=1, max_size=5), min_size=1, max_size=12)


@settings(max_examples=50, deadline=None)
@given(batches, st.integers(1, 5_000), st.integers(0, 12))
def test_what_was_appended_is_read_in_order_from_any_frame(
    tmp_path_factory: pytest.TempPathFactory, lines: list[list[bytes]], segment: int, restart: int
) -> None:
    folder = tmp_path_factory.mktemp("inbox")
    inbox, firsts = Inbox(folder, ROOMY, segment), []
    for number, batch in enumerate(lines):
        inbox = Inbox(folder, ROOMY, segment) if number == restart else inbox
        firsts.append(inbox.append([Received(line, number) for line in batch]))
    wanted = [line for batch in lines for line in batch]
    for opened in (inbox, Inbox(folder, ROOMY, segment)):
        assert opened.next_offset == len(wanted)
        for first in firsts:
            assert read_all(opened, first) == wanted[first:]


def test_reader_goes_on_where_it_stopped_while_more_is_appended(tmp_path: Path) -> None:
    inbox, seen, place = Inbox(tmp_path, ROOMY, 300), [], None
    for number in range(20):
        inbox.append(make(b"a%d" % number, b"b%d" % number))
        for frame, end in inbox.read(2 * number, place):
            seen += [record.line for record in frame.records]
            place = end
    assert seen == [text % number for number in range(20) for text in (b"a%d", b"b%d")]


@pytest.mark.parametrize("left", [1, 10, 37, 40, 200, 350])
def test_frame_cut_short_by_a_crash_is_dropped_and_written_over(tmp_path: Path, left: int) -> None:
    inbox = Inbox(tmp_path, ROOMY)
    inbox.append(make(b"one", b"two"))
    size = inbox.segments[0].size
    inbox.append(make(b"three"))
    os.truncate(inbox.segments[0].path, size + left)
    again = Inbox(tmp_path, ROOMY)
    assert again.next_offset == 2
    again.append(make(b"four"))
    assert read_all(Inbox(tmp_path, ROOMY)) == [b"one", b"two", b"four"]


def test_damage_within_is_an_error_and_not_taken_for_a_torn_end(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path, ROOMY)
    for line in (b"one", b"two", b"three"):
        inbox.append(make(line))
    path = inbox.segments[0].path
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"damaged at byte \d.*\n.*restore"):
        Inbox(tmp_path, ROOMY)


def test_missing_segment_is_an_error(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path, ROOMY, segment=1)
    for line in (b"one", b"two", b"three"):
        inbox.append(make(line))
    inbox.segments[1].path.unlink()
    with pytest.raises(FormatError, match=r"ends at record 1, and the next file begins at 2"):
        Inbox(tmp_path, ROOMY)


def test_full_inbox_takes_nothing_until_some_is_consumed(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path, 2_000, segment=500)
    taken = 0
    with pytest.raises(InboxFullError):
        while taken < 100:
            inbox.append(make(b"x" * 100))
            taken += 1
    assert 1 < taken < 20
    assert len(read_all(inbox)) == taken
    inbox.note_consumed(taken)
    assert inbox.backlog() == 0
    inbox.append(make(b"y"))
    assert read_all(inbox, taken) == [b"y"]


def test_consumed_records_stay_as_long_as_they_may_be_delivered_again(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path, ROOMY, segment=1)
    inbox.append(make(b"old", at=0))
    inbox.append(make(b"young", at=REMEMBERED_US))
    inbox.note_consumed(2)
    assert list(inbox.list_deliveries()) == ["d-old", "d-young"]
    inbox.append(make(b"new", at=REMEMBERED_US + 2))
    inbox.note_consumed(3)
    assert list(inbox.list_deliveries()) == ["d-young", "d-new"]
    assert list(inbox.list_deliveries(2)) == ["d-new"]
    with pytest.raises(FormatError, match="begins at record 1"):
        read_all(inbox, 0)


def test_unconsumed_records_stay_however_old(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path, ROOMY, segment=1)
    for number in range(5):
        inbox.append(make(b"%d" % number, at=number * 10 * REMEMBERED_US))
    inbox.note_consumed(2)
    assert read_all(inbox, 2) == [b"2", b"3", b"4"]


def test_append_that_failed_at_a_new_segment_leaves_the_inbox_as_it_was(tmp_path: Path) -> None:
    def fail(name: str) -> None:
        raise OSError(name)

    inbox = Inbox(tmp_path, ROOMY, segment=1)
    inbox.append(make(b"a"))
    inbox.pass_point = fail
    with pytest.raises(OSError, match="inbox_received"):
        inbox.append(make(b"b"))
    del inbox.pass_point
    assert inbox.append(make(b"c")) == 1
    assert read_all(Inbox(tmp_path, ROOMY)) == [b"a", b"c"]


def test_waiting_reader_is_woken_by_an_append(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path, ROOMY)
    assert not inbox.wait(0, 0.01)
    threading.Timer(0.1, lambda: inbox.append(make(b"x"))).start()
    assert inbox.wait(0, 10)


def test_killed_writer_leaves_all_that_it_acknowledged(tmp_path: Path) -> None:
    """A process appends and prints each offset once it is safe; it is killed by SIGKILL in the midst of it."""
    code = (
        "import sys; from pathlib import Path; from sources.inbox import Inbox, Received\n"
        "inbox = Inbox(Path(sys.argv[1]), 1 << 40, 4096)\n"
        "while True:\n"
        "    lines = [Received(b'%d' % (inbox.next_offset + n), n) for n in range(3)]\n"
        "    print(inbox.append(lines) + 3, flush=True)\n"
    )
    for _ in range(4):
        writer = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        told = [int(writer.stdout.readline()) for _ in range(150)]
        writer.kill()
        told += [int(line) for line in writer.communicate()[0].split()]
        found = read_all(Inbox(tmp_path, ROOMY))
        assert len(found) >= told[-1]
        assert found == [b"%d" % number for number in range(len(found))]
