"""Rows of what people work on: incidents, their links, timeline, decisions and groups."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg

from sinks.alert_rows import columns
from sinks.postgres import Connection, at_once, streamed

# Writes incidents whole; an older revision never replaces a newer one.
_UPSERT: Final = """
INSERT INTO incidents AS mine (id, title, description, severity, status, created_at, updated_at, team, kind,
    predecessor_id, group_key, group_labels, route, receiver, partition, revision, reopened, acknowledged_at,
    resolved_at, flapping, parent_id, handling)
SELECT id::uuid, title, description, severity, status, created_at, updated_at, team, kind,
    nullif(predecessor_id, '')::uuid, group_key, group_labels::jsonb, route, receiver, partition, revision, reopened,
    acknowledged_at, resolved_at, flapping, nullif(parent_id, '')::uuid, handling::jsonb
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::timestamptz[],
    $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::int[],
    $16::bigint[], $17::int[], $18::timestamptz[], $19::timestamptz[], $20::int[], $21::text[], $22::text[])
    AS new(id, title, description, severity, status, created_at, updated_at, team, kind, predecessor_id, group_key,
    group_labels, route, receiver, partition, revision, reopened, acknowledged_at, resolved_at, flapping, parent_id,
    handling)
ON CONFLICT (id) DO UPDATE SET
    title = excluded.title, description = excluded.description, severity = excluded.severity,
    status = excluded.status, updated_at = excluded.updated_at, kind = excluded.kind, route = excluded.route,
    receiver = excluded.receiver, revision = excluded.revision, reopened = excluded.reopened,
    acknowledged_at = excluded.acknowledged_at, resolved_at = excluded.resolved_at, flapping = excluded.flapping,
    parent_id = excluded.parent_id, handling = excluded.handling, committed_at = clock_timestamp()
WHERE mine.revision < excluded.revision
"""

# One step's rows. Links come last: their clock is what latency is measured by. Older
# revisions replace nothing, and a timeline line that is there stays as it is.
_WRITE: Final = (
    f"WITH people_see AS ({_UPSERT}"  # noqa: S608 - two constants
    """), kept AS (
    INSERT INTO groups AS mine (group_key, partition, team, route, labels, revision, state, updated_at)
    SELECT group_key, partition, team, route, labels::jsonb, revision, state, updated_at
    FROM unnest($23::text[], $24::int[], $25::text[], $26::text[], $27::text[], $28::bigint[], $29::bytea[],
        $30::timestamptz[])
        AS new(group_key, partition, team, route, labels, revision, state, updated_at)
    ON CONFLICT (group_key) DO UPDATE SET
        route = excluded.route, revision = excluded.revision, state = excluded.state, updated_at = excluded.updated_at
    WHERE mine.revision < excluded.revision
), told AS (
    INSERT INTO timeline (incident_id, seq, at, event, actor, detail)
    SELECT incident_id::uuid, seq, at, event, actor, detail::jsonb
    FROM unnest($31::text[], $32::bigint[], $33::timestamptz[], $34::text[], $35::text[], $36::text[])
        AS new(incident_id, seq, at, event, actor, detail)
    ON CONFLICT DO NOTHING
), decided AS (
    INSERT INTO decisions (group_key, seq, incident_id, identity, decision, reason, detail, decided_at)
    SELECT group_key, seq, incident_id::uuid, identity, decision, reason, detail::jsonb, decided_at
    FROM unnest($37::text[], $38::bigint[], $39::text[], $40::text[], $41::text[], $42::text[], $43::text[],
        $44::timestamptz[])
        AS new(group_key, seq, incident_id, identity, decision, reason, detail, decided_at)
)
INSERT INTO incident_alerts AS mine (incident_id, identity, occurrence, group_key, partition, firing, revision,
    joined_at, ended_at, state)
SELECT incident_id::uuid, identity, occurrence, group_key, partition, firing, revision, joined_at, ended_at, state
FROM unnest($45::text[], $46::text[], $47::bigint[], $48::text[], $49::int[], $50::bool[], $51::bigint[],
    $52::timestamptz[],
    $53::timestamptz[], $54::bytea[])
    AS new(incident_id, identity, occurrence, group_key, partition, firing, revision, joined_at, ended_at, state)
ON CONFLICT (incident_id, identity, occurrence) DO UPDATE SET
    firing = excluded.firing, revision = excluded.revision, ended_at = excluded.ended_at, state = excluded.state
