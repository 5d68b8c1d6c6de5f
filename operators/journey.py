"""All operators of one key group put together: a batch in, rows of every table out."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from config import Config
from events.schema import LATE_EVENTS, LEDGER
from operators.chains import start_chains
from operators.columns import BEGINNING, FOREVER, read_us
from operators.funnels import fold_funnel
from operators.order import count_origins, release_events
from operators.sessionize import OpenSessions, finish_sessions, sessionize, start_sessions
from operators.transitions import count_transitions

Tables = dict[str, list[pl.DataFrame]]


@dataclass(frozen=True)
class GroupBatch:
    """What one partition sends to one key group: its events for it, and how far the partition has come.

    `latest`: largest event time of the partition so far (microseconds); `active` is False once it has ended; `flush`
    asks for everything that the watermark allows; `turn`, above 0 and at most 1, is different for each group.
    """

    partition: str
    latest: int
    active: bool
    events: pl.DataFrame | None
    flush: bool = False
    turn: float = 1.0


@dataclass
class GroupState:
    """Everything a key group remembers; frames in it are never changed in place."""

    progress: dict[str, tuple[int, bool]] = field(default_factory=dict)
    released: int = BEGINNING
    buffer: dict[str, list[pl.DataFrame]] = field(default_factory=dict)
    open: OpenSessions = field(default_factory=start_sessions)
    chains: dict[str, pl.DataFrame] = field(default_factory=dict)

    def waiting(self) -> int:
        """Count the events in the reorder buffer."""
        return sum(frame.height for frames in self.buffer.values() for frame in frames)


def find_watermark(state: GroupState, partitions: frozenset[str], lateness: int) -> int:
    """Return the global watermark: the least of the active partitions', or of all when every one has ended, the largest."""
    if not partitions <= state.progress.keys():
        return state.released
    active = [latest for latest, is_active in state.progress.values() if is_active]
    latest = min(active) if active else max(latest for latest, _ in state.progress.values())
    return max(state.released, latest - lateness if latest > BEGINNING else BEGINNING)


def take_batch(state: GroupState, batch: GroupBatch) -> Tables:
    """Put a batch into the reorder buffer; what is behind the released watermark (a reopened lane's) is late."""
    state.progress[batch.partition] = (batch.latest, batch.active)
    if batch.events is None or batch.events.height == 0:
        return {}
    events, out = batch.events, {}
    if state.released > BEGINNING:
        behind = read_us(events["event_time"].rechunk()) < state.released
        if behind.any():
            late = events.filter(pl.Series(behind))
            events = events.filter(pl.Series(~behind))
            out = {
                "late_events": [_describe_late(late, state.released)],
                "ledger": [_settle(count_origins(late), "late")],
            }
    state.buffer.setdefault(batch.partition, []).append(events)
    return out


def release_batch(state: GroupState, watermark: int, config: Config) -> Tables:
    """Release what the watermark has passed, and fold it through every operator; changes `state`."""
    released = release_events(state.buffer, watermark)
    state.buffer = {partition: [frame] for partition, frame in released.waiting.items()}
    state.released = max(state.released, watermark) if watermark < FOREVER else state.released
    done = sessionize(released.events, released.starts, state.open, config.sessions, watermark)
    state.open = done.open
    out: Tables = {}
    for rules in config.funnels:
        chains = state.chains.get(rules.name)
        chains = start_chains() if chains is None else chains
        folded = fold_funnel(done.events, released.starts, chains, rules, watermark)
        state.chains[rules.name] = _keep_live(folded.chains, state.open) if rules.scope == "session" else folded.chains
        _add(out, "funnel_steps", folded.reached)
    _add(out, "transitions", count_transitions(done.events, done.closed))
    sessions = finish_sessions(done.closed)
    _add(out, "sessions", sessions)
    # Paths are counted once a commit, by the writer: see flows.graph.
    _add(out, "paths", sessions)
    if done.events.height:
        _add(out, "events", done.events)
        _add(out, "ledger", _settle(released.accepted, "accepted"))
        _add(out, "ledger", _settle(released.duplicates, "duplicate"))
    return out


def close_everything(state: GroupState, config: Config) -> Tables:
    """Return what the end of a bounded replay adds (design: Time 8); `state` stays as it was."""
    ended = GroupState(dict(state.progress), state.released, dict(state.buffer), state.open, dict(state.chains))
    return release_batch(ended, FOREVER, config)


def _add(out: Tables, table: str, frame: pl.DataFrame) -> None:
    if frame.height:
        out.setdefault(table, []).append(frame)


def _keep_live(chains: pl.DataFrame, open_sessions: OpenSessions) -> pl.DataFrame:
    return chains.filter(pl.col("scope_id").is_in(open_sessions.name_ids().implode()))


def _settle(counts: dict[tuple[str, str], int], outcome: str) -> pl.DataFrame:
    return settle_rows([(*origin, {outcome: n}) for origin, n in counts.items()])


def settle_rows(rows: list[tuple[str, str, dict[str, int]]]) -> pl.DataFrame:
    """Make ledger rows of (source, partition, counts by outcome) without an epoch; what is not named is 0."""
    columns: dict[str, list[str] | list[int] | list[None]] = {
        "source": [source for source, _, _ in rows],
        "source_partition": [partition for _, partition, _ in rows],
        "epoch": [None] * len(rows),
    }
    for name in LEDGER:
        if name not in columns:
            columns[name] = [counts.get(name, 0) for _, _, counts in rows]
    return pl.DataFrame(columns, schema=LEDGER)


def _describe_late(late: pl.DataFrame, watermark: int) -> pl.DataFrame:
    raw = late.select(pl.struct(pl.all().exclude("person_hash")).struct.json_encode().cast(pl.Binary)).to_series()
    return late.with_columns(
        pl.lit(watermark).cast(pl.Datetime("us", "UTC")).alias("watermark"),
        pl.lit("behind_all_partitions").alias("reason"),
        raw.alias("raw"),
        pl.col("event_time").dt.date().alias("dt"),
    ).select(*LATE_EVENTS, "dt")
