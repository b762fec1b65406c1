"""Rows of `dead_letters`: what people read and drop, and what a step writes when a letter was replayed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

import asyncpg

from sinks.alert_rows import DeadRow, columns, joined
from sinks.postgres import Connection
from streams.records import Verdict

PACKED_ALERT: Final = "application/vnd.incidents.alert"
"""Content type of a body that is one packed `Alert`."""


class LetterState(StrEnum):
    """What became of a dead letter."""

    WAITING = "waiting"
    REPLAYED = "replayed"
    DROPPED = "dropped"


class AlreadyReplayedError(asyncpg.CheckViolationError):
    """Raised for a replay whose letter was replayed before: the step then refuses that one event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """One refused event. `size` is that of the kept body, which is empty here where it was not asked for."""

    event_id: str
    team: str
    source: str
    field: str
    reason: str
    content_type: str
    via: str
    received_at: datetime
    state: LetterState
    changed_at: datetime
    size: int
    body: bytes


@dataclass(frozen=True, slots=True)
class RefusedAgain:
    """Why the replay of a letter was refused."""

    event_id: str
    field: str
    reason: str


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a letter is: it has moved on when `changed_at` has."""

    state: LetterState
    changed_at: datetime
    reason: str


# The newest letters, without their bodies.
_NEWEST: Final = """
SELECT event_id, team, source, field, reason, content_type, via, received_at, state, changed_at,
    octet_length(body) AS size, ''::bytea AS body
FROM dead_letters
WHERE ($1::text IS NULL OR source = $1) AND ($2::text IS NULL OR state = $2)
ORDER BY received_at DESC, event_id DESC LIMIT $3
"""

# The newest letters after a place in their order, narrowed to teams, ids, a source or a state; bodies where asked for.
_PAGE: Final = """
SELECT event_id, team, source, field, reason, content_type, via, received_at, state, changed_at,
    octet_length(body) AS size, CASE WHEN $8 THEN body ELSE ''::bytea END AS body
FROM dead_letters
WHERE ($1::text[] IS NULL OR team = ANY($1)) AND ($2::text[] IS NULL OR event_id = ANY($2))
    AND ($3::text IS NULL OR source = $3) AND ($4::text IS NULL OR state = $4)
    AND ($5::timestamptz IS NULL OR (received_at, event_id) < ($5, $6::text))
ORDER BY received_at DESC, event_id DESC LIMIT $7
"""

# Letters by their ids, with their bodies.
_NAMED: Final = """
SELECT event_id, team, source, field, reason, content_type, via, received_at, state, changed_at,
    octet_length(body) AS size, body
FROM dead_letters WHERE event_id = ANY($1::text[])
"""

# The next waiting letters after a place in their order, with their bodies, up to a time.
_WAITING: Final = """
SELECT event_id, team, source, field, reason, content_type, via, received_at, state, changed_at,
    octet_length(body) AS size, body
FROM dead_letters
WHERE state = 'waiting' AND ($1::text IS NULL OR source = $1) AND received_at <= $2
    AND ($3::timestamptz IS NULL OR (received_at, event_id) > ($3, $4::text))
