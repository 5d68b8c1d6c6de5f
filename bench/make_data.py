"""Write N generated events as Segment NDJSON, a day at a time, once per (events, seed)."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sources.synthetic import Shape, Truth, format_segment, generate_frames

DEFAULT_FOLDER = Path("build/bench")


@dataclass(frozen=True)
class Input:
    """A generated file, its size and what a right analysis of it must find."""

    path: Path
    size: int
    lines: int
    truth: Truth

    def describe(self) -> dict[str, Any]:
        """Return the description as it is kept beside the file."""
        return {"file": self.path.name, "bytes": self.size, "lines": self.lines, "truth": asdict(self.truth)}


def make_input(events: int, seed: int, folder: Path) -> Input:
    """Return the file of that many events, generated unless the folder holds it already."""
    path = folder / f"events-{events}-{seed}.ndjson"
    notes = path.with_suffix(".json")
    if path.exists() and notes.exists():
        known = json.loads(notes.read_text())
        if known["bytes"] == path.stat().st_size:
            return Input(path, known["bytes"], known["lines"], Truth(**known["truth"]))
    folder.mkdir(parents=True, exist_ok=True)
    made = _write_events(Shape(events=events, seed=seed), path)
    notes.write_text(json.dumps(made.describe(), indent=1) + "\n")
    return made


def _write_events(shape: Shape, path: Path) -> Input:
    truth, lines = Truth(), 0
    partial = path.with_suffix(".partial")
    with partial.open("wb") as out:
        for frame in generate_frames(shape, truth):
            text = format_segment(frame)
            lines += text.len()
            # One list of a day's lines (about 300,000) is the most that is ever held.
            out.write("\n".join(text.to_list()).encode())
            out.write(b"\n")
        size = out.tell()
    os.replace(partial, path)
    return Input(path, size, lines, truth)


def main() -> None:
    """Make the file and print its size and truth as one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER)
    given = parser.parse_args()
    print(json.dumps(make_input(given.events, given.seed, given.folder).describe()))


if __name__ == "__main__":
    main()
