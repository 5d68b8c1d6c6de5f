"""A Bytewax flow that shows the engine's stale snapshots, as a process of its own.

    python tests/recovery/counting.py STORE OUT CRASH_AT STOP_AT INTERVAL_MS [KEY...]

Reads the keys one by one from the position in the store, counts each key's items, and writes `KEY COUNT` lines.
It kills itself while the sink is asked for its state after so many items (CRASH_AT > 0), or ends at STOP_AT.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from bytewax.recovery import RecoveryConfig
from bytewax.testing import run_main

Item = tuple[str, int]


class Keys(StatefulSourcePartition[Item, int]):
    """The keys from a position on; an epoch is let pass behind every item if they are short."""

    def __init__(self, keys: list[str], position: int, stop_at: int, pause_s: float) -> None:
        self.keys, self.position, self.stop_at, self.pause_s = keys, position, stop_at, pause_s

    def next_batch(self) -> list[Item]:
        if self.position >= min(self.stop_at, len(self.keys)):
            raise StopIteration
        time.sleep(self.pause_s)
        self.position += 1
        return [(self.keys[self.position - 1], 1)]

    def snapshot(self) -> int:
        return self.position


class KeySource(FixedPartitionedSource[Item, int]):
    """One partition of keys."""

    def __init__(self, keys: list[str], stop_at: int, pause_s: float) -> None:
        self.keys, self.stop_at, self.pause_s = keys, stop_at, pause_s

    def list_parts(self) -> list[str]:
        return ["keys"]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> Keys:
        return Keys(self.keys, resume_state or 0, self.stop_at, self.pause_s)


class Lines(StatefulSinkPartition[tuple[str, int], int]):
    """Appends lines; may kill the process in the middle of an epoch's snapshots."""

    def __init__(self, path: Path, crash_at: int) -> None:
        self.path, self.crash_at, self.count = path, crash_at, 0

    def write_batch(self, items: list[tuple[str, int]]) -> None:
        self.count += len(items)
        with open(self.path, "a") as out:
            out.writelines(f"{key} {count}\n" for key, count in items)

    def snapshot(self) -> int:
        if self.crash_at and self.count >= self.crash_at:
            time.sleep(0.3)  # the snapshots of the steps before are written meanwhile, as they come
            os.kill(os.getpid(), signal.SIGKILL)
        return self.count


class LineSink(FixedPartitionedSink[tuple[str, int], int]):
    """One partition of lines."""

    def __init__(self, path: Path, crash_at: int) -> None:
        self.path, self.crash_at = path, crash_at

    def list_parts(self) -> list[str]:
        return ["lines"]

    def part_fn(self, item_key: str) -> int:
        return 0

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> Lines:
        return Lines(self.path, self.crash_at)


def main() -> None:
    """Run the flow as told."""
    store, out, crash_at, stop_at, interval_ms, *keys = sys.argv[1:]
    interval = float(interval_ms) / 1_000
    flow = Dataflow("counting")
    items = op.input("keys", flow, KeySource(keys, int(stop_at), min(2 * interval, 0.01)))
    counted = op.stateful_map("count", items, lambda state, item: ((state or 0) + item, (state or 0) + item))
    named = op.map("named", counted, lambda item: (item[0], item))
    op.output("lines", named, LineSink(Path(out), int(crash_at)))
    run_main(flow, epoch_interval=timedelta(seconds=interval), recovery_config=RecoveryConfig(store))


if __name__ == "__main__":
    main()
