"""The archive of a partition: whole epochs, from the offset at which a run goes on, read as they came."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from errors import FormatError, InputError
from events.canonical import Decoded
from events.raw import RawBlock
from sources.archive import Archive, Origin, read_origin, read_pieces
from sources.discover import find_files
from sources.lanes import plan_lanes
from sources.probing import make_block
from sources.readers import read_file

ORIGIN = Origin("web/clicks", "web/clicks/3")


def make(first: int, *lines: bytes) -> RawBlock:
    times = np.arange(first, first + len(lines), dtype=np.int64) * 10
    return RawBlock("ndjson", "web/clicks", "web/clicks/3", first, b"\n".join(lines), lines=len(lines), received=times)


def fill(folder: Path, *epochs: list[RawBlock], offset: int | None = None) -> list[str]:
    archive = Archive(folder, ORIGIN, offset)
    for epoch in epochs:
        for block in epoch:
            archive.add(block)
        archive.finish()
    archive.close()
    return sorted(path.name for path in folder.iterdir())


def never_decode(block: RawBlock) -> Decoded:
    raise AssertionError("archived files tell their lane themselves")


def test_what_was_archived_is_read_with_position_and_time_from_any_record_on(tmp_path: Path) -> None:
    names = fill(tmp_path, [make(5, b"a", b"b"), make(9, b"c")], [], [make(10, b"", b"e")])
    assert names == ["00000000000000000005.arrows", "00000000000000000010.arrows"]
    assert read_origin(str(tmp_path / names[0])) == ORIGIN
    (lane,) = plan_lanes(find_files([str(tmp_path)]), (), never_decode, "auto", 0)
    assert lane.name == "web/clicks/3"
    file = lane.files[0].file
    for skip, wanted in enumerate([[(5, b"a\nb"), (9, b"c")], [(6, b"b"), (9, b"c")], [(9, b"c")], []]):
        blocks = [make_block(cut, file, lane.name, 7) for cut in read_file(file, skip, skip, 1)]
        assert [(block.first_position, block.payload) for block in blocks] == wanted
        assert {(block.source, block.partition, block.kind) for block in blocks} <= {
            ("web/clicks", lane.name, "ndjson")
        }
    (piece,) = read_pieces(lane.files[1].file.path, 1)
    assert (piece.first, piece.lines, piece.received.tolist()) == (11, b"e", [110])


def test_run_that_goes_on_drops_what_lies_behind_its_offset_and_what_is_unfinished(tmp_path: Path) -> None:
    archive = Archive(tmp_path, ORIGIN, None)
    for first in (0, 10, 20):
        archive.add(make(first, b"x"))
        archive.finish()
    archive.add(make(30, b"y"))
    archive.close()
    assert fill(tmp_path, [make(10, b"z")], offset=10) == ["00000000000000000000.arrows", "00000000000000000010.arrows"]
    assert [piece.lines for piece in read_pieces(str(tmp_path / "00000000000000000010.arrows"), 0)] == [b"z"]
    assert fill(tmp_path, offset=None) == []


def test_partitions_are_lanes_whatever_their_times_and_grow_by_new_files(tmp_path: Path) -> None:
    fill(tmp_path / "p3", [make(0, b"x")])
    other = Archive(tmp_path / "p4", Origin("web/clicks", "web/clicks/4"), None)
    other.add(make(0, b"x"))
    other.finish()
    first = plan_lanes(find_files([str(tmp_path)]), (), never_decode, "one", 0)
    assert [(lane.name, len(lane.files)) for lane in first] == [("web/clicks/3", 1), ("web/clicks/4", 1)]
    fill(tmp_path / "p3", [make(1, b"y")], offset=1)
    later = plan_lanes(find_files([str(tmp_path)]), first, never_decode, "auto", 0)
    assert [len(lane.files) for lane in later] == [2, 1]


def test_archive_and_other_files_are_not_mixed(tmp_path: Path) -> None:
    fill(tmp_path / "p3", [make(0, b"x")])
    (tmp_path / "other.ndjson").write_bytes(b"{}\n")
    with pytest.raises(InputError, match=r"other\.ndjson: can't be replayed together.*\n.*of its own"):
        plan_lanes(find_files([str(tmp_path)]), (), never_decode, "auto", 0)


@pytest.mark.parametrize(
    ("content", "told"), [(b"\xff\xff\xff\xffrubbish", "not a readable Arrow file"), (b"{}", "says archive")]
)
def test_damaged_archive_is_an_error_that_names_the_file(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "00000000000000000000.arrows").write_bytes(content)
    with pytest.raises(InputError, match=rf"0\.arrows: .*{told}"):
        plan_lanes(find_files([str(tmp_path)]), (), never_decode, "auto", 0)


def test_strange_file_in_the_archive_is_not_deleted(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FormatError, match=r"notes\.txt: is not a file of the archive"):
        Archive(tmp_path, ORIGIN, 5)
    assert (tmp_path / "notes.txt").exists()
