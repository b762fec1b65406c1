"""Rows of silences: the silences themselves, who changed them, and which partition has heard of what."""

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec

from streams import codec
from streams.records import Silence

if TYPE_CHECKING:
    from asyncpg import Connection, Record
    from asyncpg.pool import PoolConnectionProxy

    Conn = Connection[Record] | PoolConnectionProxy[Record]

RETENTION: Final = timedelta(hours=120)
"""How long a silence that is over is listed, as Alertmanager does."""

# The next places in the directory; whoever asks keeps others out until its transaction ends.
_TAKE: Final = "UPDATE directory SET sequence = sequence + $1 RETURNING sequence - $1"

_PUT: Final = """
INSERT INTO silences AS mine (id, sequence, team, matchers, starts_at, ends_at, recurrence, created_by, comment,
    annotations, remind_before, remind_to, replaces, updated_at, state)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
ON CONFLICT (id) DO UPDATE SET sequence = excluded.sequence, matchers = excluded.matchers,
    starts_at = excluded.starts_at, ends_at = excluded.ends_at, recurrence = excluded.recurrence,
    created_by = excluded.created_by, comment = excluded.comment, annotations = excluded.annotations,
    remind_before = excluded.remind_before, remind_to = excluded.remind_to, updated_at = excluded.updated_at,
    state = excluded.state
"""

_AUDIT: Final = """
INSERT INTO silence_audit (silence_id, at, actor, action, before, after) VALUES ($1, $2, $3, $4, $5, $6)
"""

_COLUMNS: Final = """
SELECT id, recurrence, annotations, remind_before, replaces, created_at, updated_at, state FROM silences
"""

_BY_ID: Final = f"{_COLUMNS} WHERE id = $1"

_BY_IDS: Final = "SELECT state FROM silences WHERE id = ANY ($1::uuid[])"

# Silences that are not over, and those that ended after a moment, latest end first, after a place in that order.
_LIST: Final = f"""{_COLUMNS} WHERE ends_at >= $1
    AND ($3::timestamptz IS NULL OR ends_at < $3 OR (ends_at = $3 AND id > $4::uuid))
ORDER BY ends_at DESC, id LIMIT $2"""

# Silences that are on, or will be.
_LIVE: Final = "SELECT state FROM silences WHERE ends_at > $1"

_STORY: Final = """
SELECT seq, at, actor, action, before, after FROM silence_audit WHERE silence_id = $1 ORDER BY seq
"""

# What changed after a place in the directory, in order.
_SINCE: Final = "SELECT state FROM silences WHERE sequence > $1 AND sequence <= $2 ORDER BY sequence LIMIT $3"

# The end of the directory, and how far each partition that a worker has taken has applied it.
_APPLIED: Final = """
SELECT d.sequence AS last, p.partition, coalesce(r.revision, 0) AS applied
FROM directory d
LEFT JOIN stream_progress p
    ON p.topic = $1 AND p.log_id = (SELECT log_id FROM log_lives ORDER BY accepted_at DESC LIMIT 1)
LEFT JOIN partition_rules r ON r.partition = p.partition AND r.key = 'directory'
"""

_LAST: Final = "SELECT sequence FROM directory"

_silence = msgspec.msgpack.Decoder(Silence)


class Recurrence(msgspec.Struct, frozen=True, kw_only=True):
    """When it comes back: an RFC 5545 rule such as FREQ=WEEKLY;BYDAY=SU, read in a time zone, until a moment."""

    rule: str
    zone: str = "UTC"
    until: datetime


class StoredSilence(msgspec.Struct, frozen=True, kw_only=True):
    """One silence with what only people need to know of it."""

    silence: Silence
    updated_at: datetime
    annotations: dict[str, str] = {}
    recurrence: Recurrence | None = None
    remind_before: timedelta | None = None
    replaces: uuid.UUID | None = None
    created_at: datetime | None = None


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One change: who did what when, and the silence before and after."""

    seq: int
    at: datetime
    actor: str
    action: str
    before: dict[str, Any] | None
    after: dict[str, Any]


class Applied(msgspec.Struct, frozen=True):
    """The end of the directory, and (partition, place applied) of those that are behind it."""

    last: int
    behind: tuple[tuple[int, int], ...]


async def take(conn: "Conn", places: int) -> int:
    """The place before the next `places` ones, which are the caller's until its transaction ends."""
    found: int = await conn.fetchval(_TAKE, places)
    return found


