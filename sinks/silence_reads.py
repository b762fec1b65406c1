"""What is read to say whom a silence would mute."""

import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from asyncpg import Connection, Record
    from asyncpg.pool import PoolConnectionProxy

    Conn = Connection[Record] | PoolConnectionProxy[Record]

_PIECE: Final = 1000

# Firing alerts that have all labels of one of the sets; every firing alert where a set is empty.
_FIRING: Final = """
SELECT identity, occurrence, fingerprint, severity, summary, labels, starts_at
FROM alerts WHERE status = 'firing' AND labels @> ANY ($1::jsonb[]) AND ($2::text[] IS NULL OR team = ANY ($2))
ORDER BY starts_at DESC, identity
"""

# Open incidents that such alerts belong to, with how many of their firing alerts those are.
_INCIDENTS: Final = """
SELECT i.id, i.title, i.severity, i.status, count(hit.identity) AS muted, count(*) AS firing
FROM incidents i
JOIN incident_alerts l ON l.incident_id = i.id AND l.firing
LEFT JOIN unnest($1::text[], $2::bigint[]) AS hit(identity, occurrence)
    ON hit.identity = l.identity AND hit.occurrence = l.occurrence
WHERE i.status IN ('open', 'acknowledged')
GROUP BY i.id
HAVING count(hit.identity) > 0
ORDER BY count(hit.identity) DESC, i.id
"""


class FiringAlert(msgspec.Struct, frozen=True, kw_only=True):
    """One alert that is firing."""

    identity: str
    occurrence: int
    fingerprint: str
    severity: str
    summary: str
    labels: dict[str, str]
    starts_at: datetime


class MutedIncident(msgspec.Struct, frozen=True, kw_only=True):
    """One open incident: how many of its firing alerts would be muted, and how many there are."""

    id: uuid.UUID
    title: str
    severity: str
    status: str
    muted: int
    firing: int


async def firing_alerts(
    conn: "Conn", with_labels: Sequence[dict[str, str]], teams: list[str] | None
) -> AsyncIterator[list[FiringAlert]]:  # fmt: skip
    """Firing alerts that have all labels of one of the sets, the latest first, in pieces."""
    async with conn.transaction():
        cursor = await conn.cursor(_FIRING, list(with_labels), teams)
        while rows := await cursor.fetch(_PIECE):
            yield [FiringAlert(**dict(row)) for row in rows]


async def incidents_with(conn: "Conn", alerts: Sequence[tuple[str, int]]) -> list[MutedIncident]:
    """Open incidents of these (identity, occurrence), those with the most of them first."""
    identities, occurrences = [one[0] for one in alerts], [one[1] for one in alerts]
    return [MutedIncident(**dict(row)) for row in await conn.fetch(_INCIDENTS, identities, occurrences)]
