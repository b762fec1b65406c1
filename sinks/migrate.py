"""The schema: numbered SQL files applied in order, and the daily partitions.

The files travel in the package `migrations`. Commands call `migrate`; every
role calls `check` at start; whoever keeps house calls the partition functions.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from importlib import resources
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

import asyncpg

from sinks import grants

if TYPE_CHECKING:
    from asyncpg import Connection
    from asyncpg.pool import PoolConnectionProxy

    Conn = Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]

PARTITIONED: Final = ("verdicts", "decisions")
_NAME: Final = re.compile(r"\d{4}_[a-z0-9_]+\.sql")
# Arbitrary numbers that name two advisory locks of this database.
_MIGRATING: Final = 7_301_946_001
_PARTITIONING: Final = 7_301_946_002
_MAINTENANCE: Final = "postgres"
# Without it a statement whose client was killed would run on and hold the lock.
_SESSION: Final = {"client_connection_check_interval": "1s", "statement_timeout": "0", "TimeZone": "UTC"}

_LEDGER: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    name       text PRIMARY KEY,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""


class MigrationError(Exception):
    """Drawn for the schema not being what this version needs; the message has the remedy."""


class MigrationMissingError(MigrationError):
    """Raised when a migration of this version has not been applied."""


class MigrationChangedError(MigrationError):
    """Raised when an applied migration differs from the file of this version."""


@dataclass(frozen=True)
class Migration:
    """One file: its name, its SQL, and the SHA-256 of that."""

    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """What is recorded when it is applied."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations() -> list[Migration]:
    """The migrations of this version, in the order in which they apply."""
    files = (item for item in resources.files("migrations").iterdir() if _NAME.fullmatch(item.name))
    return [
        Migration(item.name, item.read_text(encoding="utf-8")) for item in sorted(files, key=lambda item: item.name)
    ]


def pending(applied: dict[str, str], known: list[Migration]) -> list[Migration]:
    """Those of `known` that are not in `applied` (name -> checksum).

    Migrations that only the database knows come from a newer version and are
    let be: a rolling upgrade has both for a while.

    Raises:
        MigrationChangedError: one that was applied reads differently here.
    """
    changed = [one.name for one in known if applied.get(one.name, one.checksum) != one.checksum]
    if changed:
        raise MigrationChangedError(
            f"{', '.join(changed)} was applied with other contents than this version has: "
            "restore the file and put the change into a new migration"
        )
    return [one for one in known if one.name not in applied]


async def migrate(database_url: str, progress: Callable[[str], None], *, roles: str | None = None) -> list[str]:
    """Bring the database to this version and return the names that were applied now.

    Makes the database if there is none. Each file is one transaction, so a run
    that was killed is finished by the next; a second run at the same time waits
    for the first and then finds nothing to do. With `roles`, a prefix, the three
    roles of `sinks.grants` are made as well; once they are, they get what new
    migrations need without being named again.
    """
    conn = await connected(database_url, progress)
    try:
        if not await conn.fetchval("SELECT pg_try_advisory_lock($1)", _MIGRATING):
            progress("waiting for another migration to end")
            await conn.execute("SELECT pg_advisory_lock($1)", _MIGRATING)
        await grants.become_owner(conn)
        applied = await _apply_all(conn, progress)
        await ensure_partitions(conn, datetime.now(UTC).date())
        if roles is not None:
            await conn.execute("RESET ROLE")
            await grants.create(conn, roles)
        elif applied and (prefix := await grants.granted(conn)):
            await grants.grant(conn, prefix)
        return applied
    finally:
        await conn.close()  # ends the session, and the lock with it


async def check(conn: "Conn") -> None:
    """Make sure that the database has every migration of this version.

    Raises:
        MigrationMissingError: it has not.
        MigrationChangedError: it has one with other contents.
    """
    missing = pending(await applied(conn), migrations())
    if missing:
        names = ", ".join(one.name for one in missing)
        raise MigrationMissingError(f"the database lacks {names}: run `incidents migrate`")


