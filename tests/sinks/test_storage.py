"""Files that appear whole, locks that die with their holder, and named points that kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from errors import FormatError, WarehouseLockedError
from sinks.storage import (
    FAIL_AT,
    Folders,
    hold_publish_lock,
    hold_writer_lock,
    read_json,
    write_atomically,
)

ROOT = Path(__file__).resolve().parents[2]


def run_python(code: str, *arguments: str, fail_at: str = "") -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), FAIL_AT: fail_at}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], check=False, env=environment, capture_output=True, text=True
    )


WRITE = """
import sys
from pathlib import Path
from sinks.storage import write_atomically
write_atomically(Path(sys.argv[1]), b"old")
write_atomically(Path(sys.argv[1]), b"new and longer")
"""


@pytest.mark.parametrize(("fail_at", "content"), [("before_rename:2", b"old"), ("", b"new and longer")])
def test_a_write_that_is_killed_leaves_the_old_file_whole(tmp_path: Path, fail_at: str, content: bytes) -> None:
    path = tmp_path / "file.json"
    ended = run_python(WRITE, str(path), fail_at=fail_at)
    assert ended.returncode == (-signal.SIGKILL if fail_at else 0), ended.stderr
    assert path.read_bytes() == content


def test_a_file_that_is_being_written_has_a_hidden_name_until_it_is_whole(tmp_path: Path) -> None:
    run_python(WRITE, str(tmp_path / "file.json"), fail_at="before_rename:1")
    assert [path.name for path in tmp_path.iterdir()] == [".file.json.tmp"]
    write_atomically(tmp_path / "file.json", b"done")
    assert [path.name for path in tmp_path.iterdir()] == ["file.json"]


HOLD = """
import os, sys
from pathlib import Path
from sinks.storage import Folders, hold_writer_lock
with hold_writer_lock(Folders(Path(sys.argv[1])), "journeys replay"):
    os.kill(os.getpid(), 9)
"""


def test_the_lock_of_a_killed_writer_does_not_block(tmp_path: Path) -> None:
    assert run_python(HOLD, str(tmp_path)).returncode == -signal.SIGKILL
    folders = Folders(tmp_path)
    assert "journeys replay" in (folders.inner / "writer.lock").read_text()
    with hold_writer_lock(folders, "another"):
        assert str(os.getpid()) in (folders.inner / "writer.lock").read_text()


def test_a_second_writer_is_told_who_the_first_is(tmp_path: Path) -> None:
    folders = Folders(tmp_path)
    with hold_writer_lock(folders, "journeys replay"):
        second = hold_writer_lock(folders, "another")
        with pytest.raises(WarehouseLockedError, match=f"process {os.getpid()} \\(journeys replay\\)") as caught:
            second.__enter__()
        assert "--warehouse" in caught.value.remedy
    with hold_writer_lock(folders, "another"):
        pass


PUBLISH = """
import sys, time
from pathlib import Path
from sinks.storage import Folders, hold_publish_lock
with hold_publish_lock(Folders(Path(sys.argv[1]))):
    path = Path(sys.argv[1]) / "count"
    seen = int(path.read_text())
    time.sleep(0.05)
    path.write_text(str(seen + 1))
"""


def test_publishers_take_turns(tmp_path: Path) -> None:
    Folders(tmp_path).make()
    (tmp_path / "count").write_text("0")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PUBLISH, str(tmp_path)]
    with hold_publish_lock(Folders(tmp_path)):
        processes = [subprocess.Popen(command, env=environment) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    assert (tmp_path / "count").read_text() == "4"


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"null"])
def test_a_damaged_json_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "warehouse.json"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"warehouse\.json") as caught:
        read_json(path)
    assert caught.value.remedy


POINTS = """
from sinks.storage import pass_point
for number in range(3):
    pass_point("other")
    pass_point("here")
    print(number, flush=True)
"""


@pytest.mark.parametrize(("fail_at", "passed"), [("here", 0), ("here:3", 2), ("here:4", 3), ("nowhere", 3), ("", 3)])
def test_a_named_point_kills_the_nth_time(fail_at: str, passed: int) -> None:
    ended = run_python(POINTS, fail_at=fail_at)
    assert len(ended.stdout.split()) == passed
    assert ended.returncode == (0 if passed == 3 else -signal.SIGKILL)


def test_a_named_point_can_send_another_signal() -> None:
    assert run_python(POINTS, fail_at=f"here:2:{int(signal.SIGTERM)}").returncode == -signal.SIGTERM
