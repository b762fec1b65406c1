"""The embedded RabbitMQ: an installed server, called through its own scripts, with a port mapper of its own."""

import asyncio
import secrets
import shutil
import signal
from pathlib import Path

import aio_pika

from embedded.account import Account, write_owned
from embedded.errors import StartError
from embedded.ports import free_port
from embedded.process import Child, Command
from embedded.unit import Role, Server

# Debian puts a wrapper on the PATH that refuses every user but root and rabbitmq.
_OWN_SCRIPTS = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
_CONFIG = """\
listeners.tcp.1 = 127.0.0.1:{port}
default_user = incidents
default_pass = {password}
default_user_tags.administrator = true
log.console = true
log.console.level = warning
log.file = false
# One machine runs everything: the queue stays on disk and its write-ahead log small.
vm_memory_high_watermark.absolute = 1GiB
raft.wal_max_size_bytes = 67108864
# Room for that log and its segments: publishers are blocked while the queue still has somewhere to write, for one
# that has met a full disk stays dead.
disk_free_limit.absolute = 256MiB
"""


def find_server() -> Path | None:
    """The start script, or None when RabbitMQ is not installed."""
    if _OWN_SCRIPTS.exists():
        return _OWN_SCRIPTS
    found = shutil.which("rabbitmq-server")
    return Path(found) if found else None


class RabbitMQ(Server):
    """One RabbitMQ node that no other node can find."""

    role = Role.RABBITMQ
    ready_within = 120.0

    def __init__(self, folder: Path, logs: Path, account: Account | None, password: str, script: Path) -> None:
        super().__init__(folder, logs, account)
        self._password = password
        self._script = script
        self._port = self._epmd_port = self._dist_port = 0
        self._epmd: Child | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"amqp://incidents:{self._password}@127.0.0.1:{self._port}/"

    def draw_ports(self) -> None:
        self._port, self._epmd_port, self._dist_port = free_port(), free_port(), free_port()

    async def prepare(self) -> None:
        config = _CONFIG.format(port=self._port, password=self._password)
        write_owned(self.home / "rabbitmq.conf", config, self.account)
        write_owned(self.home / "enabled_plugins", "[].\n", self.account)
        cookie = self.home / ".erlang.cookie"
        if not cookie.exists():
            write_owned(cookie, secrets.token_hex(20), self.account)
            cookie.chmod(0o400)

    async def launch(self) -> None:
        # Without one that is already there Erlang would start a port mapper that outlives us.
        if self._epmd is None or self._epmd.exit_code is not None:
            self._epmd = Child(self._command([shutil.which("epmd") or "epmd", "-port", str(self._epmd_port)]))
        await super().launch()

    def command(self) -> Command:
        return self._command([str(self._script)])

    async def probe(self) -> None:
        if self._epmd is None or self._epmd.exit_code is not None:
            raise StartError("epmd ended while RabbitMQ was starting", self.log)
        await self._greet()
        connection = await aio_pika.connect(self.url, timeout=2)
        try:
            await (await connection.channel()).close()
        finally:
            await connection.close()

    async def _greet(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(b"AMQP\x00\x00\x09\x01")
            await reader.readexactly(7)
        finally:
            writer.close()

    async def stop(self, grace: float) -> bool:
        gently = await super().stop(grace)
        await self._stop_epmd()
        return gently

    async def kill(self) -> None:
        await super().kill()
        await self._stop_epmd()

    async def _stop_epmd(self) -> None:
        if self._epmd is not None:
            await self._epmd.kill()

    def _command(self, argv: list[str]) -> Command:
        here = self.here
        env = self.clean_env(
            RABBITMQ_NODENAME="incidents@localhost",
            RABBITMQ_DIST_PORT=str(self._dist_port),
            RABBITMQ_CONFIG_FILE=f"{here}/rabbitmq.conf",
            RABBITMQ_ADVANCED_CONFIG_FILE=f"{here}/advanced.config",
            RABBITMQ_CONF_ENV_FILE="/dev/null",
            RABBITMQ_ENABLED_PLUGINS_FILE=f"{here}/enabled_plugins",
            RABBITMQ_MNESIA_BASE=f"{here}/mnesia",
            RABBITMQ_LOG_BASE=f"{here}/log",
            RABBITMQ_SCHEMA_DIR=f"{here}/schema",
            RABBITMQ_GENERATED_CONFIG_DIR=f"{here}/config",
            RABBITMQ_PID_FILE=f"{here}/pid",
            RABBITMQ_ALLOW_INPUT="1",  # makes the script become Erlang instead of watching over it
            RABBITMQ_SERVER_START_ARGS="-noinput",
            RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1} +B i "
            "+sbwt none +sbwtdcpu none +sbwtdio none +S 1:1",  # idle schedulers do not spin: the cores are shared
            ERL_EPMD_PORT=str(self._epmd_port),
            ERL_EPMD_ADDRESS="127.0.0.1",
            ERL_CRASH_DUMP_SECONDS="0",
        )
        return Command(
            argv=argv,
            cwd=self.home,
            env=env,
            log=self.log,
            account=self.account,
            on_our_death=signal.SIGKILL,
            yields=True,
        )
