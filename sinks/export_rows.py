"""What an export writes: incidents or alerts of one team, a piece at a time in a fixed order, and where it is put."""

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from sinks.postgres import Connection

_INCIDENTS: Final = """
SELECT created_at AS at, id::text AS key, to_json(shown)::text AS body FROM (
    SELECT id, title, description, severity, status, kind, team, created_at, updated_at, acknowledged_at, resolved_at,
        parent_id, predecessor_id, reopened, group_labels, route, receiver
    FROM incidents
    WHERE team = $1 AND created_at >= $2 AND created_at < $3 AND (created_at, id::text) > ($4, $5)
    ORDER BY created_at, id::text LIMIT $6
) shown ORDER BY created_at, id::text
"""

_ALERTS: Final = """
SELECT starts_at AS at, identity || ' ' || occurrence AS key, to_json(shown)::text AS body FROM (
    SELECT identity, occurrence, fingerprint, team, source, status, severity, kind, summary, description, labels,
        annotations, starts_at, ends_at, first_seen_at, last_seen_at, event_count
    FROM alerts
    WHERE team = $1 AND starts_at >= $2 AND starts_at < $3
        AND (starts_at, identity || ' ' || occurrence) > ($4, $5)
    ORDER BY starts_at, identity || ' ' || occurrence LIMIT $6
) shown ORDER BY starts_at, key
"""
_PIECE: Final = {"incidents": _INCIDENTS, "alerts": _ALERTS}

_COUNT: Final = {
    "incidents": "SELECT count(*) FROM incidents WHERE team = $1 AND created_at >= $2 AND created_at < $3",
    "alerts": "SELECT count(*) FROM alerts WHERE team = $1 AND starts_at >= $2 AND starts_at < $3",
}

_PUT: Final = "INSERT INTO job_files (run_id, part, body) VALUES ($1, $2, $3)"


class Place(msgspec.Struct, frozen=True):
    """Where an export goes on: after this moment and key, with this part."""

    at: datetime
    key: str
    part: int
    done: int


class Line(msgspec.Struct, frozen=True):
    """One thing: its place in the order, and its JSON."""

    at: datetime
    key: str
    body: str


async def count(conn: Connection, what: str, team: str, since: datetime, until: datetime) -> int:
    """How many there are."""
    found: int = await conn.fetchval(_COUNT[what], team, since, until)
    return found


async def piece(
    conn: Connection, what: str, team: str, since: datetime, until: datetime, after: Place, limit: int
) -> Sequence[Line]:
    """The next ones."""
    rows = await conn.fetch(_PIECE[what], team, since, until, after.at, after.key, limit)
    return [Line(row["at"], row["key"], row["body"]) for row in rows]


async def put(conn: Connection, run_id: uuid.UUID, part: int, body: bytes) -> None:
    """Keep one part of the file."""
    await conn.execute(_PUT, run_id, part, body)
