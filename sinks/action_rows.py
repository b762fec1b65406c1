"""What became of each action on an incident: one row by the action's id, written with what it changed."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from sinks.alert_rows import columns
from sinks.incident_rows import TimelineRow

if TYPE_CHECKING:
    from asyncpg import Connection, Record
    from asyncpg.pool import PoolConnectionProxy

    Conn = Connection[Record] | PoolConnectionProxy[Record]

# Adds what became of actions; one that is there was done before.
_INSERT: Final = """
INSERT INTO actions (id, incident_id, group_key, team, actor, action, outcome, reason, asked_at, decided_at)
SELECT id::uuid, incident_id::uuid, group_key, team, actor, action, outcome, reason, asked_at, decided_at
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
    $9::timestamptz[], $10::timestamptz[])
    AS new(id, incident_id, group_key, team, actor, action, outcome, reason, asked_at, decided_at)
ON CONFLICT DO NOTHING
RETURNING id::text
"""

# Blanks one line: what it says goes, and that it said something stays.
_BLANK_LINE: Final = "SELECT redact_line($1::text::uuid, $2)"

# Blanks a field wherever the timeline tells of it, and where a line says the same in a summary.
_BLANK_FIELD: Final = "SELECT redact_field($1::text::uuid, $2, $3)"

# Whether a timeline has a line of this number.
_HAS_LINE: Final = "SELECT EXISTS (SELECT 1 FROM timeline WHERE incident_id = $1 AND seq = $2)"

# The last line of each of some incidents' timelines.
_LAST_LINES: Final = """
SELECT incident_id::text, max(seq) AS seq FROM timeline WHERE incident_id = ANY($1::text[]::uuid[]) GROUP BY 1
"""

# What became of one action.
_OUTCOME: Final = "SELECT incident_id, action, outcome, reason FROM actions WHERE id = $1"

# Where an action on an incident is to go, and what it would find.
_TARGET: Final = """
SELECT id, team, group_key, status, revision, parent_id FROM incidents WHERE id = $1
"""


@dataclass(slots=True)
class ActionRow:
    """One row of `actions`."""

    id: str
    incident_id: str
    group_key: str
    team: str
    actor: str
    action: str
    outcome: str
    reason: str
    asked_at: datetime
    decided_at: datetime


@dataclass(slots=True)
class Redaction:
    """What is to be blanked in a timeline: a field of the incident that said `old`, or the line `seq`."""

    incident_id: str
    field: str
    seq: int
    old: str


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one action; a `reason` where it was refused."""

    incident_id: uuid.UUID
    action: str
    outcome: str
    reason: str


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """An incident as an action on it needs to know it."""

    id: uuid.UUID
    team: str
    group_key: str
    status: str
    revision: int
    parent_id: uuid.UUID | None


async def write(conn: "Conn", rows: Sequence[ActionRow]) -> set[str]:
    """Add rows; the ids of those that are new."""
    if not rows:
        return set()
    return {row["id"] for row in await conn.fetch(_INSERT, *columns(rows, ActionRow))}


async def at_the_end(conn: "Conn", lines: Sequence[TimelineRow]) -> list[TimelineRow]:
    """Lines for incidents that no group holds any more, each after all that its timeline has: no two share a place."""
    if not lines:
        return []
    rows = await conn.fetch(_LAST_LINES, list({line.incident_id for line in lines}))
    last = {row["incident_id"]: int(row["seq"]) for row in rows}
    placed: list[TimelineRow] = []
    for line in lines:
        last[line.incident_id] = max(line.seq, last.get(line.incident_id, -1) + 1)
        placed.append(replace(line, seq=last[line.incident_id]))
    return placed


async def outcome(conn: "Conn", action_id: uuid.UUID) -> Outcome | None:
    """What became of an action; None while nothing has."""
    row = await conn.fetchrow(_OUTCOME, action_id)
    return Outcome(**dict(row)) if row is not None else None


async def target(conn: "Conn", incident_id: uuid.UUID) -> Target | None:
    """An incident, if there is one of that id."""
    row = await conn.fetchrow(_TARGET, incident_id)
    return Target(**dict(row)) if row is not None else None


async def redact(conn: "Conn", redactions: Sequence[Redaction]) -> None:
    """Blank lines of timelines."""
    for one in redactions:
        if one.field:
            await conn.execute(_BLANK_FIELD, one.incident_id, one.field, one.old)
        else:
            await conn.execute(_BLANK_LINE, one.incident_id, one.seq)


async def has_line(conn: "Conn", incident_id: uuid.UUID, seq: int) -> bool:
    """Whether the incident's timeline has such a line."""
    return bool(await conn.fetchval(_HAS_LINE, incident_id, seq))
