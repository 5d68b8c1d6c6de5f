"""Files and standard input through whole replays: every format gives the same tables, and breaks are mended."""

from __future__ import annotations

import gzip
import random
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from config import Config, DeadLetterLimit, JobRules
from errors import InputError, SourceChangedError
from flows.replay import ReplayOptions, run_replay
from sinks.catalog import open_views
from sinks.storage import Folders
from tests.support.files import FORMATS, dump_lines
from tests.support.records import NOW, Row, free

ROOT = Path(__file__).parents[2]
BEGIN = 1_767_571_200
RULES = free(event_time="t", user_id="u", event_name="n", event_id="i")
CONFIG = Config(input=RULES, job=JobRules(key_groups=2), dead_letters=DeadLetterLimit(count=10**6))


def rows(count: int, first: int = 0) -> list[Row]:
    random_ = random.Random(first)
    return [
        {"i": f"{random_.random()}", "t": BEGIN + i, "u": f"u{i % 7}", "n": random_.choice(("A", "B", 'C "ü",\n'))}
        for i in range(first, first + count)
    ]


def replay(path: Path, warehouse: Path, config: Config = CONFIG) -> str:
    return run_replay(ReplayOptions((str(path),), warehouse, clock=lambda: NOW), config).outcome


def read(warehouse: Path, table: str = "events") -> pl.DataFrame:
    connection, _ = open_views(Folders(warehouse))
    with connection:
        connection.execute("SET TimeZone = 'UTC'")
        return pl.DataFrame(connection.sql(f'SELECT * FROM "{table}"').to_arrow_table())


def read_ids(warehouse: Path) -> list[str]:
    return sorted(read(warehouse)["event_id"].to_list())


def test_every_format_gives_the_same_events(tmp_path: Path) -> None:
    found = []
    for number, write in enumerate(FORMATS.values()):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert replay(write(folder, rows(60)), folder / "warehouse") == "finished"
        columns = ("event_id", "event_time", "person_id", "event_name", "session_id", "session_index")
        found.append(read(folder / "warehouse").select(columns).sort("event_id"))
        ledger = read(folder / "warehouse", "ledger")
        assert ledger.select("received", "accepted", "dead").rows() == [(60, 60, 0)]
    assert all(frame.equals(found[0]) for frame in found[1:])
    assert found[0].height == 60


def test_packed_file_cut_short_is_an_error_and_goes_on_when_it_is_whole(tmp_path: Path) -> None:
    packed = gzip.compress(dump_lines(rows(30_000)))
    path = tmp_path / "a.ndjson.gz"
    path.write_bytes(packed[:-300])
    config = Config(input=RULES, job=JobRules(key_groups=2, block_bytes=256 << 10, snapshot=1))
    with pytest.raises(InputError, match=r"a\.ndjson\.gz: the compressed data is damaged or cut short"):
        replay(path, tmp_path / "warehouse", config)
    path.write_bytes(packed)
    assert replay(path, tmp_path / "warehouse", config) == "finished"
    assert read_ids(tmp_path / "warehouse") == sorted(row["i"] for row in rows(30_000))
    assert read(tmp_path / "warehouse", "ledger")["received"].sum() == 30_000


def test_file_that_grew_by_lines_is_read_on_and_one_that_was_rewritten_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    path.write_bytes(dump_lines(rows(100)))
    assert replay(path, tmp_path / "warehouse") == "finished"
    assert replay(path, tmp_path / "warehouse") == "nothing_to_do"
    with path.open("ab") as file:
        file.write(dump_lines(rows(50, 100)))
    assert replay(path, tmp_path / "warehouse") == "finished"
    assert read_ids(tmp_path / "warehouse") == sorted(row["i"] for row in [*rows(100), *rows(50, 100)])
    path.write_bytes(dump_lines(rows(150, 1)))
    with pytest.raises(SourceChangedError, match="changed since it was read"):
        replay(path, tmp_path / "warehouse")


