"""Rows of what came in: alerts, verdicts, dead letters. One statement a batch."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg

from sinks.postgres import Connection, at_once, streamed

# One step's rows: alerts whole (an older revision never replaces a newer one), counts of
# alerts of which only duplicates came, and verdicts, which the caller has not written before.
_WRITE: Final = """
WITH whole AS (
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
        annotations = excluded.annotations, links = excluded.links, starts_at = excluded.starts_at,
        ends_at = excluded.ends_at,
        last_seen_at = excluded.last_seen_at, event_count = excluded.event_count, revision = excluded.revision,
        groups = excluded.groups, state = excluded.state, pulse = excluded.pulse, committed_at = clock_timestamp()
    WHERE mine.revision <= excluded.revision
), touched AS (
    UPDATE alerts AS mine SET last_seen_at = new.last_seen_at, event_count = new.event_count, ends_at = new.ends_at,
        pulse = new.pulse
    FROM unnest($24::text[], $25::bigint[], $26::bigint[], $27::timestamptz[], $28::timestamptz[], $29::bigint[],
        $30::bytea[])
        AS new(identity, occurrence, revision, last_seen_at, ends_at, event_count, pulse)
    WHERE mine.identity = new.identity AND mine.occurrence = new.occurrence AND mine.revision <= new.revision
        AND mine.event_count <= new.event_count
)
INSERT INTO verdicts (log_id, partition, "offset", verdict, identity, occurrence, events, event_ids, reason, via,
    accepted_at, decided_at)
SELECT log_id, partition, "offset", verdict, identity, occurrence, events, string_to_array(event_ids, E'\\x1f'),
    reason, via, accepted_at, decided_at
FROM unnest($31::text[], $32::int[], $33::bigint[], $34::text[], $35::text[], $36::bigint[], $37::int[], $38::text[],
    $39::text[], $40::text[], $41::timestamptz[], $42::timestamptz[])
    AS new(log_id, partition, "offset", verdict, identity, occurrence, events, event_ids, reason, via, accepted_at,
    decided_at)
"""

# The same, together with the progress rows of the step.
AT_ONCE: Final = at_once(_WRITE)

# Keeps what was refused; the same event refused again changes nothing.
_DEAD: Final = """
INSERT INTO dead_letters (event_id, team, source, field, reason, body, content_type, via, received_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::text[],
    $8::text[], $9::timestamptz[])
ON CONFLICT (event_id) DO NOTHING
"""

# The newest table values of every alert of a partition that its owner still holds, and of those that the last
# steps wrote: the groups may not have heard of their end.
_REBUILD: Final = """
SELECT DISTINCT ON (identity) identity, state, pulse, status = 'firing' OR last_seen_at > $2 AS held FROM alerts
WHERE partition = $1 AND (status = 'firing' OR last_seen_at > $2 OR committed_at > (
    SELECT max(updated_at) FROM stream_progress WHERE topic = 'alerts' AND partition = $1) - interval '1 minute')
ORDER BY identity, occurrence DESC
"""

# The occurrences of a partition that ended in its last steps.
_ENDED_LAST: Final = """
SELECT identity, state, pulse FROM alerts
WHERE partition = $1 AND status <> 'firing' AND committed_at > (
    SELECT max(updated_at) FROM stream_progress WHERE topic = 'alerts' AND partition = $1) - interval '1 minute'
