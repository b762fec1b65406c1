"""What is read about the streams: the sums of what came in, and how far each partition is."""

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from asyncpg import Connection, Record
    from asyncpg.pool import PoolConnectionProxy

    Conn = Connection[Record] | PoolConnectionProxy[Record]


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Events by verdict over every life of the log; `received` is their sum."""

    received: int = 0
    new: int = 0
    changed: int = 0
    resolved: int = 0
    duplicate: int = 0
    late: int = 0
    rejected: int = 0
    redelivered: int = 0


class OpenIncidents(msgspec.Struct, frozen=True, kw_only=True):
    """Incidents that are open or acknowledged, by severity."""

    critical: int = 0
    error: int = 0
    warning: int = 0
    info: int = 0
    unknown: int = 0
    acknowledged: int = 0

    @property
    def count(self) -> int:
        """All of them; the acknowledged ones are counted by severity too."""
        return self.critical + self.error + self.warning + self.info + self.unknown


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far one partition of one log has been applied, and by which epoch."""

    log_id: str
    topic: str
    partition: int
    epoch: int
    applied: int
    safe: int
    watermark: datetime
    received: int
    updated_at: datetime


# What came in, over every life of the log.
_TOTALS = """
SELECT coalesce(sum(received), 0)::bigint AS received, coalesce(sum(new), 0)::bigint AS new,
       coalesce(sum(changed), 0)::bigint AS changed, coalesce(sum(resolved), 0)::bigint AS resolved,
       coalesce(sum(duplicate), 0)::bigint AS duplicate, coalesce(sum(late), 0)::bigint AS late,
       coalesce(sum(rejected), 0)::bigint AS rejected, coalesce(sum(redelivered), 0)::bigint AS redelivered
  FROM stream_progress WHERE topic = 'alerts'
"""

# What people have to work on, from the partial index of open incidents.
_OPEN = """
SELECT severity, count(*) AS incidents, count(*) FILTER (WHERE status = 'acknowledged') AS acknowledged
  FROM incidents WHERE status IN ('open', 'acknowledged') AND route <> '(canary)'
   AND ($1::text[] IS NULL OR team = ANY ($1))
 GROUP BY severity
"""

# The newest life of each partition.
_PROGRESS = """
SELECT DISTINCT ON (topic, partition)
       log_id, topic, partition, epoch, applied, safe, watermark, received, updated_at
  FROM stream_progress ORDER BY topic, partition, updated_at DESC
"""


async def read_totals(conn: "Conn") -> Totals:
    """The sums now."""
    row = await conn.fetchrow(_TOTALS)
    return Totals(**dict(row)) if row is not None else Totals()


async def read_open(conn: "Conn", teams: list[str] | None = None) -> OpenIncidents:
    """Open incidents now, of these teams; None: of all."""
    rows = await conn.fetch(_OPEN, teams)
    counts = {row["severity"]: row["incidents"] for row in rows}
    return OpenIncidents(**counts, acknowledged=sum(row["acknowledged"] for row in rows))


async def read_progress(conn: "Conn") -> list[Progress]:
    """One entry for each topic and partition."""
    return [Progress(**dict(row)) for row in await conn.fetch(_PROGRESS)]
