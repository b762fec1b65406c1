"""What the metrics say of rows: how far partitions are, incidents that are not resolved, sizes of tables."""

from typing import Final

from sinks.postgres import Connection
from streams.metrics import POSTGRES_TABLES

MOST: Final = 100_000
"""Dead letters that are counted at most."""

# How far each partition is on the newest life of the log.
_APPLIED: Final = """
SELECT topic, partition, applied FROM stream_progress
WHERE log_id = (SELECT log_id FROM log_lives ORDER BY accepted_at DESC LIMIT 1)
"""

# Incidents that somebody still has to do with.
_ACTIVE: Final = """
SELECT status, severity, count(*) AS incidents FROM incidents
WHERE status IN ('open', 'acknowledged') AND route <> '(canary)' GROUP BY status, severity
"""

# Dead letters that nobody has dealt with.
_WAITING: Final = """
SELECT count(*) FROM (SELECT FROM dead_letters WHERE state = 'waiting' LIMIT $1) AS waiting
"""

# Bytes of tables with their indexes, and of those that are partitioned with all parts.
_SIZES: Final = """
SELECT name, (pg_total_relation_size(to_regclass(name)) + coalesce(
    (SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree(to_regclass(name)) WHERE level > 0), 0))::bigint
    AS bytes
FROM unnest($1::text[]) AS wanted(name) WHERE to_regclass(name) IS NOT NULL
"""


async def applied(conn: Connection) -> dict[tuple[str, int], int]:
    """The last offset applied of each topic and partition."""
    return {(row["topic"], row["partition"]): row["applied"] for row in await conn.fetch(_APPLIED)}


async def active(conn: Connection) -> dict[tuple[str, str], int]:
    """Incidents by status and severity."""
    return {(row["status"], row["severity"]): row["incidents"] for row in await conn.fetch(_ACTIVE)}


async def dead_letters(conn: Connection) -> int:
    """Dead letters that wait, `MOST` at most."""
    return int(await conn.fetchval(_WAITING, MOST))


async def sizes(conn: Connection) -> dict[str, int]:
    """Bytes of each table."""
    return {row["name"]: row["bytes"] for row in await conn.fetch(_SIZES, list(POSTGRES_TABLES))}