WHERE mine.revision <= excluded.revision
"""
)

# The same, together with the progress rows of the step.
AT_ONCE: Final = at_once(_WRITE)

_CLOSED: Final = frozenset({"resolved", "merged"})

_FORGET_GROUPS: Final = "DELETE FROM groups WHERE group_key = ANY($1::text[])"

# The group states of a partition.
_REBUILD_GROUPS: Final = "SELECT group_key, state FROM groups WHERE partition = $1"

# The members that the groups of a partition hold.
_REBUILD_MEMBERS: Final = """
SELECT group_key, identity, state FROM incident_alerts WHERE partition = $1 AND state IS NOT NULL
"""


@dataclass(slots=True)
class DecisionRow:
    """One row of `decisions`; `detail` is JSON."""

    group_key: str
    seq: int
    incident_id: str
    identity: str | None
    decision: str
    reason: str
    detail: str
    decided_at: datetime


@dataclass(slots=True)
class IncidentRow:
    """One row of `incidents`."""

    id: str
    title: str
    description: str
    severity: str
    status: str
    created_at: datetime
    updated_at: datetime
    team: str
    kind: str
    predecessor_id: str
    group_key: str
    group_labels: str
    route: str
    receiver: str
    partition: int
    revision: int
    reopened: int
    acknowledged_at: datetime | None
    resolved_at: datetime | None
    flapping: int = 0
    parent_id: str = ""
    handling: str | None = None


@dataclass(slots=True)
class LinkRow:
    """One row of `incident_alerts`; `state` is None once the alert is no member any more."""

    incident_id: str
    identity: str
    occurrence: int
    group_key: str
    partition: int
    firing: bool
    revision: int
    joined_at: datetime
    ended_at: datetime | None
    state: bytes | None


@dataclass(slots=True)
class TimelineRow:
    """One line of an incident's story; `seq` orders it and makes writing it twice harmless."""

    incident_id: str
    seq: int
    at: datetime
    event: str
    actor: str
    detail: str


@dataclass(slots=True)
class GroupRow:
    """One group's table value."""

    group_key: str
    partition: int
    team: str
    route: str
    labels: str
    revision: int
    state: bytes
    updated_at: datetime


async def upsert(conn: Connection, rows: Sequence[IncidentRow]) -> None:
    """Write incidents alone: those that end before those that open, as one group may have one of each."""
    ended = [row for row in rows if row.status in _CLOSED]
    open_ones = [row for row in rows if row.status not in _CLOSED]
    for part in (ended, open_ones):
        if part:
            await conn.execute(_UPSERT, *columns(part, IncidentRow))


async def write(
    conn: Connection,
    incidents: Sequence[IncidentRow],
    groups: Sequence[GroupRow],
    timeline: Sequence[TimelineRow],
    decisions: Sequence[DecisionRow],
    links: Sequence[LinkRow],
) -> None:
    """Write a step's rows in one round trip; no group may have two of the incidents."""
    if incidents or groups or timeline or decisions or links:
        await conn.execute(_WRITE, *arguments(incidents, groups, timeline, decisions, links))


def arguments(
    incidents: Sequence[IncidentRow],
    groups: Sequence[GroupRow],
    timeline: Sequence[TimelineRow],
    decisions: Sequence[DecisionRow],
    links: Sequence[LinkRow],
) -> list[list[object]]:
    """The parameters of `write` and, after those of the progress rows, of `AT_ONCE`."""
    kinds = (IncidentRow, GroupRow, TimelineRow, DecisionRow, LinkRow)
    rows = (incidents, groups, timeline, decisions, links)
    return [column for part, kind in zip(rows, kinds, strict=True) for column in columns(part, kind)]


async def forget_groups(conn: Connection, gone: Sequence[str]) -> None:
    """Drop groups that are gone."""
    if gone:
        await conn.execute(_FORGET_GROUPS, list(gone))


def rebuild_groups(conn: Connection, partition: int) -> AsyncIterator[list["asyncpg.Record"]]:
    """(group_key, state) of every group of a partition."""
    return streamed(conn, _REBUILD_GROUPS, partition)


def rebuild_members(conn: Connection, partition: int) -> AsyncIterator[list["asyncpg.Record"]]:
    """(group_key, identity, state) of every member of a partition's groups."""
    return streamed(conn, _REBUILD_MEMBERS, partition)