async def ensure_partitions(conn: "Conn", today: date, days_ahead: int = 3) -> list[str]:
    """Create the daily partitions from `today` on that are not there; return their names.

    Safe from any number of processes at once. Rows of such a day that already
    sit in the default partition move over.

    Raises:
        asyncpg.LockNotAvailableError: a long transaction holds the table; the
            default partition goes on taking the rows, so try again later.
    """
    days = [today + timedelta(days=ahead) for ahead in range(days_ahead + 1)]
    wanted = [(table, day) for table in PARTITIONED for day in days]
    if not await _absent(conn, wanted):
        return []
    async with conn.transaction():
        await conn.execute("SELECT pg_advisory_xact_lock($1)", _PARTITIONING)
        await conn.execute("SET LOCAL lock_timeout = '5s'")
        absent = await _absent(conn, wanted)
        for table, day in absent:
            await conn.execute("SELECT add_day($1, $2)", table, day)
        return [partition_name(table, day) for table, day in absent]


async def absent_days(conn: "Conn", day: date) -> list[str]:
    """The partitions of a day that are not there."""
    wanted = [(table, day) for table in PARTITIONED]
    return [partition_name(table, day) for table, day in await _absent(conn, wanted)]


async def drop_partitions(conn: "Conn", today: date, keep_days: int) -> list[str]:
    """Drop the daily partitions of days more than `keep_days` before `today`; return their names."""
    first = today - timedelta(days=keep_days)
    dropped: list[str] = []
    async with conn.transaction():
        await conn.execute("SELECT pg_advisory_xact_lock($1)", _PARTITIONING)
        await conn.execute("SET LOCAL lock_timeout = '5s'")
        for table in PARTITIONED:
            dropped += [row[0] for row in await conn.fetch("SELECT drop_days($1, $2)", table, first)]
    return dropped


def partition_name(table: str, day: date) -> str:
    """The name of one day's partition: verdicts_20260101."""
    return f"{table}_{day:%Y%m%d}"


async def connected(database_url: str, progress: Callable[[str], None]) -> "Conn":
    """A connection for work on the schema; the database is made where there is none."""
    try:
        return await asyncpg.connect(database_url, server_settings=_SESSION)
    except asyncpg.InvalidCatalogNameError:
        name = unquote(urlsplit(database_url).path.lstrip("/"))
        progress(f"creating the database {name}")
    admin = await asyncpg.connect(database_url, database=_MAINTENANCE)
    try:
        quoted = name.replace('"', '""')
        await admin.execute(f'CREATE DATABASE "{quoted}"')
    except (asyncpg.DuplicateDatabaseError, asyncpg.UniqueViolationError):
        pass  # another run made it at the same moment
    finally:
        await admin.close()
    return await asyncpg.connect(database_url, server_settings=_SESSION)


async def applied(conn: "Conn") -> dict[str, str]:
    """The migrations that the database has, name -> checksum."""
    if await conn.fetchval("SELECT to_regclass('schema_migrations')") is None:
        return {}
    rows = await conn.fetch("SELECT name, checksum FROM schema_migrations")
    return {row["name"]: row["checksum"] for row in rows}


async def _apply_all(conn: "Conn", progress: Callable[[str], None]) -> list[str]:
    missing = pending(await applied(conn), migrations())
    if missing:  # who may only run the system may still ask whether anything is
        await conn.execute(_LEDGER)
    return [await _apply(conn, one, progress) for one in missing]


async def _apply(conn: "Conn", one: Migration, progress: Callable[[str], None]) -> str:
    progress(f"applying {one.name}")
    async with conn.transaction():
        await conn.execute(one.sql)
        await conn.execute("INSERT INTO schema_migrations (name, checksum) VALUES ($1, $2)", one.name, one.checksum)
    return one.name


async def _absent(conn: "Conn", wanted: list[tuple[str, date]]) -> list[tuple[str, date]]:
    # Not to_regclass: it may answer from a cache that an advisory lock does not renew.
    rows = await conn.fetch(
        "SELECT relname FROM pg_class WHERE relname = ANY ($1) AND relnamespace = current_schema()::regnamespace",
        [partition_name(table, day) for table, day in wanted],
    )
    present = {row["relname"] for row in rows}
    return [(table, day) for table, day in wanted if partition_name(table, day) not in present]
