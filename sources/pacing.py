"""What every source has in common: the items it emits, how its partitions keep level, and what it has read so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, TypeVar

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
class PartitionGauge:
    """How one partition stands in this run, for display.

    `records` and `bytes` were handed on; `reached`: the partition's largest event time, microseconds, if it has said
    anything in this run; `idle`: it holds up nobody; `lag`: records that wait at the source, where it tells.
    """

    source: str = ""
    records: int = 0
    bytes: int = 0
    reached: int | None = None
    idle: bool = False
    lag: int | None = None


class GroupGauge(Protocol):
    """How one key group stands: events in the reorder buffer, and open sessions."""

    @property
    def waiting(self) -> int: ...

    @property
    def open_sessions(self) -> int: ...


Group = TypeVar("Group", bound=GroupGauge)


@dataclass
class Progress:
    """What a running job has read so far, for display."""

    bytes: int = 0
    records: int = 0
    dead: int = 0
    latest: int = 0
    longest_stall_s: float = 0.0  # from a partition's snapshot to its next read: what an epoch's commit costs
    commit_s: float = 0.0  # what it took to make the last commit visible
    partitions: dict[str, PartitionGauge] = field(default_factory=dict)
    groups: list[GroupGauge] = field(default_factory=list)

    def of(self, partition: str) -> PartitionGauge:
        """Return the gauge of a partition, for its source to fill in."""
        return self.partitions.setdefault(partition, PartitionGauge())

    def add_group(self, group: Group) -> Group:
        """Take note of who can tell about a key group; returns it."""
        self.groups.append(group)
        return group

    def note_reached(self, partition: str, latest: int, active: bool) -> None:
        """Take note of how far a partition has come in event time, and whether the others wait for it."""
        gauge = self.of(partition)
        gauge.idle = not active
        if latest > NEVER:
            gauge.reached = latest

    def add(self, decoded: Decoded, size: int) -> None:
        """Count a block that was handed on, and the bytes that it took."""
        gauge = self.of(decoded.block.partition)
        gauge.source = decoded.block.source
        gauge.records += decoded.received
        gauge.bytes += size
        self.bytes += size
        self.records += decoded.received
        self.dead += decoded.dead.height
        if decoded.events.height:
            self.latest = max(self.latest, int(decoded.events["event_time"].to_physical()[-1]))

    def note_stall(self, seconds: float) -> None:
        """Keep the longest time that a commit held up reading."""
        self.longest_stall_s = max(self.longest_stall_s, seconds)
