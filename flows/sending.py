"""The sinks of a live job: secrets filled in, positions prepared, threads made."""

from __future__ import annotations

from collections.abc import Mapping

from config import Config
from flows.live_sources import fill_in
from sinks.kafka_topic import TopicSink, name_identity
from sinks.manifest import read_manifest
from sinks.sent import prepare_positions
from sinks.storage import Folders


def make_senders(config: Config, environment: Mapping[str, str], folders: Folders, store: int) -> list[TopicSink]:
    """Make what sends committed rows on, as receivers are run; `store`: the number of the recovery store.

    A new sink begins behind what is committed now. Raises ConfigError, FormatError.
    """
    rules = [fill_in(one, environment) for one in config.sinks]
    prepare_positions(folders, [one.name for one in rules], read_manifest(folders))
    return [TopicSink(folders, one, name_identity(store, one)) for one in rules]
