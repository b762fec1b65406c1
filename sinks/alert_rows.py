"""Rows of what came in: alerts, verdicts, dead letters. One statement a batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg

from sinks.postgres import Connection

# Writes each alert's row whole; an older revision never replaces a newer one.
_UPSERT: Final = """
INSERT INTO alerts AS mine (identity, occurrence, partition, team, fingerprint, source, status, severity, kind,
    summary, description, labels, annotations, links, starts_at, ends_at, first_seen_at, last_seen_at,
    event_count, revision, groups, state, pulse)
SELECT identity, occurrence, partition, team, fingerprint, source, status, severity, kind,
    summary, description, labels::jsonb, annotations::jsonb, links::jsonb, starts_at, ends_at, first_seen_at,
    last_seen_at, event_count, revision, string_to_array(groups, ','), state, pulse
FROM unnest($1::text[], $2::bigint[], $3::int[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
    $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::timestamptz[],
    $16::timestamptz[], $17::timestamptz[], $18::timestamptz[], $19::bigint[], $20::bigint[], $21::text[],
    $22::bytea[], $23::bytea[])
    AS new(identity, occurrence, partition, team, fingerprint, source, status, severity, kind,
    summary, description, labels, annotations, links, starts_at, ends_at, first_seen_at, last_seen_at,
    event_count, revision, groups, state, pulse)
ON CONFLICT (identity, occurrence) DO UPDATE SET
    source = excluded.source, status = excluded.status, severity = excluded.severity, kind = excluded.kind,
    summary = excluded.summary, description = excluded.description, labels = excluded.labels,
    annotations = excluded.annotations, links = excluded.links, ends_at = excluded.ends_at,
    last_seen_at = excluded.last_seen_at, event_count = excluded.event_count, revision = excluded.revision,
    groups = excluded.groups, state = excluded.state, pulse = excluded.pulse, committed_at = clock_timestamp()
WHERE mine.revision <= excluded.revision
"""

# Writes counts and last sight of alerts of which only duplicates came.
_TOUCH: Final = """
UPDATE alerts AS mine SET last_seen_at = new.last_seen_at, event_count = new.event_count, ends_at = new.ends_at,
    pulse = new.pulse
FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::timestamptz[], $5::timestamptz[], $6::bigint[], $7::bytea[])
    AS new(identity, occurrence, revision, last_seen_at, ends_at, event_count, pulse)
WHERE mine.identity = new.identity AND mine.occurrence = new.occurrence AND mine.revision <= new.revision
    AND mine.event_count <= new.event_count
"""

# Keeps what was refused; the same event refused again changes nothing.
_DEAD: Final = """
INSERT INTO dead_letters (event_id, team, source, field, reason, body, content_type, via, received_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::text[],
    $8::text[], $9::timestamptz[])
ON CONFLICT (event_id) DO NOTHING
"""

# The newest table values of every alert of a partition that its owner still holds.
_REBUILD: Final = """
SELECT DISTINCT ON (identity) identity, state, pulse FROM alerts
WHERE partition = $1 AND (status = 'firing' OR last_seen_at > $2)
ORDER BY identity, occurrence DESC
"""

# The event ids that a partition has seen since a time.
_RECENT: Final = """
SELECT log_id, decided_at, "offset", identity, event_ids FROM verdicts
WHERE partition = $1 AND decided_at > $2 AND verdict <> 'rejected' ORDER BY decided_at
"""


@dataclass(frozen=True, slots=True)
class AlertRow:
    """One row of `alerts`, in the order of its columns; the JSON columns are encoded already."""

    identity: str
    occurrence: int
    partition: int
    team: str
    fingerprint: str
    source: str
    status: str
    severity: str
    kind: str
    summary: str
    description: str
    labels: str
    annotations: str
    links: str
    starts_at: datetime
    ends_at: datetime | None
    first_seen_at: datetime
    last_seen_at: datetime
    event_count: int
    revision: int
    groups: str
    state: bytes
    pulse: bytes


@dataclass(frozen=True, slots=True)
class TouchRow:
    """What duplicates alone change in a row of `alerts`."""

    identity: str
    occurrence: int
    revision: int
    last_seen_at: datetime
    ends_at: datetime | None
    event_count: int
    pulse: bytes


@dataclass(frozen=True, slots=True)
class DeadRow:
    """One row of `dead_letters`."""

    event_id: str
    team: str
    source: str
    field: str
    reason: str
    body: bytes
    content_type: str
    via: str
    received_at: datetime


VerdictRow = tuple[str, int, int, str, str | None, int | None, int, list[str], str, str, datetime, datetime]
"""log_id, partition, offset, verdict, identity, occurrence, events, event_ids, reason, via, accepted_at, decided_at."""

_VERDICT_COLUMNS: Final = (
    "log_id",
    "partition",
    "offset",
    "verdict",
    "identity",
    "occurrence",
    "events",
    "event_ids",
    "reason",
    "via",
    "accepted_at",
    "decided_at",
)


def columns(rows: Sequence[object], record: type) -> list[list[object]]:
    """Rows of one slotted record as one list a column, in the order of its fields."""
    return [[getattr(row, name) for row in rows] for name in record.__slots__]  # type: ignore[attr-defined]


async def upsert(conn: Connection, rows: Sequence[AlertRow]) -> None:
    """Write alerts whole."""
    if rows:
        await conn.execute(_UPSERT, *columns(rows, AlertRow))


async def touch(conn: Connection, rows: Sequence[TouchRow]) -> None:
    """Write the counts of alerts of which only duplicates came."""
    if rows:
        await conn.execute(_TOUCH, *columns(rows, TouchRow))


async def bury(conn: Connection, rows: Sequence[DeadRow]) -> None:
    """Keep refused events."""
    if rows:
        await conn.execute(_DEAD, *columns(rows, DeadRow))


async def add_verdicts(conn: Connection, rows: Sequence[VerdictRow]) -> None:
    """Append verdicts; the caller left out what is applied already, so COPY repeats nothing."""
    if rows:
        await conn.copy_records_to_table("verdicts", records=rows, columns=_VERDICT_COLUMNS)


async def rebuild(conn: Connection, partition: int, held_since: datetime) -> list["asyncpg.Record"]:
    """(identity, state, pulse) of every alert that fires or was seen after `held_since`."""
    return await conn.fetch(_REBUILD, partition, held_since)


async def recent_events(conn: Connection, partition: int, since: datetime) -> list["asyncpg.Record"]:
    """(log_id, decided_at, offset, identity, event_ids) of the verdicts after `since`."""
    return await conn.fetch(_RECENT, partition, since)
