"""Rows of `partition_rules`: what each partition of `incident-inputs` has applied of what mutes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from asyncpg import Record

from sinks.postgres import Connection

# Writes what steps applied, whole.
_PUT: Final = """
INSERT INTO partition_rules AS mine (partition, key, revision, value)
SELECT partition, key, revision, value
FROM unnest($1::int[], $2::text[], $3::bigint[], $4::bytea[]) AS new(partition, key, revision, value)
ON CONFLICT (partition, key) DO UPDATE SET revision = excluded.revision, value = excluded.value
"""

# Drops what steps forgot.
_DROP: Final = """
DELETE FROM partition_rules AS mine USING unnest($1::int[], $2::text[]) AS gone(partition, key)
WHERE mine.partition = gone.partition AND mine.key = gone.key
"""

# All that one partition has applied.
_REBUILD: Final = "SELECT key, value FROM partition_rules WHERE partition = $1"

# Entries whose key begins so, of the one partition that has applied most.
_OF_ANY: Final = """
SELECT value FROM partition_rules WHERE starts_with(key, $1) AND partition = (
    SELECT partition FROM stream_progress WHERE topic = 'incident-inputs' ORDER BY watermark DESC, partition LIMIT 1)
"""


@dataclass(slots=True, frozen=True)
class RuleRow:
    """One entry of a partition's table `rules`; a value of None is one that was dropped."""

    key: str
    revision: int
    value: bytes | None


async def write(conn: Connection, rows: Sequence[tuple[int, RuleRow]]) -> None:
    """Write what the steps of (partition, row) changed."""
    kept = [(partition, row.key, row.revision, row.value) for partition, row in rows if row.value is not None]
    if kept:
        await conn.execute(_PUT, *(list(column) for column in zip(*kept, strict=True)))
    gone = [(partition, row.key) for partition, row in rows if row.value is None]
    if gone:
        await conn.execute(_DROP, *(list(column) for column in zip(*gone, strict=True)))


async def rebuild(conn: Connection, partition: int) -> list[Record]:
    """(key, value) of everything that a partition has applied."""
    return list(await conn.fetch(_REBUILD, partition))


async def of_any_partition(conn: Connection, prefix: str) -> list[Record]:
    """(value) of entries that every partition has, read from the one whose time is furthest on."""
    return list(await conn.fetch(_OF_ANY, prefix))
