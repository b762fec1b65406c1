"""Postgres and Redis as the doctor sees them: first what they say, then what follows from it."""

import time
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg
import msgspec
from redis.asyncio import RedisCluster

from agents.doctor.findings import Finding, Level, fail, judged, warn, well
from sinks import grants, migrate
from streams.redis_link import connect
from streams.settings import Settings

POSTGRES: Final = "Postgres"
REDIS: Final = "Redis"
OLDEST_POSTGRES: Final = 140000
OLDEST_REDIS: Final = (6, 2)
SKEW_WARN_S: Final = 1.0
SKEW_FAIL_S: Final = 5.0
"""Records that seem to come from more than a minute ahead do not move time; seconds already bend windows and waits."""
_PROCESSES: Final = 8
_FULL: Final = 0.8

_ASKED: Final = ("fsync", "full_page_writes", "synchronous_commit", "max_connections", "server_encoding")
_FACTS: Final = """
SELECT current_setting('server_version_num')::int AS version, current_setting('server_version') AS name,
    pg_is_in_recovery() OR current_setting('default_transaction_read_only') = 'on' AS read_only,
    current_user AS role, (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS superuser,
    has_schema_privilege(current_schema(), 'CREATE') AS may_change, clock_timestamp() AS now
"""
_MAY_REWRITE: Final = """
SELECT relname FROM pg_class
WHERE relnamespace = current_schema()::regnamespace AND has_table_privilege(oid, 'UPDATE') AND (relname = ANY ($1)
    OR EXISTS (SELECT FROM pg_trigger WHERE tgrelid = pg_class.oid AND tgfoid = to_regproc('refuse_change')))
"""


class PostgresFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What Postgres said. `skew_s` is how far its clock is ahead of this machine's, in seconds."""

    version: int
    name: str
    read_only: bool
    role: str
    superuser: bool
    may_change: bool
    skew_s: float
    settings: dict[str, str]
    missing: tuple[str, ...] = ()
    changed: str = ""
    absent_days: tuple[str, ...] = ()
    rewritable: tuple[str, ...] = ()


async def look_at_postgres(settings: Settings) -> list[Finding]:
    """Connect, ask, judge."""
    conn = await asyncpg.connect(settings.database_url, timeout=5)
    try:
        before = datetime.now(UTC)
        row = dict(await conn.fetchrow(_FACTS) or {})
        halfway = before + (datetime.now(UTC) - before) / 2
        row["skew_s"] = (row.pop("now") - halfway).total_seconds()
        asked = {name: await conn.fetchval("SELECT current_setting($1)", name) for name in _ASKED}
        facts = PostgresFacts(**row, settings=asked, **await _of_schema(conn))
    finally:
        await conn.close()
    return judge_postgres(facts, settings)


async def _of_schema(conn: "asyncpg.Connection[asyncpg.Record]") -> dict[str, Any]:
    changed = ""
    missing: tuple[str, ...] = ()
    try:
        missing = tuple(one.name for one in migrate.pending(await migrate.applied(conn), migrate.migrations()))
    except migrate.MigrationChangedError as error:
        changed = str(error)
    days = await migrate.absent_days(conn, datetime.now(UTC).date()) if not missing else []
    rewritable = [row["relname"] for row in await conn.fetch(_MAY_REWRITE, sorted(grants.APPEND_ONLY))]
    return {"missing": missing, "changed": changed, "absent_days": tuple(days), "rewritable": tuple(rewritable)}


def judge_postgres(facts: PostgresFacts, settings: Settings) -> list[Finding]:
    """What follows."""
    durable = all(facts.settings.get(name) == "on" for name in ("fsync", "full_page_writes"))
    lazy = facts.settings.get("synchronous_commit") == "off"
    wanted = settings.database_pool * _PROCESSES
    connections = int(facts.settings.get("max_connections", "0"))
    found = [
        judged(POSTGRES, f"version {facts.name}", "use 14 or later", ok=facts.version >= OLDEST_POSTGRES),
        judged(POSTGRES, "read only" if facts.read_only else "takes writes", "connect to the primary",
               ok=not facts.read_only),
        judged(POSTGRES, "what is committed is on the disk" if durable and not lazy else "commits may be lost",
               "set fsync, full_page_writes and synchronous_commit to on", ok=durable and not lazy),
        judged(POSTGRES, f"encoding {facts.settings.get('server_encoding')}", "make the database with UTF8",
               ok=facts.settings.get("server_encoding") == "UTF8"),
        judged(POSTGRES, f"at most {connections} connections",
               f"{_PROCESSES} processes of {settings.database_pool} want {wanted}: raise max_connections",
               ok=connections >= wanted, otherwise=Level.WARN),
        judge_skew(POSTGRES, facts.skew_s),
    ]  # fmt: skip
    return [*found, *_of_migrations(facts), *_of_role(facts)]


