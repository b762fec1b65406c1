"""What is read about alerts: those of an incident, and those that are there now."""

import uuid
from collections.abc import AsyncIterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from asyncpg import Connection, Record
    from asyncpg.pool import PoolConnectionProxy

    Conn = Connection[Record] | PoolConnectionProxy[Record]


class AlertLink(msgspec.Struct, frozen=True):
    """Somewhere to look further."""

    href: str
    text: str


class AlertRow(msgspec.Struct, frozen=True, kw_only=True):
    """One occurrence of one alert. `events` is how often it was said; ids of its incidents, newest first."""

    identity: str
    occurrence: int
    fingerprint: str
    team: str
    source: str
    status: str
    severity: str
    kind: str
    summary: str
    description: str
    labels: dict[str, str]
    annotations: dict[str, str]
    links: list[AlertLink]
    starts_at: datetime
    ends_at: datetime | None
    first_seen_at: datetime
    last_seen_at: datetime
    events: int
    incidents: list[uuid.UUID]
    receivers: list[str]


class AlertPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of alerts; `next` asks for the following one and is absent on the last."""

    items: list[AlertRow]
    next: str | None = None


# Alerts of one incident: firing first, then the latest; $2 and $3 page through them.
_OF_INCIDENT = """
SELECT a.*, ARRAY[l.incident_id] AS incident_ids, '{}'::text[] AS receivers
  FROM incident_alerts l
  JOIN alerts a USING (identity, occurrence)
 WHERE l.incident_id = $1
 ORDER BY l.firing DESC, a.starts_at DESC, a.identity, a.occurrence
 LIMIT $2 OFFSET $3
"""

# Newest occurrence of each alert with its incidents and their receivers, in a stable order after an identity.
_CURRENT = """
SELECT a.*, i.incident_ids, i.receivers
  FROM alerts a
 CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(n.id ORDER BY n.created_at DESC), '{}') AS incident_ids,
           coalesce(array_agg(DISTINCT n.receiver), '{}') AS receivers
      FROM incident_alerts l JOIN incidents n ON n.id = l.incident_id
     WHERE l.identity = a.identity AND l.occurrence = a.occurrence) i
 WHERE NOT (a.source = 'canary' AND a.labels ->> 'alertname' = 'IncidentsCanary')
   AND ($1::text IS NULL OR a.status = $1)
   AND ($2::text[] IS NULL OR a.team = ANY ($2))
   AND ($3::text[] IS NULL OR concat_ws(' ', a.summary, a.labels::text, a.fingerprint) ILIKE ALL ($3))
   AND a.identity > $4
   AND NOT EXISTS (SELECT 1 FROM alerts b WHERE b.identity = a.identity AND b.occurrence > a.occurrence)
 ORDER BY a.identity
 LIMIT $5
"""

# Firing alerts that have certain labels, by fingerprint, with what the tables keep of them.
_FIRING = """
SELECT identity, fingerprint, team, labels, annotations, summary, description, starts_at, ends_at, last_seen_at,
       state, pulse
  FROM alerts WHERE status = 'firing' AND labels @> $1::jsonb AND ($2::text[] IS NULL OR team = ANY ($2))
 ORDER BY fingerprint, identity
"""
_PIECE = 500


async def alerts_of_incident(conn: "Conn", incident_id: uuid.UUID, limit: int, offset: int = 0) -> list[AlertRow]:
    """Firing ones first."""
    return [_alert(row) for row in await conn.fetch(_OF_INCIDENT, incident_id, limit, offset)]


async def firing_now(
    conn: "Conn", certain: dict[str, str], teams: list[str] | None
) -> AsyncIterator[list["Record"]]:  # fmt: skip
    """Rows of firing alerts of these teams (None: of all) that have these labels, in pieces, by fingerprint."""
    async with conn.transaction():
        cursor = await conn.cursor(_FIRING, certain, teams)
        while rows := await cursor.fetch(_PIECE):
            yield rows


async def current_alerts(
    conn: "Conn", *, status: str | None, teams: list[str] | None, patterns: list[str], after: str, limit: int
) -> list[AlertRow]:
    """The newest occurrence of each alert, by identity, after the identity `after` ('' from the start)."""
    rows = await conn.fetch(_CURRENT, status, teams, patterns or None, after, limit)
    return [_alert(row) for row in rows]


def _alert(row: "Record") -> AlertRow:
    fields = {name: row[name] for name in AlertRow.__struct_fields__ if name not in {"events", "incidents", "links"}}
    return AlertRow(
        **fields,
        events=row["event_count"],
        incidents=list(row["incident_ids"]),
        links=[_link(item) for item in row["links"]],
    )


def _link(item: Any) -> AlertLink:  # noqa: ANN401 - a JSON value: an object, or an array as on the wire
    if isinstance(item, dict):
        return AlertLink(str(item.get("href", "")), str(item.get("text", "")))
    href, text = (*item, "")[:2]
    return AlertLink(str(href), str(text))
