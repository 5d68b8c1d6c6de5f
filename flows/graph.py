"""The dataflow: lanes of records in, rows of every table out."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import bytewax.operators as op
import polars as pl
from bytewax.dataflow import Dataflow

from config import Config
from events.canonical import Decoded
from events.schema import LEDGER
from operators.journey import GroupBatch
from operators.paths import count_paths
from operators.stream import AcceptLogic, Delivery, GroupLogic, Output
from operators.transitions import merge_transitions
from sinks.parquet import Merge, WarehouseSink
from sources.files import FileSource
from sources.live import LiveSource
from sources.pacing import LaneItem, Progress

FLOW = "journeys"
SOURCE_STEP = f"{FLOW}.read"
SINK_STEP = f"{FLOW}.write"


def merge_ledger(parts: list[pl.DataFrame]) -> pl.DataFrame:
    """Sum ledger rows by partition; `dt` is the day the ledger's format began, as its rows have no event time."""
    keys = ["source", "source_partition"]
    counts = [name for name in LEDGER if name not in (*keys, "epoch")]
    day = pl.date(1970, 1, 1).alias("dt")
    return pl.concat(parts).group_by(keys).agg(pl.col(counts).sum()).sort(keys).with_columns(day)


MERGES: dict[str, Merge] = {
    "transitions": merge_transitions,
    "paths": lambda sessions: count_paths(pl.concat(sessions)),
    "ledger": merge_ledger,
}


def build_flow(
    source: FileSource | LiveSource, sink: WarehouseSink, config: Config, is_stopping: Callable[[], bool]
) -> Dataflow:
    """Put sources, operators and sink together; key groups are the keys of the stateful step."""
    partitions, progress, writers = frozenset(source.list_parts()), source.progress, config.job.writers
    flow = Dataflow(FLOW)
    blocks = op.input("read", flow, source)
    keyed = op.key_on("lane", blocks, _lane_of)
    accepted = op.stateful_batch("accept", keyed, lambda state: AcceptLogic(config, state))
    batches = op.flat_map_batch("split", accepted, lambda items: _split(items, progress))
    folded = op.stateful_batch(
        "journey", batches, lambda state: progress.add_group(GroupLogic(config, partitions, is_stopping, state))
    )
    records = op.flat_map_batch("record", accepted, lambda items: _record(items, writers))
    rows = op.map("to_writer", folded, lambda item: (str(int(item[0]) % writers), item[1]))
    op.output("write", op.merge("rows", records, rows), sink)
    return flow


def _lane_of(item: LaneItem) -> str:
    return item.block.partition if isinstance(item, Decoded) else item.partition


def _split(items: list[tuple[str, Delivery]], progress: Progress) -> Iterable[tuple[str, GroupBatch]]:
    for lane, delivery in items:
        _, batch = delivery.batches[0]
        progress.note_reached(lane, batch.latest, batch.active)
    return [(str(group), batch) for _, delivery in items for group, batch in delivery.batches]


def _record(items: list[tuple[str, Delivery]], writers: int) -> Iterable[tuple[str, Output]]:
    return [
        (str(sum(lane.encode()) % writers), delivery.output) for lane, delivery in items if delivery.output is not None
    ]