def _of_migrations(facts: PostgresFacts) -> list[Finding]:
    if facts.changed:
        return [fail(POSTGRES, facts.changed, "use the version that made this database, or a later one")]
    if facts.missing:
        return [fail(POSTGRES, f"the schema lacks {', '.join(facts.missing)}", "run `incidents migrate`")]
    days = f"no partitions for {', '.join(facts.absent_days)}" if facts.absent_days else "days have their partitions"
    return [
        well(POSTGRES, "the schema is current"),
        judged(POSTGRES, days, "a running worker makes them; `incidents migrate` too", ok=not facts.absent_days,
               otherwise=Level.WARN),
    ]  # fmt: skip


def _of_role(facts: PostgresFacts) -> list[Finding]:
    remedy = "run `incidents migrate --roles` and let the roles log in as a member of incidents_app"
    if facts.superuser:
        return [warn(POSTGRES, f"{facts.role} is a superuser", remedy)]
    if facts.may_change or facts.rewritable:
        more = f"may rewrite {', '.join(facts.rewritable)}" if facts.rewritable else "may change the schema"
        return [warn(POSTGRES, f"{facts.role} {more}", remedy)]
    return [well(POSTGRES, f"{facts.role} may do what the roles need and no more")]


def judge_skew(part: str, seconds: float) -> Finding:
    """How far a clock is from ours."""
    said = f"its clock is {abs(seconds):.2f} s {'ahead' if seconds > 0 else 'behind'}"
    level = Level.FAIL if abs(seconds) > SKEW_FAIL_S else Level.WARN
    return judged(part, said, "run an NTP client on both machines", ok=abs(seconds) <= SKEW_WARN_S, otherwise=level)


async def look_at_redis(settings: Settings) -> list[Finding]:
    """Connect, ask, judge; each primary of a cluster."""
    client: Any = connect(settings.redis_url, socket_timeout=3, socket_connect_timeout=3)
    try:
        if isinstance(client, RedisCluster):
            await client.initialize()
            infos = [await client.info(target_nodes=node) for node in client.get_primaries()]
            return [finding for info in infos for finding in judge_redis(info, None)]
        info = await client.info()
        before = time.time()
        seconds, micros = await client.time()
        return judge_redis(info, seconds + micros / 1e6 - (before + time.time()) / 2)
    finally:
        await client.aclose()


def judge_redis(info: dict[str, Any], skew_s: float | None) -> list[Finding]:
    """What follows from INFO of one server."""
    version = str(info.get("redis_version", "0"))
    policy, most = str(info.get("maxmemory_policy", "noeviction")), int(info.get("maxmemory", 0))
    used = int(info.get("used_memory", 0))
    kept = bool(int(info.get("aof_enabled", 0)))
    found = [
        judged(REDIS, f"version {version}", "use 6.2 or later",
               ok=tuple(int(part) for part in version.split(".")[:2]) >= OLDEST_REDIS),
        judged(REDIS, f"policy {policy}, which drops nothing" if policy == "noeviction" else f"policy {policy}",
               "set maxmemory-policy noeviction: a table half gone is a wrong one", ok=policy == "noeviction",
               otherwise=Level.FAIL if most else Level.WARN),
        judged(REDIS, "writes its log (appendonly)" if kept else "forgets at a restart",
               "set appendonly yes: else each restart is a rebuild from Postgres", ok=kept, otherwise=Level.WARN),
    ]  # fmt: skip
    if str(info.get("role", "master")) != "master":
        found.append(fail(REDIS, "a replica", "connect to the primary"))
    if most:
        said = f"{used / 1e6:,.0f} of {most / 1e6:,.0f} MB used"
        found.append(judged(REDIS, said, "raise maxmemory", ok=used < _FULL * most, otherwise=Level.WARN))
    if skew_s is not None:
        found.append(judge_skew(REDIS, skew_s))
    return found
