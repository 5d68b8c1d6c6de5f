"""Fixtures that tests of any folder may ask for."""

from __future__ import annotations

from tests.brokers.fixtures import kafka, kafka_server, rabbit, rabbit_server

__all__ = ["kafka", "kafka_server", "rabbit", "rabbit_server"]