async def last(conn: "Conn") -> int:
    """The place of the latest change."""
    found: int = await conn.fetchval(_LAST)
    return found


async def put(conn: "Conn", stored: StoredSilence) -> None:
    """Write one silence whole."""
    silence = stored.silence
    await conn.execute(
        _PUT,
        uuid.UUID(silence.id),
        silence.sequence,
        silence.team,
        matchers_of(silence),
        silence.windows[0][0],
        silence.windows[-1][1],
        stored.recurrence,
        silence.created_by,
        silence.comment,
        stored.annotations,
        stored.remind_before,
        silence.remind_to,
        stored.replaces,
        stored.updated_at,
        codec.encode(silence),
    )


async def audit(
    conn: "Conn", action: str, actor: str, before: StoredSilence | None, after: StoredSilence, at: datetime
) -> None:
    """Add who did what."""
    was = told(before) if before is not None else None
    await conn.execute(_AUDIT, uuid.UUID(after.silence.id), at, actor, action, was, told(after))


def told(stored: StoredSilence) -> dict[str, Any]:
    """A silence as the audit keeps it."""
    silence = stored.silence
    said = {
        "matchers": matchers_of(silence),
        "starts_at": silence.windows[0][0],
        "ends_at": silence.windows[-1][1],
        "created_by": silence.created_by,
        "comment": silence.comment,
        "annotations": stored.annotations,
        "recurrence": stored.recurrence,
        "remind_before": stored.remind_before.total_seconds() if stored.remind_before else None,
        "remind_to": silence.remind_to,
    }
    found: dict[str, Any] = msgspec.to_builtins(said)
    return found


def matchers_of(silence: Silence) -> list[list[dict[str, str]]]:
    """Alternatives of matchers, readable."""
    return [[{"name": name, "op": op, "value": value} for name, op, value in one] for one in silence.sets]


async def by_id(conn: "Conn", silence_id: uuid.UUID) -> StoredSilence | None:
    """One silence, None if there is none."""
    row = await conn.fetchrow(_BY_ID, silence_id)
    return _stored(row) if row is not None else None


async def by_ids(conn: "Conn", ids: Sequence[uuid.UUID]) -> list[Silence]:
    """Those of the ids that exist."""
    return [_silence.decode(row["state"]) for row in await conn.fetch(_BY_IDS, list(ids))]


async def listed(
    conn: "Conn", ended_after: datetime, limit: int, place: tuple[datetime, uuid.UUID] | None = None
) -> list[StoredSilence]:
    """Silences that are on, to come, or over since `ended_after`; latest end first, after a place (end, id)."""
    return [_stored(row) for row in await conn.fetch(_LIST, ended_after, limit, *(place or (None, None)))]


async def live(conn: "Conn", now: datetime) -> list[Silence]:
    """Silences that are on, or will be."""
    return [_silence.decode(row["state"]) for row in await conn.fetch(_LIVE, now)]


async def story(conn: "Conn", silence_id: uuid.UUID) -> list[AuditEntry]:
    """Every change of one silence, in order."""
    return [AuditEntry(**dict(row)) for row in await conn.fetch(_STORY, silence_id)]


async def since(conn: "Conn", after: int, upto: int, limit: int) -> list[Silence]:
    """What changed after a place and up to another one, in order, at most `limit`."""
    return [_silence.decode(row["state"]) for row in await conn.fetch(_SINCE, after, upto, limit)]


async def applied(conn: "Conn", topic: str) -> Applied:
    """How far the partitions of `topic` are."""
    rows: Sequence[Record] = await conn.fetch(_APPLIED, topic)
    last = rows[0]["last"] if rows else 0
    found = ((row["partition"], row["applied"]) for row in rows if row["partition"] is not None)
    return Applied(last, tuple((number, at) for number, at in found if at < last))


def _stored(row: "Record") -> StoredSilence:
    recurrence = row["recurrence"]
    return StoredSilence(
        silence=_silence.decode(row["state"]),
        updated_at=row["updated_at"],
        annotations=row["annotations"],
        recurrence=msgspec.convert(recurrence, Recurrence) if recurrence is not None else None,
        remind_before=row["remind_before"],
        replaces=row["replaces"],
        created_at=row["created_at"],
    )