def test_line_cut_at_the_end_is_dead_and_the_file_may_not_grow_on(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    text = dump_lines(rows(10))
    path.write_bytes(text[:-5])
    replay(path, tmp_path / "warehouse")
    assert read(tmp_path / "warehouse", "dead_letters")["reason"].to_list() == ["not_json"]
    path.write_bytes(text)
    with pytest.raises(SourceChangedError, match="its last line, which had no end"):
        replay(path, tmp_path / "warehouse")


def test_another_name_for_a_file_is_no_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.ndjson").write_bytes(dump_lines(rows(10)))
    assert replay(tmp_path / "in", tmp_path / "warehouse") == "finished"
    monkeypatch.chdir(tmp_path)
    for name in ("in", "in/a.ndjson", "./in/*.ndjson"):
        assert replay(Path(name), tmp_path / "warehouse") == "nothing_to_do"


def test_file_of_nothing_ends_well(tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").touch()
    (tmp_path / "b.csv").write_bytes(b"t,u,n,i\n")
    assert replay(tmp_path, tmp_path / "warehouse") == "finished"
    assert read(tmp_path / "warehouse").height == 0


DRIVER = """
import sys
from datetime import datetime, timezone
from pathlib import Path
from config import Config, InputRules, JobRules
from errors import JourneyError
from flows.replay import ReplayOptions, run_replay
fields = {"event_time": ("t",), "user_id": ("u",), "event_name": ("n",), "event_id": ("i",)}
config = Config(input=InputRules("fields", fields), job=JobRules(key_groups=2, block_bytes=256 << 10, snapshot=1))
now = datetime(2026, 3, 1, tzinfo=timezone.utc)
stop_at = int(sys.argv[2])
def watch(progress, manifest):
    if stop_at and progress.records >= stop_at:
        import os, signal
        os.kill(os.getpid(), signal.SIGTERM)
try:
    print(run_replay(ReplayOptions(("-",), Path(sys.argv[1]), clock=lambda: now), config, watch).outcome)
except JourneyError as problem:
    print(type(problem).__name__, problem.problem)
"""


def pipe(data: bytes, warehouse: Path, *, piece: int = 1 << 16, stop_at: int = 0) -> str:
    """Pipe bytes into a replay in a process of its own, a piece at a time."""
    command = [sys.executable, "-c", DRIVER, str(warehouse), str(stop_at)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            for at in range(0, len(data), piece):
                process.stdin.write(data[at : at + piece])
                process.stdin.flush()
            process.stdin.close()
        except BrokenPipeError:
            pass
        return process.stdout.read().decode().strip()


@pytest.mark.slow
def test_standard_input_in_small_pieces_is_read_whole_and_again_only_as_the_same_stream(tmp_path: Path) -> None:
    data = dump_lines(rows(500))
    assert pipe(data, tmp_path / "warehouse", piece=700) == "finished"
    assert read_ids(tmp_path / "warehouse") == sorted(row["i"] for row in rows(500))
    assert pipe(data, tmp_path / "warehouse") == "finished"
    assert read_ids(tmp_path / "warehouse") == sorted(row["i"] for row in rows(500))
    other = pipe(dump_lines(rows(500, 1)), tmp_path / "warehouse")
    assert other.startswith("SourceChangedError standard input: begins with other bytes")
    assert read(tmp_path / "warehouse", "events").unique("source")["source"].to_list() == ["stdin"]


@pytest.mark.slow
def test_stream_that_was_broken_off_goes_on_when_it_is_piped_in_again(tmp_path: Path) -> None:
    data = dump_lines(rows(40_000))
    assert pipe(data[: len(data) // 2], tmp_path / "warehouse", stop_at=1) in ("stopped", "finished")
    assert pipe(data, tmp_path / "warehouse") == "finished"
    assert read(tmp_path / "warehouse")["event_id"].n_unique() == 40_000


@pytest.mark.slow
def test_stream_that_has_become_longer_is_read_on(tmp_path: Path) -> None:
    data = dump_lines(rows(500))
    assert pipe(data[: data.index(b"\n", 9000) + 1], tmp_path / "warehouse") == "finished"
    assert pipe(data, tmp_path / "warehouse") == "finished"
    assert read_ids(tmp_path / "warehouse") == sorted(row["i"] for row in rows(500))
    short = pipe(data[:5000], tmp_path / "warehouse")
    assert short.startswith("SourceChangedError standard input ends before byte")


@pytest.mark.slow
def test_packed_standard_input_is_refused(tmp_path: Path) -> None:
    assert pipe(gzip.compress(b"{}"), tmp_path / "warehouse") == "InputError standard input is gzip data"
