"""Apache Kafka as one process, broker and controller (KRaft), from the jars that `make brokers` brings."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.brokers.server import HOST, PATIENCE_S, BrokerError, Server, can_connect, choose_ports, make_name

JARS = Path(__file__).resolve().parents[2] / "build" / "brokers" / "kafka"
JAVA_AT_LEAST = 17
# Small heap, and the quick compiler only: it lives for seconds and shares two cores with the tests.
JVM = ("-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
LOGGING = (
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
)
CLUSTER = "journeystreamtests0000"
SETTINGS = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{port}
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
num.network.threads=1
num.io.threads=2
log.cleaner.dedupe.buffer.size=4194304
# A broker that was killed may come back only when its session has run out.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
"""


@cache
def find_java() -> str:
    """Return a Java that is new enough, or nothing."""
    homes = [os.environ.get("JAVA_HOME", ""), *sorted(str(home) for home in Path("/usr/lib/jvm").glob("*"))]
    candidates = [shutil.which("java") or "", *(f"{home}/bin/java" for home in homes if home)]
    for java in candidates:
        if java and Path(java).is_file():
            ended = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
            version = re.search(r'version "(\d+)', ended.stderr)
            if version and int(version[1]) >= JAVA_AT_LEAST:
                return java
    return ""


class KafkaBroker(Server):
    """Kafka with one node, on loopback, its data below `folder`."""

    name = "kafka"

    def __init__(self, folder: Path, port: int = 0) -> None:
        super().__init__(folder)
        self.port, self._controller = choose_ports(port, 0)

    @classmethod
    def find_missing(cls) -> str:
        """Say what this machine lacks to run Kafka; empty if nothing."""
        if not any(JARS.glob("kafka_*.jar")):
            return "Kafka is not in build/brokers/kafka"
        return "" if find_java() else f"Kafka needs Java {JAVA_AT_LEAST} or newer"

    @property
    def bootstrap(self) -> str:
        """The address for `bootstrap.servers`."""
        return f"{HOST}:{self.port}"

    def make_topic(self, partitions: int = 1, config: dict[str, str] | None = None, name: str = "") -> str:
        """Make a topic, with a name of its own where none is given."""
        name = name or make_name("topic")
        topic = NewTopic(name, num_partitions=partitions, replication_factor=1, config=config or {})
        admin = self.connect_admin()  # what it began ends with it, so it has to stay
        admin.create_topics([topic])[name].result(PATIENCE_S)
        return name

    def connect_admin(self) -> AdminClient:
        """Return a client that makes, changes and deletes topics."""
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})

    def _prepare(self) -> tuple[list[str], dict[str, str]]:
        settings, data = self.folder / "server.properties", self.folder / "data"
        settings.write_text(
            SETTINGS.format(host=HOST, port=self.port, controller=self._controller, data=data), encoding="utf-8"
        )
        java = [find_java(), *JVM, *LOGGING, "-cp", f"{JARS}/*"]
        if not (data / "meta.properties").exists():
            command = [*java, "kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c", str(settings)]
            ended = subprocess.run(command, capture_output=True, text=True, check=False)
            if ended.returncode:
                raise BrokerError(f"Kafka's folder could not be made\n{ended.stdout}{ended.stderr}")
        return [*java, "kafka.Kafka", str(settings)], {}

    def _answers(self) -> bool:
        # A client that can't connect yet would complain and wait, so the port comes first.
        if not can_connect(self.port):
            return False
        try:
            return bool(self.connect_admin().list_topics(timeout=5).brokers)
        except KafkaException:
            return False
