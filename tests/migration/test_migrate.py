"""Migrations: once, in order, by one run at a time, and finished by the next when one was killed."""

import asyncio
import os
import signal
import sys

import asyncpg
import pytest

from sinks import migrate as subject
from sinks.migrate import Migration, MigrationChangedError, MigrationMissingError, check, migrate, migrations, pending

FIRST = Migration("0001_a.sql", "CREATE TABLE a ()")
SECOND = Migration("0002_b.sql", "CREATE TABLE b ()")
# Applies everything, then hangs in a file that has already made a table.
HANGS = """
import asyncio, sys
from sinks import migrate as subject
known = [*subject.migrations(), subject.Migration("9000_last.sql", "CREATE TABLE half (); SELECT pg_sleep(600)")]
subject.migrations = lambda: known
asyncio.run(subject.migrate(sys.argv[1], lambda _: None))
"""


@pytest.mark.parametrize(
    ("applied", "left"),
    [
        ({}, [FIRST, SECOND]),
        ({FIRST.name: FIRST.checksum}, [SECOND]),
        ({FIRST.name: FIRST.checksum, SECOND.name: SECOND.checksum}, []),
        ({FIRST.name: FIRST.checksum, SECOND.name: SECOND.checksum, "0003_newer.sql": "x"}, []),
    ],
)
def test_pending_is_what_was_not_applied(applied: dict[str, str], left: list[Migration]) -> None:
    assert pending(applied, [FIRST, SECOND]) == left


def test_a_changed_migration_is_named_with_the_remedy() -> None:
    with pytest.raises(MigrationChangedError, match=r"0001_a\.sql was applied with other contents.*new migration"):
        pending({FIRST.name: "other"}, [FIRST, SECOND])


def test_each_migration_has_a_number_of_its_own() -> None:
    numbers = [int(one.name[:4]) for one in migrations()]
    assert numbers == sorted(set(numbers))


async def test_migrating_creates_the_database_and_a_second_run_has_nothing_to_do(new_database_url: str) -> None:
    told: list[str] = []
    names = [one.name for one in migrations()]
    assert await migrate(new_database_url, told.append) == names
    assert told[0].startswith("creating the database test_")
    assert await migrate(new_database_url, told.append) == []
    connection = await asyncpg.connect(new_database_url)
    try:
        await check(connection)
    finally:
        await connection.close()


async def test_of_two_at_once_one_applies_and_the_other_waits(new_database_url: str) -> None:
    results = await asyncio.gather(*(migrate(new_database_url, lambda _: None) for _ in range(3)))
    assert sorted(map(len, results)) == [0, 0, len(migrations())]


async def test_a_database_that_lacks_a_migration_is_refused_with_the_remedy(
    conn: "asyncpg.Connection[asyncpg.Record]", monkeypatch: pytest.MonkeyPatch
) -> None:
    known = [*migrations(), SECOND]
    monkeypatch.setattr(subject, "migrations", lambda: known)
    with pytest.raises(MigrationMissingError, match=r"lacks 0002_b\.sql: run `incidents migrate`"):
        await check(conn)


async def test_an_empty_database_is_refused(conn: "asyncpg.Connection[asyncpg.Record]") -> None:
    await conn.execute("DROP TABLE schema_migrations")
    with pytest.raises(MigrationMissingError, match=r"0001_incidents\.sql"):
        await check(conn)


async def test_a_file_that_fails_leaves_nothing_of_itself(
    new_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = [FIRST, Migration("0002_b.sql", "CREATE TABLE b (); SELECT 1/0")]
    monkeypatch.setattr(subject, "PARTITIONED", ())
    monkeypatch.setattr(subject, "migrations", lambda: broken)
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(new_database_url, lambda _: None)
    monkeypatch.setattr(subject, "migrations", lambda: [FIRST, SECOND])
    assert await migrate(new_database_url, lambda _: None) == ["0002_b.sql"]


async def test_a_run_killed_in_the_middle_is_finished_by_the_next(new_database_url: str) -> None:
    killed = await asyncio.create_subprocess_exec(sys.executable, "-c", HANGS, new_database_url)
    try:
        await _until_asleep(new_database_url)
    finally:
        os.kill(killed.pid, signal.SIGKILL)
        await killed.wait()
    told: list[str] = []
    assert await migrate(new_database_url, told.append) == []
    connection = await asyncpg.connect(new_database_url)
    try:
        await check(connection)
        assert await connection.fetchval("SELECT to_regclass('half')") is None
        # The killed run had not come to the partitions; the next one made them.
        assert await connection.fetchval("SELECT count(*) FROM pg_inherits WHERE inhparent = 'verdicts'::regclass") > 1
    finally:
        await connection.close()


async def _until_asleep(url: str) -> None:
    """Return when a session of the database sleeps inside a statement of its own."""
    server, _, name = url.rpartition("/")
    connection = await asyncpg.connect(f"{server}/postgres")
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND wait_event = 'PgSleep'"
    try:
        async with asyncio.timeout(60):
            while not await connection.fetchval(query, name):
                await asyncio.sleep(0.05)
    finally:
        await connection.close()
