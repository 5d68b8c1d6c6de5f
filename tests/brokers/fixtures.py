"""Fixtures with real brokers: one of each kind for all tests of a process, started when the first one asks.

Where a broker is missing, CI fails and a laptop skips with a word on how to get it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers.aws import CREDENTIALS, FakeAws
from tests.brokers.eventgrid import FakeEventGrid
from tests.brokers.kafka import KafkaBroker
from tests.brokers.rabbit import RabbitBroker
from tests.brokers.server import Server


def require(broker: type[Server]) -> None:
    """Skip the test if this machine lacks a broker; fail it in CI."""
    missing = broker.find_missing()
    if not missing:
        return
    told = f"{missing}; `make brokers` brings it"
    if os.environ.get("CI") == "true":
        pytest.fail(told, pytrace=False)
    pytest.skip(told)


@pytest.fixture(scope="session")
def kafka_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """Kafka for all tests of this process; a test may have left it stopped."""
    require(KafkaBroker)
    with KafkaBroker(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture(scope="session")
def rabbit_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitBroker]:
    """RabbitMQ for all tests of this process; a test may have left it stopped."""
    require(RabbitBroker)
    with RabbitBroker(tmp_path_factory.mktemp("rabbit")) as broker:
        yield broker


@pytest.fixture
def kafka(kafka_server: KafkaBroker) -> KafkaBroker:
    """Kafka, running; a test may stop, kill and restart it, and makes topics of its own."""
    kafka_server.start()
    return kafka_server


@pytest.fixture
def rabbit(rabbit_server: RabbitBroker) -> RabbitBroker:
    """RabbitMQ, running; a test may stop, kill and restart it, and makes queues of its own."""
    rabbit_server.start()
    return rabbit_server


@pytest.fixture(scope="session")
def aws_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeAws]:
    """Moto's server for all tests of this process."""
    with FakeAws(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture
def aws(aws_server: FakeAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeAws:
    """What stands in for AWS, with credentials for it in the environment and none of this machine's own."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return aws_server


@pytest.fixture
def event_grid() -> Iterator[FakeEventGrid]:
    """What stands in for an Azure Event Grid namespace."""
    grid = FakeEventGrid()
    yield grid
    grid.stop()
