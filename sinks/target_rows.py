"""Rows of `target_states`: how each target answers, as each delivery process sees it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import msgspec

from sinks.postgres import Connection

# Writes what a process has heard of targets; what was not heard of for a week is dropped.
_UPSERT: Final = """
WITH old AS (DELETE FROM target_states WHERE seen_at < clock_timestamp() - interval '7 days')
INSERT INTO target_states (target, process, channel, failures, paused_until, last_reason, last_sent_at)
SELECT target, $1, channel, failures, clock_timestamp() + paused_for, last_reason, last_sent_at
FROM unnest($2::text[], $3::text[], $4::int[], $5::interval[], $6::text[], $7::timestamptz[])
    AS new(target, channel, failures, paused_for, last_reason, last_sent_at)
ON CONFLICT (target, process) DO UPDATE SET channel = excluded.channel, failures = excluded.failures,
    paused_until = excluded.paused_until, last_reason = excluded.last_reason,
    last_sent_at = coalesce(excluded.last_sent_at, target_states.last_sent_at), seen_at = clock_timestamp()
"""

# How each target was seen last, by the process that heard from it last.
_STATES: Final = """
SELECT DISTINCT ON (target) target, failures, last_reason, last_sent_at, seen_at,
    CASE WHEN paused_until > clock_timestamp() THEN paused_until END AS paused_until
FROM target_states ORDER BY target, seen_at DESC
"""

# What waits for each integration.
_WAITING: Final = """
SELECT receiver, integration, count(*) AS tasks, min(created_at) AS oldest_at
FROM notification_tasks WHERE state IN ('due', 'sending', 'folded') AND incident_id IS NOT NULL
GROUP BY receiver, integration
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetState:
    """What a process says of a target; `paused_for` is how long its breaker leaves it alone."""

    target: str
    channel: str
    failures: int
    paused_for: timedelta | None
    last_reason: str
    last_sent_at: datetime | None


class SeenTarget(msgspec.Struct, frozen=True, kw_only=True):
    """How a target was seen last; `paused_until` is set while it is left alone after failures."""

    target: str
    failures: int
    last_reason: str
    last_sent_at: datetime | None
    seen_at: datetime
    paused_until: datetime | None


class Queue(msgspec.Struct, frozen=True):
    """Notices that wait for one integration."""

    tasks: int
    oldest_at: datetime | None


async def write(conn: Connection, process: str, states: Sequence[TargetState]) -> None:
    """Write down what a process has heard."""
    if states:
        columns = [[getattr(state, name) for state in states] for name in TargetState.__slots__]
        await conn.execute(_UPSERT, process, *columns)


async def seen(conn: Connection) -> dict[str, SeenTarget]:
    """Every target that was heard of lately, by name."""
    return {row["target"]: SeenTarget(**dict(row)) for row in await conn.fetch(_STATES)}


async def waiting(conn: Connection) -> dict[tuple[str, int], Queue]:
    """What waits, by receiver and integration."""
    rows = await conn.fetch(_WAITING)
    return {
        (row["receiver"], row["integration"]): Queue(tasks=row["tasks"], oldest_at=row["oldest_at"]) for row in rows
    }
