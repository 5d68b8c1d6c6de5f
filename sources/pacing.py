"""What every source has in common: the items it emits, how its partitions keep level, and what it has read so far."""

from __future__ import annotations

from dataclasses import dataclass, field

from events.canonical import Decoded
from events.raw import EpochEnd, LaneEnd, LaneHead

LaneItem = Decoded | LaneHead | LaneEnd | EpochEnd
NEVER = -(1 << 62)


@dataclass
class Alignment:
    """The event time at which each unfinished partition of this process would go on; the earliest one goes first."""

    heads: dict[str, int] = field(default_factory=dict)

    def may_pass(self, lane: str) -> bool:
        """Tell whether no other partition is behind this one."""
        mine = self.heads[lane]
        return all(mine <= head for head in list(self.heads.values()))


@dataclass
class Progress:
    """What a running job has read so far, for display."""

    bytes: int = 0
    records: int = 0
    dead: int = 0
    latest: int = 0
    longest_stall_s: float = 0.0  # from a partition's snapshot to its next read: what an epoch's commit costs

    def add(self, decoded: Decoded, size: int) -> None:
        """Count a block that was handed on, and the bytes that it took."""
        self.bytes += size
        self.records += decoded.received
        self.dead += decoded.dead.height
        if decoded.events.height:
            self.latest = max(self.latest, int(decoded.events["event_time"].to_physical()[-1]))

    def note_stall(self, seconds: float) -> None:
        """Keep the longest time that a commit held up reading."""
        self.longest_stall_s = max(self.longest_stall_s, seconds)
