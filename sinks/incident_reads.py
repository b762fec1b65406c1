"""What is read about incidents: lists, one incident, its timeline and its notices. Nothing is written here."""

import base64
import binascii
import uuid
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

import msgspec

from streams.records import IncidentStatus, Kind, Severity

if TYPE_CHECKING:
    from asyncpg import Connection, Record
    from asyncpg.pool import PoolConnectionProxy

    Conn = Connection[Record] | PoolConnectionProxy[Record]

MAX_PAGE: Final = 200
_HEX_DIGITS: Final = 32


class IncidentSort(StrEnum):
    """Orders of the list: worst first, or newest first by one of the times."""

    SEVERITY = "severity"
    UPDATED = "updated"
    CREATED = "created"


class IncidentSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the list. `alerts` counts identities, `firing` those still firing, `events` what they said."""

    id: uuid.UUID
    title: str
    description: str
    severity: Severity
    status: IncidentStatus
    kind: str
    team: str
    created_at: datetime
    updated_at: datetime
    acknowledged_at: datetime | None
    resolved_at: datetime | None
    group_labels: dict[str, str]
    receiver: str
    parent_id: uuid.UUID | None
    predecessor_id: uuid.UUID | None
    reopened: int
    revision: int
    alerts: int
    firing: int
    events: int
    assignee: str
    flapping: int
    snoozed_until: datetime | None


class IncidentLink(msgspec.Struct, frozen=True, kw_only=True):
    """Somewhere to look further, as a person put it there."""

    url: str
    title: str


class Handled(msgspec.Struct, frozen=True, kw_only=True):
    """What people have made of an incident: the column `handling`."""

    labels: dict[str, str] = {}
    links: list[IncidentLink] = []
    severity: Severity | None = None
    snoozed_until: datetime | None = None
    acknowledged_by: str = ""
    resolved_by: str = ""
    rule: str = ""
    by_hand: bool = False


class Relative(msgspec.Struct, frozen=True, kw_only=True):
    """An incident that speaks for another, or that another speaks for; `rule` is what put it there, if one did."""

    id: uuid.UUID
    title: str
    status: IncidentStatus
    severity: Severity
    rule: str = ""


class IncidentPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of the list; `next` asks for the following one and is absent on the last."""

    items: list[IncidentSummary]
    next: str | None = None


class TimelineEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened to an incident."""

    seq: int
    at: datetime
    event: str
    actor: str
    detail: dict[str, Any]


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One notice to one target; `target` is shown without what may be secret in it."""

    id: uuid.UUID
    decision: int
    receiver: str
    channel: str
    target: str
    reason: str
    state: str
    attempts: int
    due_at: datetime
    created_at: datetime
    finished_at: datetime | None
    last_reason: str
    last_detail: str


class IdRange(NamedTuple):
    """Every id from `first` to `last`."""

    first: uuid.UUID
    last: uuid.UUID

    @classmethod
    def starting_with(cls, text: str) -> "IdRange":
        """The ids that begin so; hyphens may be left out.

        Raises:
            ValueError: no id begins so.
        """
        digits = text.replace("-", "").lower()
        if not 0 < len(digits) <= _HEX_DIGITS or not set(digits) <= set("0123456789abcdef"):
            raise ValueError(text)
        return cls(uuid.UUID(digits.ljust(_HEX_DIGITS, "0")), uuid.UUID(digits.ljust(_HEX_DIGITS, "f")))


class IncidentFilter(msgspec.Struct, frozen=True, kw_only=True):
    """What the list is narrowed to; None or empty means everything. Every word of `text` must be found."""

    status: tuple[IncidentStatus, ...] = ()
    severity: tuple[Severity, ...] = ()
    kind: tuple[Kind, ...] = ()
    teams: list[str] | None = None
    text: str = ""
    ids: "IdRange | None" = None
    assignee: str | None = None


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """The last line of a page: where the next one goes on."""

    sort: IncidentSort
    rank: int
    at: datetime
    id: uuid.UUID


class CursorError(ValueError):
    """Raised for a cursor that this list did not give."""