ORDER BY identity, occurrence
"""

# Replaces table values of rows that nobody has written since they were read.
_REBASE: Final = """
UPDATE alerts AS mine SET pulse = new.pulse
FROM unnest($1::text[], $2::bigint[], $3::bytea[], $4::bytea[]) AS new(identity, occurrence, was, pulse)
WHERE mine.identity = new.identity AND mine.occurrence = new.occurrence AND mine.pulse = new.was
"""

# The event ids that a partition has seen since a time.
_RECENT: Final = """
SELECT log_id, decided_at, "offset", coalesce(identity, '') AS identity, event_ids FROM verdicts
WHERE partition = $1 AND decided_at > $2
"""


# Verdicts of one log on events that were refused, by the events' ids.
_REFUSED: Final = """
SELECT partition, "offset", event_ids[1] AS event_id, reason FROM verdicts
WHERE verdict = 'rejected' AND event_ids[1] = ANY($2::text[]) AND log_id = $1
"""


@dataclass(slots=True)
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


@dataclass(slots=True)
class TouchRow:
    """What duplicates alone change in a row of `alerts`."""

    identity: str
    occurrence: int
    revision: int
    last_seen_at: datetime
    ends_at: datetime | None
    event_count: int
    pulse: bytes


@dataclass(slots=True)
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


@dataclass(slots=True)
class VerdictRow:
    """One row of `verdicts`; `event_ids` are joined by U+001F."""

    log_id: str
    partition: int
    offset: int
    verdict: str
    identity: str | None
    occurrence: int | None
    events: int
    event_ids: str
    reason: str
    via: str
    accepted_at: datetime
    decided_at: datetime


def columns(rows: Sequence[object], record: type) -> list[list[object]]:
    """Rows of one slotted record as one list a column, in the order of its fields."""
    return [[getattr(row, name) for row in rows] for name in record.__slots__]  # type: ignore[attr-defined]


async def write(
    conn: Connection, whole: Sequence[AlertRow], touched: Sequence[TouchRow], verdicts: Sequence[VerdictRow]
) -> None:
    """Write a step's rows in one round trip."""
    if whole or touched or verdicts:
        await conn.execute(_WRITE, *arguments(whole, touched, verdicts))


def arguments(
    whole: Sequence[AlertRow], touched: Sequence[TouchRow], verdicts: Sequence[VerdictRow]
) -> list[list[object]]:
    """The parameters of `write` and, after those of the progress rows, of `AT_ONCE`."""
    return [*columns(whole, AlertRow), *columns(touched, TouchRow), *columns(verdicts, VerdictRow)]


async def bury(conn: Connection, rows: Sequence[DeadRow]) -> None:
    """Keep refused events."""
    if rows:
        await conn.execute(_DEAD, *columns(rows, DeadRow))


async def refused(conn: Connection, log_id: str, event_ids: Sequence[str]) -> list["asyncpg.Record"]:
    """(partition, offset, event_id, reason) of those of the events that were refused on this log."""
    return await conn.fetch(_REFUSED, log_id, list(event_ids)) if event_ids else []


def joined(event_ids: Sequence[str]) -> str:
    """Event ids as one text; the separator inside an id becomes U+FFFD."""
    text = "\x1f".join(event_ids)
    if text.count("\x1f") < max(1, len(event_ids)):
        return text
    return "\x1f".join(event_id.replace("\x1f", "\ufffd") for event_id in event_ids)


def rebuild(conn: Connection, partition: int, held_since: datetime) -> AsyncIterator[list["asyncpg.Record"]]:
    """(identity, state, pulse, held) of every alert that fires, was seen after `held_since`, or was written last."""
    return streamed(conn, _REBUILD, partition, held_since)


def ended_last(conn: Connection, partition: int) -> AsyncIterator[list["asyncpg.Record"]]:
    """(identity, state, pulse) of every occurrence that ended and was written last, each alert's in order."""
    return streamed(conn, _ENDED_LAST, partition)


async def rebase(conn: Connection, pulses: Sequence[tuple[str, int, bytes, bytes]]) -> None:
    """Replace (identity, occurrence, pulse as read) by a new pulse, where the row is as it was read."""
    await conn.execute(_REBASE, *map(list, zip(*pulses, strict=True)))


def recent_events(conn: Connection, partition: int, since: datetime) -> AsyncIterator[list["asyncpg.Record"]]:
    """(log_id, decided_at, offset, identity, event_ids) of the verdicts after `since`, in no order."""
    return streamed(conn, _RECENT, partition, since)
