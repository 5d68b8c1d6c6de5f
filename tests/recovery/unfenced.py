"""A replay put together from the job's own pieces, but without the fence: the control of the stale snapshot test."""

from __future__ import annotations

import threading
from datetime import timedelta

from bytewax.recovery import RecoveryConfig
from bytewax.testing import cluster_main

from clock import to_us
from config import Config
from events.decode import make_decoder
from flows.graph import MERGES, SINK_STEP, SOURCE_STEP, build_flow
from flows.job import load_lanes, read_metadata, write_metadata
from flows.recovery import read_identity, read_progress
from flows.replay import ReplayOptions, ReplayResult, digest_inputs
from sinks.manifest import remove_orphans
from sinks.parquet import SinkRules, WarehouseSink
from sinks.publishing import discard_undurable, publish_durable
from sinks.storage import Folders, hold_writer_lock
from sources.files import FileSource


def run_unfenced(options: ReplayOptions, config: Config) -> ReplayResult:
    """Go on with a warehouse that a killed run left, as `run_replay` does, but with all snapshots that are there."""
    folders = Folders(options.warehouse)
    store = options.recovery or folders.recovery
    with hold_writer_lock(folders, "unfenced replay"):
        metadata = read_metadata(folders)
        progress = read_progress(store, SOURCE_STEP, SINK_STEP)
        durable = {part: int(state) for part, state in progress.sinks.items()}
        publish_durable(folders, durable, progress.epoch)
        remove_orphans(folders, discard_undurable(folders, durable))
        lanes, run = load_lanes(metadata), int(metadata["run"]) + 1
        write_metadata(folders, config, lanes, run, read_identity(store))
        stop = threading.Event()
        decode = make_decoder(config.input, config.steps, to_us(options.clock()))
        source = FileSource(lanes, decode, config, stop.is_set, lambda: None)
        sink = WarehouseSink(SinkRules(folders, run, config.job.writers, MERGES))
        flow = build_flow(source, sink, config, stop.is_set)
        interval = timedelta(microseconds=config.job.snapshot)
        recovery = RecoveryConfig(str(store))
        cluster_main(
            flow, [], 0, epoch_interval=interval, recovery_config=recovery, worker_count_per_proc=options.workers
        )
        progress = read_progress(store, SOURCE_STEP, SINK_STEP)
        durable = {part: int(state) for part, state in progress.sinks.items()}
        manifest = publish_durable(folders, durable, progress.epoch, digest_inputs(lanes))
    return ReplayResult("finished", manifest, [], lanes)