# A page of incidents that pass the filter, with counts through their links, in the order of $6.
_LIST: Final = """
WITH ranked AS (
    SELECT i.id,
           CASE WHEN $6 = 'severity'
                THEN array_position(ARRAY['critical', 'error', 'warning', 'info', 'unknown'], i.severity::text)
                ELSE 0 END AS rank,
           CASE WHEN $6 = 'created' THEN i.created_at ELSE i.updated_at END AS at
      FROM incidents i
     WHERE i.route <> '(canary)' AND ($1::text[] IS NULL OR i.status = ANY ($1))
       AND ($2::text[] IS NULL OR i.severity = ANY ($2))
       AND ($3::text[] IS NULL OR i.kind = ANY ($3))
       AND ($4::text[] IS NULL OR i.team = ANY ($4))
       AND ($11::uuid IS NULL OR i.id BETWEEN $11 AND $12)
       AND ($13::text IS NULL OR i.assignee = $13)
       AND ($5::text[] IS NULL
            OR concat_ws(' ', i.title, i.description, i.kind, i.group_labels::text, i.id::text) ILIKE ALL ($5)
            OR EXISTS (SELECT 1
                         FROM incident_alerts l
                         JOIN alerts a USING (identity, occurrence)
                        WHERE l.incident_id = i.id
                          AND concat_ws(' ', a.summary, a.labels::text, a.fingerprint) ILIKE ALL ($5)))
), page AS (
    SELECT * FROM ranked
     WHERE $7::int IS NULL OR rank > $7 OR (rank = $7 AND (at < $8 OR (at = $8 AND id > $9)))
     ORDER BY rank, at DESC, id
     LIMIT $10
)
SELECT i.*, (i.handling ->> 'snoozed_until')::timestamptz AS snoozed_until, c.*, page.rank, page.at
  FROM page
  JOIN incidents i USING (id)
 CROSS JOIN LATERAL (
    SELECT count(DISTINCT l.identity) AS alerts,
           count(DISTINCT l.identity) FILTER (WHERE l.firing) AS firing,
           coalesce(sum(a.event_count), 0)::bigint AS events
      FROM incident_alerts l LEFT JOIN alerts a USING (identity, occurrence)
     WHERE l.incident_id = i.id) c
 ORDER BY page.rank, page.at DESC, page.id
"""

# Incidents by id, with the same counts.
_BY_ID: Final = """
SELECT i.*, (i.handling ->> 'snoozed_until')::timestamptz AS snoozed_until, c.*
  FROM incidents i
 CROSS JOIN LATERAL (
    SELECT count(DISTINCT l.identity) AS alerts,
           count(DISTINCT l.identity) FILTER (WHERE l.firing) AS firing,
           coalesce(sum(a.event_count), 0)::bigint AS events
      FROM incident_alerts l LEFT JOIN alerts a USING (identity, occurrence)
     WHERE l.incident_id = i.id) c
 WHERE i.id = ANY ($1::uuid[])
"""

# Which incidents were committed since a moment: their versions only, oldest first.
_CHANGED: Final = """
SELECT id, revision, committed_at FROM incidents
WHERE committed_at > $1 AND route <> '(canary)' ORDER BY committed_at LIMIT $2
"""

# What happened to one incident, in order, after a sequence number.
_TIMELINE: Final = """
SELECT seq, at, event, actor, detail FROM timeline WHERE incident_id = $1 AND seq > $2 ORDER BY seq LIMIT $3
"""

# The end of one incident's timeline before a sequence number, newest first.
_TIMELINE_BEFORE: Final = """
SELECT seq, at, event, actor, detail FROM timeline WHERE incident_id = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3
"""

# The notices of one incident, newest first.
_NOTICES: Final = """
SELECT id, decision, receiver, channel, target, reason, state, attempts, due_at, created_at, finished_at,
       last_reason, last_detail
  FROM notification_tasks WHERE incident_id = $1 ORDER BY created_at DESC, decision DESC, integration LIMIT $2
"""


# What people have made of one incident, as JSON text.
_HANDLING: Final = "SELECT handling::text FROM incidents WHERE id = $1"

# An incident in short, and those that it speaks for.
_PARENT: Final = """
SELECT id, title, status, severity FROM incidents WHERE id = $1 AND ($2::text[] IS NULL OR team = ANY ($2))
"""
_CHILDREN: Final = """
SELECT id, title, status, severity, coalesce(handling ->> 'rule', '') AS rule
  FROM incidents WHERE parent_id = $1 AND ($3::text[] IS NULL OR team = ANY ($3))
ORDER BY created_at, id LIMIT $2
"""


async def handling_of(conn: "Conn", incident_id: uuid.UUID) -> Handled:
    """What people have made of one incident."""
    text = await conn.fetchval(_HANDLING, incident_id)
    return msgspec.json.decode(text, type=Handled) if text else Handled()


