"""What Postgres says happened: sums over stream_progress, verdict rows, dead letters, incidents."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final, TypeAlias

import asyncpg
import msgspec

from streams.records import IncidentStatus, Verdict

_SUMS: Final = """
    SELECT coalesce(sum(received), 0)::bigint AS received, coalesce(sum(new), 0)::bigint AS new,
           coalesce(sum(changed), 0)::bigint AS changed, coalesce(sum(resolved), 0)::bigint AS resolved,
           coalesce(sum(duplicate), 0)::bigint AS duplicate, coalesce(sum(late), 0)::bigint AS late,
           coalesce(sum(rejected), 0)::bigint AS rejected, coalesce(sum(redelivered), 0)::bigint AS redelivered
    FROM stream_progress WHERE topic = 'alerts' OR topic LIKE '%-alerts'
"""
_ROWS: Final = "SELECT verdict, sum(events)::bigint AS events FROM verdicts WHERE committed_at >= $1 GROUP BY verdict"
_DEAD: Final = "SELECT count(*) FROM dead_letters WHERE changed_at >= $1 AND state <> 'replayed'"
_INCIDENTS: Final = "SELECT status, count(*) AS incidents FROM incidents GROUP BY status"
_POLL_S: Final = 0.25

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


class Sums(msgspec.Struct, frozen=True, kw_only=True):
    """received = new + changed + resolved + duplicate + late + rejected + redelivered."""

    received: int = 0
    new: int = 0
    changed: int = 0
    resolved: int = 0
    duplicate: int = 0
    late: int = 0
    rejected: int = 0
    redelivered: int = 0

    def since(self, before: "Sums") -> "Sums":
        """What came after `before`."""
        return Sums(**{name: getattr(self, name) - getattr(before, name) for name in self.__struct_fields__})

    @property
    def settled(self) -> int:
        """Events that are known by now, copies of one event counted once."""
        return self.received - self.redelivered

    @property
    def add_up(self) -> bool:
        """Whether the verdicts add up to what was received."""
        parts: list[int] = [getattr(self, verdict) for verdict in Verdict]
        return self.received == sum(parts)


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """The same from the rows themselves: events by verdict, and how many dead letters."""

    verdicts: dict[Verdict, int]
    dead_letters: int


async def read_sums(connection: Connection) -> Sums:
    """The system's totals until now, over all lives of the log."""
    row = await connection.fetchrow(_SUMS)
    return Sums(**dict(row)) if row else Sums()


async def read_rows(connection: Connection, since_at: datetime) -> Rows:
    """What the rows say that were committed since then."""
    found = {Verdict(row["verdict"]): int(row["events"]) for row in await connection.fetch(_ROWS, since_at)}
    return Rows(
        verdicts={verdict: found.get(verdict, 0) for verdict in Verdict if verdict is not Verdict.REDELIVERED},
        dead_letters=await connection.fetchval(_DEAD, since_at),
    )


async def read_incidents(connection: Connection) -> dict[IncidentStatus, int]:
    """How many incidents there are, by status."""
    found = {row["status"]: int(row["incidents"]) for row in await connection.fetch(_INCIDENTS)}
    return {status: found.get(status, 0) for status in IncidentStatus}


async def database_now(connection: Connection) -> datetime:
    """The clock that `committed_at` is read from."""
    now: datetime = await connection.fetchval("SELECT clock_timestamp()")
    return now


async def wait_until(
    ask: Callable[[], Awaitable[int]], wanted: int, *, within: float, stalled: float, seen: Callable[[int], None]
) -> bool:
    """Poll `ask` until it answers `wanted` or more; False after `within` s, or `stalled` s without any change."""
    deadline = time.monotonic() + within
    value = await ask()
    changed_at = time.monotonic()
    seen(value)
    while value < wanted:
        if time.monotonic() > min(deadline, changed_at + stalled):
            return False
        await asyncio.sleep(_POLL_S)
        fresh = await ask()
        if fresh != value:
            value, changed_at = fresh, time.monotonic()
        seen(value)
    return True
