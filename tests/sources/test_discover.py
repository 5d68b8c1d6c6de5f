"""Which files are found, how they are called, and what is refused before anything is read."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from errors import InputError
from sources.discover import find_files, guess_kind
from tests.support.files import pack_zstd


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"{}\n")


def names(*patterns: str | Path) -> list[str]:
    return [file.name for file in find_files([str(pattern) for pattern in patterns])]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.ndjson", ("ndjson", "")),
        ("a.JSONL", ("ndjson", "")),
        ("a.json", ("ndjson", "")),
        ("a.log", ("ndjson", "")),
        ("a.csv", ("csv", "")),
        ("a.tsv", ("tsv", "")),
        ("a.tsv.gz", ("tsv", "gzip")),
        ("a.parquet", ("parquet", "")),
        ("a.ndjson.gz", ("ndjson", "gzip")),
        ("a.csv.gz", ("csv", "gzip")),
        ("a.csv.zst", ("csv", "zstd")),
        ("a.json.ZSTD", ("ndjson", "zstd")),
        ("a.gz", ("ndjson", "gzip")),
        ("a.2026-01-05.gz", ("ndjson", "gzip")),
        ("a.tar.gz", None),
        ("a.txt", None),
        ("a.zip", None),
        ("ndjson", None),
        ("a", None),
    ],
)
def test_kind_is_told_by_the_ending(name: str, kind: tuple[str, str] | None) -> None:
    assert guess_kind(name) == kind


def test_folder_stands_for_the_event_files_below_it_but_for_hidden_ones(tmp_path: Path) -> None:
    make(
        tmp_path, "b.ndjson", "a/2.csv", "a/1.jsonl", ".hidden.ndjson", "_temporary/x.ndjson", ".git/x.json", "a/_x.csv"
    )
    make(tmp_path, "readme.md", "a/deep/er/z.ndjson", "Ünïcode 日本.ndjson")
    assert names(tmp_path) == ["a/1.jsonl", "a/2.csv", "a/deep/er/z.ndjson", "b.ndjson", "Ünïcode 日本.ndjson"]


def test_file_is_called_by_its_name(tmp_path: Path) -> None:
    make(tmp_path, "a/1.ndjson")
    assert names(tmp_path / "a" / "1.ndjson") == ["1.ndjson"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.ndjson", ["b.ndjson"]),
        ("a/*.ndjson", ["1.ndjson", "2.ndjson"]),
        ("a/1*", ["1.ndjson"]),
        ("*/1.ndjson", ["a/1.ndjson", "c/1.ndjson"]),
        ("[ac]/?.ndjson", ["a/1.ndjson", "a/2.ndjson", "c/1.ndjson"]),
        ("**/*.ndjson", ["a/1.ndjson", "a/2.ndjson", "b.ndjson", "c/1.ndjson"]),
        ("a/**/*.ndjson", ["1.ndjson", "2.ndjson"]),
    ],
)
def test_glob_is_expanded_and_names_are_relative_to_where_its_wildcards_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, found: list[str]
) -> None:
    make(tmp_path, "a/1.ndjson", "a/2.ndjson", "b.ndjson", "c/1.ndjson", "a/.hidden.ndjson")
    assert names(f"{tmp_path}/{pattern}") == found
    monkeypatch.chdir(tmp_path)
    assert names(pattern) == found
    assert names(f"./{pattern}") == found


def test_file_whose_name_looks_like_a_glob_is_itself(tmp_path: Path) -> None:
    make(tmp_path, "a[1].ndjson", "a1.ndjson")
    assert names(tmp_path / "a[1].ndjson") == ["a[1].ndjson"]


def test_file_is_found_once_whatever_leads_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a/1.ndjson")
    (tmp_path / "a" / "latest.ndjson").symlink_to(tmp_path / "a" / "1.ndjson")
    (tmp_path / "also").symlink_to(tmp_path / "a")
    monkeypatch.chdir(tmp_path)
    found = find_files(["a", "a/1.ndjson", "./a/*.ndjson", str(tmp_path / "a"), "also/1.ndjson", "a/latest.ndjson"])
    assert [file.path for file in found] == [str((tmp_path / "a" / "1.ndjson").resolve())]


def test_links_to_files_are_followed_and_links_to_folders_are_not(tmp_path: Path) -> None:
    make(tmp_path, "elsewhere/1.ndjson", "elsewhere/2.ndjson", "a/3.ndjson")
    (tmp_path / "a" / "link.ndjson").symlink_to(tmp_path / "elsewhere" / "1.ndjson")
    (tmp_path / "a" / "folder").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "a" / "gone.ndjson").symlink_to(tmp_path / "nowhere")
    assert sorted(names(tmp_path / "a")) == ["3.ndjson", "link.ndjson"]


def test_two_files_of_one_name_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "web/1.ndjson", "app/1.ndjson", "app/2.ndjson")
    monkeypatch.chdir(tmp_path)
    assert names("web", "app") == ["app/1.ndjson", "2.ndjson", "web/1.ndjson"]


def test_files_are_in_the_order_of_their_paths(tmp_path: Path) -> None:
    make(tmp_path, "2.ndjson", "10.ndjson", "1.ndjson")
    assert names(tmp_path / "2.ndjson", tmp_path / "1.ndjson", tmp_path) == ["1.ndjson", "10.ndjson", "2.ndjson"]


def test_standard_input_is_an_input_beside_others(tmp_path: Path) -> None:
    make(tmp_path, "1.ndjson")
    assert [file.path for file in find_files(["-", str(tmp_path), "-"])] == [
        "-",
        str((tmp_path / "1.ndjson").resolve()),
    ]


def test_content_decides_over_the_name_where_both_are_possible(tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_bytes(gzip.compress(b"{}"))
    (tmp_path / "b.csv").write_bytes(pack_zstd(b"a\n1\n"))
    (tmp_path / "c.gz").write_bytes(pack_zstd(b"{}"))
    assert [(file.kind, file.packing) for file in find_files([str(tmp_path)])] == [
        ("ndjson", "gzip"),
        ("csv", "zstd"),
        ("ndjson", "zstd"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.ndjson.gz", b"{}\n", "is named gzip, but is not"),
        ("a.zst", b"{}\n", "is named zstd, but is not"),
        ("a.parquet", b"{}\n", "the content says otherwise"),
        ("a.csv", b"PAR1....PAR1", "the content says otherwise"),
        ("a.parquet", gzip.compress(b"PAR1", mtime=0), "the content says otherwise"),
        ("a.ndjson", "{}\n".encode("utf-16"), "is UTF-16 text"),
        ("a.txt", b"{}\n", "unknown kind of file"),
        ("a.tar.gz", gzip.compress(b"x", mtime=0), "unknown kind of file"),
    ],
    ids=["gz", "zst", "text as parquet", "parquet as csv", "packed parquet", "UTF-16", "txt", "tar.gz"],
)
def test_file_that_is_not_what_it_is_called_is_refused(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=problem) as caught:
        find_files([str(tmp_path / name)])
    assert caught.value.remedy
    assert name in caught.value.problem


@pytest.mark.parametrize("name", ["a.ndjson", "a.csv", "a.parquet", "a.ndjson.gz", "a.zst"])
def test_empty_file_is_fine(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert [file.size for file in find_files([str(tmp_path)])] == [0]


def test_nothing_found_and_nothing_there_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no event files"):
        find_files([str(tmp_path)])
    with pytest.raises(InputError, match="no event files"):
        find_files([f"{tmp_path}/*.ndjson"])
    with pytest.raises(InputError, match="no such file or folder"):
        find_files([str(tmp_path / "a.ndjson")])
    (tmp_path / "gone.ndjson").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no such file or folder"):
        find_files([str(tmp_path / "gone.ndjson")])


def test_pipe_is_refused_with_what_to_do(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.ndjson")
    with pytest.raises(InputError, match="is a pipe or device") as caught:
        find_files([str(tmp_path / "pipe.ndjson")])
    assert "journeys replay -" in caught.value.remedy


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    make(tmp_path, "a.ndjson")
    (tmp_path / "a.ndjson").chmod(0)
    with pytest.raises(InputError, match=r"a\.ndjson: Permission denied"):
        find_files([str(tmp_path)])


def test_tab_separated_files_are_read_where_the_format_has_them(tmp_path: Path) -> None:
    make(tmp_path, "a.ndjson", "b.tsv", "c.tsv.gz")
    assert names(tmp_path) == ["a.ndjson"]
    for named in ("b.tsv", "*.tsv"):
        with pytest.raises(InputError, match=r"b\.tsv: tab-separated lines without a header are Snowplow's"):
            find_files([str(tmp_path / named)])
    (tmp_path / "c.tsv.gz").write_bytes(gzip.compress(b"x"))
    found = find_files([str(tmp_path)], tabs=True)
    assert [(file.name, file.kind, file.packing) for file in found] == [
        ("a.ndjson", "ndjson", ""),
        ("b.tsv", "tsv", ""),
        ("c.tsv.gz", "tsv", "gzip"),
    ]