async def relatives_of(
    conn: "Conn", incident_id: uuid.UUID, parent_id: uuid.UUID | None, teams: list[str] | None
) -> tuple[list[Relative], list[Relative]]:
    """The incident that speaks for this one, if there is one, and those that this one speaks for: of these teams."""
    parents = await conn.fetch(_PARENT, parent_id, teams) if parent_id is not None else []
    children = await conn.fetch(_CHILDREN, incident_id, MAX_PAGE, teams)
    return [Relative(**dict(row)) for row in parents], [Relative(**dict(row)) for row in children]


# The encoded state of the group whose newest incident it is.
_GROUP_STATE: Final = """
SELECT g.state FROM incidents i JOIN groups g USING (group_key) WHERE i.id = $1
"""


async def list_incidents(
    conn: "Conn", wanted: IncidentFilter, sort: IncidentSort, after: Cursor | None, limit: int
) -> IncidentPage:
    """One page in the given order, starting after a cursor of the same order."""
    rows = await conn.fetch(
        _LIST,
        list(wanted.status) or None,
        list(wanted.severity) or None,
        list(wanted.kind) or None,
        wanted.teams,
        patterns(wanted.text) or None,
        sort.value,
        after.rank if after else None,
        after.at if after else None,
        after.id if after else None,
        limit + 1,
        wanted.ids.first if wanted.ids else None,
        wanted.ids.last if wanted.ids else None,
        wanted.assignee,
    )
    page = rows[:limit]
    following = None
    if len(rows) > limit:
        last = page[-1]
        following = encode_cursor(Cursor(sort, last["rank"], last["at"], last["id"]))
    return IncidentPage(items=[_summary(row) for row in page], next=following)


async def incidents_by_id(conn: "Conn", ids: list[uuid.UUID]) -> list[IncidentSummary]:
    """Those of the ids that exist."""
    return [_summary(row) for row in await conn.fetch(_BY_ID, ids)]


async def changed_since(conn: "Conn", since: datetime, limit: int) -> list[tuple[uuid.UUID, int, datetime]]:
    """(id, revision, committed_at) of incidents committed after `since`, oldest first."""
    rows = await conn.fetch(_CHANGED, since, limit)
    return [(row["id"], row["revision"], row["committed_at"]) for row in rows]


async def timeline_of(conn: "Conn", incident_id: uuid.UUID, after: int, limit: int) -> list[TimelineEntry]:
    """The timeline after a sequence number (0: from the start)."""
    rows = await conn.fetch(_TIMELINE, incident_id, after, limit)
    return [TimelineEntry(**dict(row)) for row in rows]


async def timeline_before(conn: "Conn", incident_id: uuid.UUID, before: int, limit: int) -> list[TimelineEntry]:
    """The last entries before a sequence number, in order."""
    rows = await conn.fetch(_TIMELINE_BEFORE, incident_id, before, limit)
    return [TimelineEntry(**dict(row)) for row in reversed(rows)]


async def notices_of(conn: "Conn", incident_id: uuid.UUID, limit: int) -> list[Notice]:
    """Notices, newest first."""
    rows = await conn.fetch(_NOTICES, incident_id, limit)
    return [Notice(**{**dict(row), "target": shown_target(row["target"])}) for row in rows]


async def group_state_of(conn: "Conn", incident_id: uuid.UUID) -> bytes | None:
    """The encoded state of an incident's group, which may have a newer incident; None once it is forgotten."""
    state: bytes | None = await conn.fetchval(_GROUP_STATE, incident_id)
    return state


def patterns(text: str) -> list[str]:
    """One ILIKE pattern a word, with LIKE's own signs taken literally."""
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return [f"%{word}%" for word in escaped.split()]


def shown_target(target: str) -> str:
    """The target's host alone when it is a URL: paths and credentials of webhooks are often secrets."""
    parts = urlsplit(target) if "://" in target else None
    if parts is None or not parts.hostname:
        return target
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}"


def encode_cursor(cursor: Cursor) -> str:
    """The cursor as one URL-safe word."""
    return base64.urlsafe_b64encode(msgspec.json.encode(cursor)).decode().rstrip("=")


def decode_cursor(text: str, sort: IncidentSort) -> Cursor:
    """Read a cursor back.

    Raises:
        CursorError: it is not one, or belongs to another order.
    """
    try:
        cursor = msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=Cursor)
    except (binascii.Error, ValueError) as error:
        raise CursorError("it is not a cursor of this list") from error
    if cursor.sort != sort:
        raise CursorError(f"it belongs to the order {cursor.sort.value}")
    return cursor


def _summary(row: "Record") -> IncidentSummary:
    return IncidentSummary(**{name: row[name] for name in IncidentSummary.__struct_fields__})