ORDER BY received_at, event_id LIMIT $5
"""

_COUNT_WAITING: Final = """
SELECT count(*) FROM dead_letters WHERE state = 'waiting' AND ($1::text IS NULL OR source = $1) AND received_at <= $2
"""

_STANDINGS: Final = "SELECT event_id, state, changed_at, reason FROM dead_letters WHERE event_id = ANY($1::text[])"

# Gives letters up, by id.
_DROP: Final = """
UPDATE dead_letters SET state = 'dropped', changed_at = clock_timestamp()
WHERE event_id = ANY($1::text[]) AND state = 'waiting'
"""

# Gives every waiting letter up that came until a time.
_DROP_ALL: Final = """
UPDATE dead_letters SET state = 'dropped', changed_at = clock_timestamp()
WHERE state = 'waiting' AND ($1::text IS NULL OR source = $1) AND received_at <= $2
"""

# The verdicts of replays that were decided since a time.
_VERDICTS: Final = """
SELECT event_ids, verdict FROM verdicts
WHERE decided_at >= $2 AND event_ids && $1::text[] AND verdict <> 'rejected'
"""

# Marks letters whose replay a step took; each can be taken once.
_REPLAYED: Final = """
UPDATE dead_letters SET state = 'replayed', changed_at = clock_timestamp()
WHERE event_id = ANY($1::text[]) AND state <> 'replayed' RETURNING event_id
"""

# Takes one refusal of each event back: the replay's verdict stands in its place.
_UNREJECT: Final = """
WITH old AS MATERIALIZED (
    SELECT DISTINCT ON (event_ids[1]) tableoid AS part, ctid AS place, event_ids[1] AS event_id, events FROM verdicts
    WHERE verdict = 'rejected' AND event_ids[1] = ANY($1::text[])
), fewer AS (
    UPDATE verdicts AS mine SET events = mine.events - 1 FROM old
    WHERE old.events > 1 AND mine.verdict = 'rejected' AND mine.event_ids[1] = old.event_id
        AND mine.tableoid = old.part AND mine.ctid = old.place
)
DELETE FROM verdicts AS mine USING old
WHERE old.events = 1 AND mine.verdict = 'rejected' AND mine.event_ids[1] = old.event_id
    AND mine.tableoid = old.part AND mine.ctid = old.place
"""

# Keeps parts of our own records; what comes again and fails again waits again, with where and why it did last.
_KEEP: Final = """
INSERT INTO dead_letters AS mine (event_id, team, source, field, reason, body, content_type, via, received_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::text[],
    $8::text[], $9::timestamptz[])
ON CONFLICT (event_id) DO UPDATE SET field = excluded.field, reason = excluded.reason, body = excluded.body,
    received_at = excluded.received_at, changed_at = clock_timestamp(),
    state = CASE mine.state WHEN 'replayed' THEN 'waiting' ELSE mine.state END
