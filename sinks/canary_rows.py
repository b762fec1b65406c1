"""Rows of the canary: whether its incident and its notice are there, and those that have had their time."""

import uuid
from datetime import datetime, timedelta
from typing import Final

import msgspec

from sinks.postgres import Connection
from streams.rules_canary import ALERT, LABEL, NAME

_SEEN: Final = """
SELECT i.id, i.committed_at, t.finished_at, t.state FROM incidents i
LEFT JOIN notification_tasks t ON t.incident_id = i.id AND t.receiver = $2
WHERE i.committed_at >= $1 AND i.route = $2 AND i.group_labels ->> $3 = $4
ORDER BY t.created_at LIMIT 1
"""

# Its alerts, once no worker holds them any more.
_ALERTS: Final = """
WITH old AS (
    SELECT identity, occurrence FROM alerts
    WHERE status = 'resolved' AND ends_at < clock_timestamp() - greatest($1::interval, $2::interval)
        AND source = 'canary' AND labels ->> 'alertname' = $3
    LIMIT $4
),
gone AS (DELETE FROM alerts USING old WHERE (alerts.identity, alerts.occurrence) = (old.identity, old.occurrence)
    RETURNING 1)
SELECT count(*) FROM gone
"""
_HELD: Final = timedelta(minutes=20)

_FORGET: Final = "SELECT forget_canaries($1, $2)"


class Flight(msgspec.Struct, frozen=True, kw_only=True):
    """How far a canary is: its incident, committed at a time, and when its notice was sent."""

    incident_id: uuid.UUID
    committed_at: datetime
    sent_at: datetime | None


async def seen(conn: Connection, canary: str, since: datetime) -> Flight | None:
    """How far it is; None before its incident is there."""
    row = await conn.fetchrow(_SEEN, since, NAME, LABEL, canary)
    if row is None:
        return None
    sent_at = row["finished_at"] if row["state"] == "sent" else None
    return Flight(incident_id=row["id"], committed_at=row["committed_at"], sent_at=sent_at)


async def forget(conn: Connection, older_than: timedelta, limit: int) -> int:
    """Delete some incidents of the canary that ended so long ago, with all that belongs to them; how many."""
    count: int = await conn.fetchval(_FORGET, older_than, limit)
    return count


async def forget_alerts(conn: Connection, older_than: timedelta, limit: int) -> int:
    """Delete some alerts of the canary that ended so long ago; how many."""
    count: int = await conn.fetchval(_ALERTS, older_than, _HELD, ALERT, limit)
    return count
