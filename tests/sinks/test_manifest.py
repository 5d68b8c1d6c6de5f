"""Manifests are read as they were written, the newest counts, and files go when nothing names them any more."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from errors import FormatError
from sinks.manifest import (
    MERGED,
    DataFile,
    Manifest,
    add_files,
    clean_up,
    list_manifests,
    load_manifest,
    publish,
    read_manifest,
    remove_orphans,
)
from sinks.storage import Folders, hold_publish_lock, hold_rewrite_lock


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    folders = Folders(tmp_path / "warehouse")
    folders.make()
    return folders


def make_file(folders: Folders, name: str, table: str = "events") -> DataFile:
    """Make a file with some bytes in it where a data file would stand."""
    path = folders.root / table / "dt=2026-01-01" / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"rows")
    return DataFile(path.relative_to(folders.root).as_posix(), 1, 4, "2026-01-01")


def publish_files(folders: Folders, *files: DataFile) -> Manifest:
    """Publish a manifest with just these files of events."""
    with hold_publish_lock(folders):
        return publish(folders, replace(read_manifest(folders), files={"events": files}))


def test_manifest_reads_back_as_it_was_written(folders: Folders) -> None:
    one, two = make_file(folders, "one"), make_file(folders, "two", "sessions")
    forgotten = {"token": "t", "run": 2, "base": {"sessions": 1}, "tail": {}, "waiting": [["a.ndjson", "lane-000", 3]]}
    written = Manifest(4, 9, 2, {"w00": 3}, {"events": (one,)}, {"sessions": (two,)}, "digest", (forgotten,))
    published = publish(folders, written)
    assert published.version == 5
    assert read_manifest(folders) == published
    assert published == replace(written, version=5)
    assert published.visible("sessions") == (two,)


def test_nothing_published_is_an_empty_manifest(folders: Folders) -> None:
    assert read_manifest(folders) == Manifest()


def test_manifest_of_before_forgetting_existed_reads_back(folders: Folders) -> None:
    publish_files(folders, make_file(folders, "one"))
    (path,) = list_manifests(folders)
    body = json.loads(path.read_bytes())
    del body["forgotten"]
    path.write_text(json.dumps(body))
    assert load_manifest(path).forgotten == ()


def test_newest_version_wins_beyond_nine(folders: Folders) -> None:
    for number in range(11):
        last = publish_files(folders, make_file(folders, f"f{number}"))
    assert last.version == 11
    assert read_manifest(folders) == last


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 99}'])
def test_damaged_or_foreign_manifest_is_an_error(folders: Folders, content: bytes) -> None:
    (folders.manifests / "0000000001.json").write_bytes(content)
    with pytest.raises(FormatError):
        read_manifest(folders)


def test_unfinished_manifest_of_a_killed_process_is_not_seen(folders: Folders) -> None:
    first = publish_files(folders, make_file(folders, "one"))
    (folders.manifests / ".0000000002.json.tmp").write_bytes(b"{")
    assert read_manifest(folders) == first
    remove_orphans(folders, ())
    assert not (folders.manifests / ".0000000002.json.tmp").exists()


def test_adding_files_appends_by_table(folders: Folders) -> None:
    one, two, three = (make_file(folders, name) for name in ("one", "two", "three"))
    assert add_files({"events": (one,)}, {"events": (two,), "paths": (three,)}) == {
        "events": (one, two),
        "paths": (three,),
    }


def test_files_go_with_the_last_manifest_that_names_them(folders: Folders) -> None:
    one, two, three = (make_file(folders, name) for name in ("one", "two", "three"))
    publish_files(folders, one, two)
    publish_files(folders, two)
    publish_files(folders, two, three)
    assert clean_up(folders, keep=3) == 0
    assert clean_up(folders, keep=2) == 1
    assert not (folders.root / one.path).exists()
    assert (folders.root / two.path).exists()
    assert len(list_manifests(folders)) == 2
    assert read_manifest(folders).visible("events") == (two, three)


def test_orphans_go_and_named_and_needed_files_stay(folders: Folders) -> None:
    old, new, waiting, orphan = (make_file(folders, name) for name in ("old", "new", "waiting", "orphan"))
    publish_files(folders, old)
    publish_files(folders, new)
    assert remove_orphans(folders, [waiting.path]) == 1
    assert not (folders.root / orphan.path).exists()
    assert all((folders.root / file.path).exists() for file in (old, new, waiting))


def test_orphans_that_a_running_compaction_writes_stay(folders: Folders) -> None:
    merged, orphan = make_file(folders, f"{MERGED}1"), make_file(folders, "orphan")
    with hold_rewrite_lock(folders):
        assert remove_orphans(folders, ()) == 1
        assert (folders.root / merged.path).exists()
    assert remove_orphans(folders, ()) == 1
    assert not (folders.root / merged.path).exists()
    assert not (folders.root / orphan.path).exists()
