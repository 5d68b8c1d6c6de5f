"""Fixtures that tests of any folder may ask for."""

from __future__ import annotations

from tests.brokers.fixtures import aws, aws_server, event_grid, kafka, kafka_server, rabbit, rabbit_server

__all__ = ["aws", "aws_server", "event_grid", "kafka", "kafka_server", "rabbit", "rabbit_server"]
