"""The roles in Postgres: what runs may do its work and nothing else, whoever reads sees no secret."""

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path

import asyncpg
import pytest

from agents.backup import environ_of, find_program
from embedded.postgres import Postgres
from sinks import action_rows, grants, migrate
from sinks.migrate import Migration, migrations
from tests.conftest import _execute
from tests.web.rows import add_entry, add_incident

TRIGGERS = """
SELECT DISTINCT tgrelid::regclass::text FROM pg_trigger WHERE tgfoid = 'refuse_change'::regproc
"""


@pytest.fixture
async def app(logins: dict[str, str]) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    conn = await asyncpg.connect(logins["app"])
    yield conn
    await conn.close()


REFUSED = (
    "CREATE TABLE mine ()",
    "DROP TABLE alerts",
    "ALTER TABLE alerts ADD COLUMN mine text",
    "TRUNCATE incidents",
    "UPDATE timeline SET actor = 'somebody else'",
    "DELETE FROM timeline",
    "DELETE FROM actions",
    "UPDATE silence_audit SET actor = 'somebody else'",
    "DELETE FROM silence_audit",
    "UPDATE config_versions SET body = ''",
    "INSERT INTO schema_migrations (name, checksum) VALUES ('x', 'y')",
    "DELETE FROM schema_migrations",
    "COPY alerts TO PROGRAM 'true'",
    "SELECT rolpassword FROM pg_authid",
    "SELECT pg_read_file('/etc/passwd')",
    "CREATE ROLE mine",
    "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "DROP TABLE verdicts_other",
    "ALTER TABLE timeline DISABLE TRIGGER ALL",
)


async def test_what_runs_may_do_none_of_this(app: "asyncpg.Connection[asyncpg.Record]") -> None:
    for statement in REFUSED:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await app.execute(statement)


async def test_what_runs_keeps_the_days_and_asks_for_the_schema(
    app: "asyncpg.Connection[asyncpg.Record]", logins: dict[str, str]
) -> None:
    await migrate.check(app)
    assert await migrate.migrate(logins["app"], lambda _: None) == []
    day = date(2031, 5, 17)
    assert "verdicts_20310517" in await migrate.ensure_partitions(app, day, days_ahead=0)
    assert "verdicts_20310517" in await migrate.drop_partitions(app, date(2031, 6, 1), keep_days=7)
    with pytest.raises(asyncpg.RaiseError, match="has no days"):
        await app.execute("SELECT add_day('alerts', '2031-01-01')")
    with pytest.raises(asyncpg.UndefinedTableError):
        await app.execute("SELECT drop_days('alerts', '2031-01-01')")


async def test_what_runs_blanks_a_line_of_a_timeline_and_changes_nothing_else_of_it(
    app: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    incident = await add_incident(app, "a name")
    lines = [("opened", {"title": "a name"}), ("alert fired", {"summary": "a name"}), ("comment", {"text": "a number"})]
    for seq, (event, detail) in enumerate(lines, 1):
        await add_entry(app, incident, seq, event, **detail)
    await action_rows.redact(app, [
        action_rows.Redaction(str(incident), "title", 0, "a name"), action_rows.Redaction(str(incident), "", 3, ""),
    ])  # fmt: skip
    rows = await app.fetch("SELECT event, detail::text FROM timeline ORDER BY seq")
    assert [row["event"] for row in rows] == [event for event, _ in lines]
    assert not [row for row in rows if "a n" in row["detail"]]
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await app.execute("UPDATE timeline SET detail = '{}'")


async def test_whoever_reads_sees_incidents_and_no_secret(logins: dict[str, str]) -> None:
    conn = await asyncpg.connect(logins["read"])
    try:
        assert await conn.fetchval("SELECT count(*) FROM incidents") == 0
        tables = {row[0] for row in await conn.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}
        assert "config_versions" in tables & grants.SECRET
        for table in tables & grants.SECRET:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await conn.execute(f"SELECT * FROM {table}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await conn.execute("DELETE FROM incidents")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await conn.execute("SELECT drop_days('verdicts', '2031-01-01')")
    finally:
        await conn.close()


async def test_what_a_later_migration_makes_belongs_to_the_schemas_owner_and_is_granted(
    logins: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    later = Migration("9000_later.sql", "CREATE TABLE later (id int); CREATE FUNCTION f() RETURNS int RETURN 1")
    known = [*migrations(), later]
    monkeypatch.setattr(migrate, "migrations", lambda: known)
    assert await migrate.migrate(logins["migrate"], lambda _: None) == [later.name]
    conn = await asyncpg.connect(logins["app"])
    try:
        await conn.execute("INSERT INTO later VALUES (f())")
        owner = await conn.fetchval("SELECT tableowner FROM pg_tables WHERE tablename = 'later'")
        assert owner.endswith("_migrate")
    finally:
        await conn.close()


async def test_the_login_of_the_compose_file_is_granted_what_the_roles_need(
    postgres: Postgres, database_url: str
) -> None:
    script = Path(__file__).parents[2] / "deploy" / "postgres-logins.sh"
    psql, password = find_program("psql"), "it's one"
    assert psql is not None
    name = database_url.rpartition("/")[2]
    try:
        environ = {**os.environ, **environ_of(database_url), "APP_PASSWORD": password, "POSTGRES_DB": name}
        environ["PATH"] = f"{psql.parent}:{environ['PATH']}"
        made = await asyncio.create_subprocess_exec("sh", script, env=environ)
        assert await made.wait() == 0
        await migrate.migrate(database_url, lambda _: None, roles="incidents")
        conn = await asyncpg.connect(database_url, user="incidents", password=password)
        try:
            await migrate.check(conn)
            await conn.execute("INSERT INTO directory DEFAULT VALUES ON CONFLICT DO NOTHING")
            assert not await conn.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        finally:
            await conn.close()
    finally:
        await _execute(postgres.url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        await _execute(postgres.url, "DROP ROLE IF EXISTS incidents, incidents_migrate, incidents_app, incidents_read")


async def test_whatever_refuses_changes_is_granted_so(app: "asyncpg.Connection[asyncpg.Record]") -> None:
    refusing = {row[0] for row in await app.fetch(TRIGGERS)}
    assert {"silence_audit", "actions"} <= refusing
    for table in (*refusing, *grants.APPEND_ONLY):
        for right in ("UPDATE", "DELETE", "TRUNCATE"):
            assert not await app.fetchval("SELECT has_table_privilege($1, $2)", table, right), (table, right)
    assert not await app.fetchval("SELECT has_column_privilege('timeline', 'detail', 'UPDATE')")


async def test_a_prefix_is_a_plain_name(conn: "asyncpg.Connection[asyncpg.Record]") -> None:
    with pytest.raises(ValueError, match="no name for roles"):
        await grants.create(conn, "a; DROP TABLE alerts")