WHERE mine.source = excluded.source
"""

# Where the letters of one source stood that have waited since a time.
_KEPT_SINCE: Final = """
SELECT field, reason FROM dead_letters WHERE state = 'waiting' AND received_at >= $2 AND source = $1
"""

# Marks a letter as replayed that nobody has touched since it was read.
_SETTLE: Final = """
UPDATE dead_letters SET state = 'replayed', changed_at = clock_timestamp() WHERE event_id = $1 AND changed_at = $2
"""

# Whether the present owner of a partition, on the log that it follows, has come as far as this.
_IS_APPLIED: Final = """
SELECT applied >= $3 FROM stream_progress WHERE topic = $1 AND partition = $2 ORDER BY updated_at DESC LIMIT 1
"""

# Says why letters were refused again; they stay as they are.
_AGAIN: Final = """
UPDATE dead_letters AS mine SET field = new.field, reason = new.reason, changed_at = clock_timestamp()
FROM unnest($1::text[], $2::text[], $3::text[]) AS new(event_id, field, reason)
WHERE mine.event_id = new.event_id AND mine.state <> 'replayed'
"""


async def newest(conn: Connection, *, source: str | None, state: LetterState | None, limit: int) -> list[Letter]:
    """The newest letters first, without their bodies."""
    return _letters(await conn.fetch(_NEWEST, source, state, limit))


async def page(
    conn: Connection,
    *,
    teams: Sequence[str] | None,
    event_ids: Sequence[str] | None,
    source: str | None,
    state: LetterState | None,
    after: tuple[datetime, str] | None,
    limit: int,
    with_bodies: bool,
) -> list[Letter]:
    """The newest letters after a place, of these teams (None: all), ids, source and state."""
    at, event_id = after or (None, None)
    return _letters(await conn.fetch(_PAGE, teams, event_ids, source, state, at, event_id, limit, with_bodies))


async def named(conn: Connection, event_ids: Sequence[str]) -> dict[str, Letter]:
    """The letters that there are of these ids, in the order of the ids."""
    found = {letter.event_id: letter for letter in _letters(await conn.fetch(_NAMED, list(event_ids)))}
    return {event_id: found[event_id] for event_id in event_ids if event_id in found}


async def waiting(
    conn: Connection, *, source: str | None, until: datetime, after: Letter | None, limit: int
) -> list[Letter]:
    """The next letters that wait, oldest first, none that came after `until`."""
    at, event_id = (None, None) if after is None else (after.received_at, after.event_id)
    return _letters(await conn.fetch(_WAITING, source, until, at, event_id, limit))


async def count_waiting(conn: Connection, *, source: str | None, until: datetime) -> int:
    """How many letters wait that came until then."""
    count: int = await conn.fetchval(_COUNT_WAITING, source, until)
    return count


async def standings(conn: Connection, event_ids: Iterable[str]) -> dict[str, Standing]:
    """How far each of these letters is."""
    rows = await conn.fetch(_STANDINGS, list(event_ids))
    return {row["event_id"]: Standing(LetterState(row["state"]), row["changed_at"], row["reason"]) for row in rows}


async def verdicts(conn: Connection, event_ids: Iterable[str], *, since: datetime) -> Mapping[str, Verdict]:
    """The verdict on each of these events that was decided since then."""
    rows = await conn.fetch(_VERDICTS, list(event_ids), since)
    return {event_id: Verdict(row["verdict"]) for row in rows for event_id in row["event_ids"]}


async def keep(conn: Connection, rows: Sequence[DeadRow]) -> None:
    """Keep parts of our own records, each of another event id, that could not be handled."""
    if rows:
        await conn.execute(_KEEP, *columns(rows, DeadRow))


async def settle_as_it_was(conn: Connection, letter: Letter) -> bool:
    """Mark a letter as replayed; False where it has changed since."""
    return _count(await conn.execute(_SETTLE, letter.event_id, letter.changed_at)) == 1


async def is_applied(conn: Connection, topic: str, partition: int, offset: int) -> bool:
    """Whether a record has been handled."""
    return bool(await conn.fetchval(_IS_APPLIED, topic, partition, offset))


async def kept_since(conn: Connection, source: str, since: datetime) -> list["asyncpg.Record"]:
    """(field, reason) of the letters of a source that wait since then."""
    return await conn.fetch(_KEPT_SINCE, source, since)


async def drop(conn: Connection, event_ids: Sequence[str]) -> int:
    """Give letters up; how many of them were waiting."""
    return _count(await conn.execute(_DROP, list(event_ids)))


async def drop_all(conn: Connection, *, source: str | None, until: datetime) -> int:
    """Give up every waiting letter that came until then; how many there were."""
    return _count(await conn.execute(_DROP_ALL, source, until))


async def settle(
    conn: Connection, *, replayed: Sequence[str], again: Sequence[RefusedAgain], known: Sequence[str]
) -> None:
    """Write what a step's replays came to, inside its transaction.

    `replayed` take the place of their refusals, `again` stay with a new reason,
    and `known` are given up: their events are known already.

    Raises:
        AlreadyReplayedError: one of `replayed` was replayed before.
    """
    if replayed:
        taken = await conn.fetch(_REPLAYED, list(replayed))
        if len(taken) != len(replayed):
            raise AlreadyReplayedError("its dead letter was replayed before, or is gone")
        await conn.execute(_UNREJECT, [joined([event_id]) for event_id in replayed])
    if again:
        last = {letter.event_id: letter for letter in again}.values()
        await conn.execute(
            _AGAIN, [one.event_id for one in last], [one.field for one in last], [one.reason for one in last]
        )
    if known:
        await conn.execute(_DROP, list(known))


def _letters(rows: Iterable["asyncpg.Record"]) -> list[Letter]:
    return [Letter(**{**dict(row), "state": LetterState(row["state"])}) for row in rows]


def _count(tag: str) -> int:
    return int(tag.rpartition(" ")[2])
