"""The embedded Apache Kafka: one KRaft node, broker and controller in one process, from its jars."""

import base64
import shutil
import uuid
from pathlib import Path

from embedded.account import Account, hand_over, write_owned
from embedded.kafka_probe import brokers
from embedded.ports import free_port
from embedded.process import Command
from embedded.unit import Role, Server

_PROPERTIES = """\
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:{controller_port}
log.dirs={here}/log
auto.create.topics.enable=false
message.max.bytes=2097152
replica.fetch.max.bytes=2097152
log.segment.bytes=67108864
log.cleaner.dedupe.buffer.size=16777216
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=2000
num.network.threads=2
num.io.threads=4
background.threads=2
# A broker that was killed may register again only when its old session is over.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=400
initial.broker.registration.timeout.ms=30000
"""
_LOGGING = """\
status=error
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{ISO8601} %p %c{1}: %m%n
rootLogger.level=warn
rootLogger.appenderRef.out.ref=out
"""


class Kafka(Server):
    """Apache Kafka with a bounded heap, its log in the data folder."""

    role = Role.KAFKA
    title = "Apache Kafka"
    generation = ""  # its log outlives it
    ready_within = 120.0  # Java is slow to start on a busy machine

    def __init__(self, folder: Path, logs: Path, account: Account | None, jars: Path) -> None:
        super().__init__(folder, logs, account)
        self._jars = jars
        self._port = 0
        self._controller_port = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    def draw_ports(self) -> None:
        self._port, self._controller_port = free_port(), free_port()

    async def prepare(self) -> None:
        text = _PROPERTIES.format(port=self._port, controller_port=self._controller_port, here=self.here)
        write_owned(self.home / "server.properties", text, self.account)
        write_owned(self.home / "log4j2.properties", _LOGGING, self.account)
        log = self.home / "log"
        if not (log / "meta.properties").exists():
            # What `kafka-storage format` would write: here it saves the start of a second Java.
            log.mkdir(exist_ok=True)
            identity = f"version=1\ncluster.id={_kafka_uuid()}\nnode.id=1\ndirectory.id={_kafka_uuid()}\n"
            write_owned(log / "meta.properties", identity, self.account)
            hand_over(log, self.account)

    def command(self) -> Command:
        return Command(
            argv=[
                # With room for the young, hardly anything ages: a full collection stands still for 70 ms and more.
                shutil.which("java") or "java", "-Xms256m", "-Xmx384m", "-Xmn64m", "-XX:SurvivorRatio=4",
                "-XX:MaxDirectMemorySize=128m",
                # On shared cores the second compiler and a parallel collector cost more than they gain.
                "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError",
                "-Djava.awt.headless=true",
                f"-Dlog4j2.configurationFile={self.here}/log4j2.properties", f"-Djava.io.tmpdir={self.here}",
                "-cp", f"{self._jars}/*", "kafka.Kafka", f"{self.here}/server.properties",
            ],
            cwd=self.home,
            env=self.clean_env(),
            log=self.log,
            account=self.account,
        )  # fmt: skip

    async def probe(self) -> None:
        await brokers(self.address)


def _kafka_uuid() -> str:
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return text
