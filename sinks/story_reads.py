"""What is read to tell one alert's story: its occurrences, verdicts, decisions, notices, and its groups."""

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from asyncpg import Connection, Record
    from asyncpg.pool import PoolConnectionProxy

    Conn = Connection[Record] | PoolConnectionProxy[Record]

LINES: Final = 100

# The newest occurrence of an alert, by its fingerprint or identity; of several identities the one heard of last.
_ALERT: Final = """
SELECT identity, occurrence, fingerprint, team, source, status, severity, summary, labels, starts_at, ends_at,
       last_seen_at, pulse
  FROM alerts WHERE (fingerprint = $1 OR identity = $1) AND ($2::text[] IS NULL OR team = ANY ($2))
 ORDER BY last_seen_at DESC, occurrence DESC LIMIT 1
"""

# What became of its events, repeats apart, latest first.
_VERDICTS: Final = """
SELECT occurrence, verdict, reason, via, decided_at FROM verdicts
 WHERE identity = $1 AND verdict <> 'duplicate' ORDER BY decided_at DESC LIMIT $2
"""

# How often each occurrence was repeated.
_REPEATS: Final = """
SELECT occurrence, sum(events)::bigint AS events, min(decided_at) AS first_at, max(decided_at) AS last_at
  FROM verdicts WHERE identity = $1 AND verdict = 'duplicate'
 GROUP BY occurrence ORDER BY max(decided_at) DESC LIMIT $2
"""

# What was decided about it, and about its groups while it was in them, latest first.
_DECISIONS: Final = """
WITH mine AS (
    SELECT group_key, min(joined_at) AS since FROM incident_alerts WHERE identity = $1 GROUP BY group_key)
SELECT d.group_key, d.identity, d.decision, d.reason, d.detail, d.decided_at
  FROM decisions d LEFT JOIN mine USING (group_key)
 WHERE d.identity = $1 OR (d.identity IS NULL AND d.decided_at >= mine.since)
 ORDER BY d.decided_at DESC, d.seq DESC LIMIT $2
"""

# Notices that named it, latest first.
_NOTICES: Final = """
SELECT t.receiver, t.integration, t.channel, t.reason, t.state, t.attempts, t.due_at, t.created_at, t.finished_at,
       t.last_reason
  FROM notification_tasks t JOIN notices n ON n.id = t.notice_id
 WHERE t.incident_id IN (SELECT incident_id FROM incident_alerts WHERE identity = $1)
   AND n.body->'alerts' @> jsonb_build_array(jsonb_build_object('fingerprint', $2::text))
 ORDER BY t.created_at DESC, t.decision DESC LIMIT $3
"""

# The groups that hold it now, with their incidents.
_GROUPS: Final = """
SELECT DISTINCT ON (g.group_key) g.group_key, g.route, g.labels, g.state, i.id AS incident_id, i.title, i.status
  FROM incident_alerts l JOIN groups g USING (group_key) JOIN incidents i ON i.id = l.incident_id
 WHERE l.identity = $1 AND l.state IS NOT NULL
 ORDER BY g.group_key, i.created_at DESC
"""


class StoryAlert(msgspec.Struct, frozen=True, kw_only=True):
    """The alert that a story is about."""

    identity: str
    occurrence: int
    fingerprint: str
    team: str
    source: str
    status: str
    severity: str
    summary: str
    labels: dict[str, str]
    starts_at: datetime
    ends_at: datetime | None
    last_seen_at: datetime


class Material(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of a story, latest first."""

    verdicts: list[dict[str, Any]]
    repeats: list[dict[str, Any]]
    decisions: list[dict[str, Any]]
    notices: list[dict[str, Any]]
    groups: list[dict[str, Any]]


async def alert_of(conn: "Conn", name: str, teams: list[str] | None) -> tuple[StoryAlert, bytes] | None:
    """The alert of a fingerprint or identity, of these teams (None: of any), and its encoded pulse; None: no alert."""
    row = await conn.fetchrow(_ALERT, name, teams)
    if row is None:
        return None
    return StoryAlert(**{field: row[field] for field in StoryAlert.__struct_fields__}), row["pulse"]


async def material_of(conn: "Conn", alert: StoryAlert) -> Material:
    """Everything that was written about it, the last `LINES` of each kind."""
    return Material(
        verdicts=[dict(row) for row in await conn.fetch(_VERDICTS, alert.identity, LINES)],
        repeats=[dict(row) for row in await conn.fetch(_REPEATS, alert.identity, LINES)],
        decisions=[dict(row) for row in await conn.fetch(_DECISIONS, alert.identity, LINES)],
        notices=[dict(row) for row in await conn.fetch(_NOTICES, alert.identity, alert.fingerprint, LINES)],
        groups=[dict(row) for row in await conn.fetch(_GROUPS, alert.identity)],
    )
