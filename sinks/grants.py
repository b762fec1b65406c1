"""Least privilege in Postgres: three roles without login, and what each may do with this database.

<prefix>_migrate owns the schema and changes it; <prefix>_app is what the running roles need; <prefix>_read is for
people and dashboards. Logins are made members: `CREATE ROLE incidents LOGIN PASSWORD '...' IN ROLE incidents_app`.
"""

import re
from typing import TYPE_CHECKING, Final

import asyncpg

if TYPE_CHECKING:
    from asyncpg import Connection
    from asyncpg.pool import PoolConnectionProxy

    Conn = Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]

PREFIX: Final = "incidents"
APPEND_ONLY: Final = frozenset({"timeline", "config_versions", "log_lives"})
"""Tables whose rows stay as they were written, beside those where `refuse_change` sees to it."""
LEDGER: Final = "schema_migrations"
SECRET: Final = frozenset(
    {"config_versions", "users", "sessions", "api_tokens", "login_failures", "kept_answers", "jobs", "job_runs"}
)
"""Tables that hold secrets, which the role for reading does not see."""
_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,40}")

_TABLES: Final = """
SELECT c.relname, EXISTS (
    SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgfoid = to_regproc('refuse_change')
) AS refuses FROM pg_class c
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
ORDER BY c.relname
"""
# Everything in the schema that has an owner of its own; a sequence of an identity column goes with its table.
_OWNED: Final = """
SELECT CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind,
    c.oid::regclass::text AS name, c.relowner::regrole::text AS owner
FROM pg_class c
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v', 'S')
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.classid = 'pg_class'::regclass
                    AND d.deptype IN ('i', 'a') AND d.refclassid = 'pg_class'::regclass AND c.relkind = 'S')
UNION ALL
SELECT 'ROUTINE', p.oid::regprocedure::text, p.proowner::regrole::text FROM pg_proc p
WHERE p.pronamespace = current_schema()::regnamespace
"""
_ROUTINES: Final = """
SELECT p.oid::regprocedure::text FROM pg_proc p
WHERE p.pronamespace = current_schema()::regnamespace AND p.prorettype <> 'trigger'::regtype
"""
_GRANTED: Final = """
SELECT pg_get_userbyid(a.grantee) FROM pg_class c, aclexplode(c.relacl) a
WHERE c.oid = to_regclass('schema_migrations') AND a.privilege_type = 'SELECT'
    AND pg_get_userbyid(a.grantee) LIKE '%\\_app'
"""
_OWNER: Final = "SELECT relowner::regrole::text FROM pg_class WHERE oid = to_regclass('schema_migrations')"


async def create(conn: "Conn", prefix: str = PREFIX) -> None:
    """Make the three roles where they are missing, and hand everything in the schema to the first of them.

    Raises:
        ValueError: the prefix is no plain lower-case name.
        asyncpg.InsufficientPrivilegeError: who is connected may not make roles, or owns too little.
    """
    if not _NAME.fullmatch(prefix):
        raise ValueError(f"{prefix!r} is no name for roles: lower-case letters, digits and _")
    async with conn.transaction():
        for part in ("migrate", "app", "read"):
            if not await conn.fetchval("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", f"{prefix}_{part}"):
                await conn.execute(f"CREATE ROLE {prefix}_{part} NOLOGIN")
        owner = f"{prefix}_migrate"
        if not await conn.fetchval("SELECT pg_has_role($1, 'MEMBER')", owner):
            await conn.execute(f"GRANT {owner} TO CURRENT_USER")
        await conn.execute(f"GRANT USAGE, CREATE ON SCHEMA {await _schema(conn)} TO {owner}")
        for row in await conn.fetch(_OWNED):
            if row["owner"] != owner:
                await conn.execute(f"ALTER {row['kind']} {row['name']} OWNER TO {owner}")
        await grant(conn, prefix)


async def grant(conn: "Conn", prefix: str) -> None:
    """Give the roles what they need of the schema as it is now, and take away what they had beyond that."""
    app, read, schema = f"{prefix}_app", f"{prefix}_read", await _schema(conn)
    tables = {row["relname"]: row["refuses"] for row in await conn.fetch(_TABLES)}
    statements = [
        f"GRANT USAGE ON SCHEMA {schema} TO {app}, {read}",
        f"REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {app}, {read}",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {app}",
        *(f"GRANT {privileges_of(table, refuses=it)} ON {table} TO {app}" for table, it in tables.items()),
        *(f"GRANT SELECT ON {table} TO {read}" for table in tables if table not in SECRET),
        *(f"GRANT EXECUTE ON ROUTINE {row[0]} TO {app}" for row in await conn.fetch(_ROUTINES)),
    ]
    async with conn.transaction():
        for statement in statements:
            await conn.execute(statement)


def privileges_of(table: str, *, refuses: bool) -> str:
    """What the running roles may do with a table; one that `refuses` changes by itself is only added to."""
    if table == LEDGER:
        return "SELECT"
    return "SELECT, INSERT" if refuses or table in APPEND_ONLY else "SELECT, INSERT, UPDATE, DELETE"


async def granted(conn: "Conn") -> str | None:
    """The prefix of the roles that this database knows; None where it was never given any."""
    role = await conn.fetchval(_GRANTED)
    return str(role).removesuffix("_app") if role else None


async def become_owner(conn: "Conn") -> None:
    """Act as the owner of the schema where who is connected is a member of it, so that what is made belongs to it."""
    owner = await conn.fetchval(_OWNER)
    if owner is not None and await conn.fetchval("SELECT pg_has_role(to_regrole($1), 'MEMBER')", owner):
        await conn.execute(f"SET ROLE {owner}")


async def _schema(conn: "Conn") -> str:
    return str(await conn.fetchval("SELECT quote_ident(current_schema())"))
