"""Rows that daily digests and the check for stale incidents read, and the tasks that send a digest."""

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from sinks.message import NoticeBody
from sinks.postgres import Connection

MOST: Final = 2_000

# What a receiver was told within a time, the last notices first.
_TOLD: Final = """
SELECT notices.body FROM notices
WHERE notices.created_at > clock_timestamp() - $2::interval AND notices.incident_id IS NOT NULL
    AND EXISTS (SELECT FROM notification_tasks mine WHERE mine.notice_id = notices.id AND mine.receiver = $1)
ORDER BY notices.created_at DESC, notices.decision DESC LIMIT $3
"""

_NOTICE: Final = """
INSERT INTO notices (id, incident_id, decision, body, created_at)
VALUES ($1, NULL, 0, $2::text::jsonb, clock_timestamp()) ON CONFLICT DO NOTHING
"""

_TASK: Final = """
INSERT INTO notification_tasks (id, notice_id, group_key, team, decision, config_version, receiver, integration,
    channel, target, urgency, reason, due_at, created_at, told_group)
VALUES ($1, $2, '', $3, 0, $4, $5, $6, $7, $8, 4, 'digest', clock_timestamp(), clock_timestamp(), true)
ON CONFLICT DO NOTHING
"""

_TEAMS: Final = """
SELECT team FROM incidents WHERE status IN ('open', 'acknowledged')
UNION SELECT team FROM alerts WHERE status = 'firing' AND labels ->> 'alertname' = $1
"""

# Incidents that nobody and nothing has touched for a while, the longest first.
_STALE: Final = """
SELECT id::text AS id, title, severity, updated_at, count(*) OVER () AS total FROM incidents
WHERE status IN ('open', 'acknowledged') AND updated_at < clock_timestamp() - $2::interval AND team = $1
    AND group_labels ->> 'alertname' IS DISTINCT FROM $3
ORDER BY updated_at LIMIT 10
"""

_FIRES: Final = """
SELECT EXISTS (SELECT FROM alerts WHERE status = 'firing' AND team = $1 AND labels ->> 'alertname' = $2
    AND source = $3)
"""

_notice = msgspec.json.Decoder(NoticeBody)


class StaleIncident(msgspec.Struct, frozen=True):
    """An incident without a change since `updated_at`; `total` counts all of them."""

    id: str
    title: str
    severity: str
    updated_at: datetime
    total: int


async def told(conn: Connection, receiver: str, within: timedelta) -> list[NoticeBody]:
    """What a receiver was told of incidents, in the order in which it was made; the newest `MOST` of it."""
    rows = await conn.fetch(_TOLD, receiver, within, MOST)
    return [_notice.decode(row["body"]) for row in reversed(rows)]


async def add_notice(conn: Connection, notice_id: uuid.UUID, body: str) -> None:
    """The notice that a digest is."""
    await conn.execute(_NOTICE, notice_id, body)


async def add_task(
    conn: Connection, task_id: uuid.UUID, notice_id: uuid.UUID, team: str, version: int, receiver: str, to: Any  # noqa: ANN401 - an integration
) -> None:  # fmt: skip
    """One task for one integration; there once, however often it is added."""
    await conn.execute(_TASK, task_id, notice_id, team, version, receiver, to.index, to.channel, to.target)


async def teams(conn: Connection, alertname: str) -> list[str]:
    """Teams that have open incidents, or an alert of that name that fires."""
    return [row["team"] for row in await conn.fetch(_TEAMS, alertname)]


async def stale(conn: Connection, team: str, after: timedelta, but: str) -> Sequence[StaleIncident]:
    """At most ten incidents without a change for so long, none of alerts named `but`."""
    return [StaleIncident(**dict(row)) for row in await conn.fetch(_STALE, team, after, but)]


async def fires(conn: Connection, team: str, alertname: str, source: str) -> bool:
    """Whether an alert of that name fires."""
    found: bool = await conn.fetchval(_FIRES, team, alertname, source)
    return found
