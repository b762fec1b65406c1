"""Rows of the outbox: notices and the tasks that send them, from made to told.

Times of leases and ends are the database's clock, so that a delivery process
whose own clock is wrong neither steals nor delays; tests pass `now` instead.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import msgspec

from sinks.postgres import Connection

# Adds the alerts of flushes; a notice that is there stays as it is.
_INSERT_NOTICES: Final = """
INSERT INTO notices (id, incident_id, decision, body, created_at)
SELECT id, incident_id, decision, body::jsonb, created_at
FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::text[], $5::timestamptz[])
    AS new(id, incident_id, decision, body, created_at)
ON CONFLICT DO NOTHING
"""

# Adds tasks that are due at their time; one that is there stays as it is.
_INSERT_TASKS: Final = """
INSERT INTO notification_tasks (id, notice_id, incident_id, group_key, team, decision, config_version, receiver,
    integration, channel, target, urgency, reason, due_at, created_at)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::int[], $7::bigint[], $8::text[],
    $9::int[], $10::text[], $11::text[], $12::int[], $13::text[], $14::timestamptz[], $15::timestamptz[])
ON CONFLICT DO NOTHING
"""

# Leases tasks that are due, or whose lease ran out, to one owner. Of one incident
# and target only the earliest unfinished task may go, and of one target and of
# one host only a few at a time, the most urgent first; `ready` asks again for what another owner
# may just have changed.
_CLAIM: Final = """
WITH clock AS MATERIALIZED (SELECT coalesce($2::timestamptz, clock_timestamp()) AS now),
near AS (
    SELECT mine.id, mine.target, split_part(mine.target, '/', 3) AS host, mine.urgency, mine.due_at
    FROM notification_tasks mine, clock
    WHERE ((mine.state = 'due' AND mine.due_at <= clock.now)
            OR (mine.state = 'sending' AND mine.lease_until < clock.now))
        AND ($5::uuid[] IS NULL OR mine.id = ANY($5)) AND mine.id <> ALL($14::uuid[])
        AND mine.target <> ALL($6::text[]) AND split_part(mine.target, '/', 3) <> ALL($10::text[])
        AND NOT EXISTS (
            SELECT FROM notification_tasks earlier
            WHERE earlier.incident_id = mine.incident_id AND earlier.target = mine.target
                AND earlier.state IN ('due', 'sending', 'folded')
                AND (earlier.decision, earlier.receiver, earlier.integration)
                    < (mine.decision, mine.receiver, mine.integration))
    ORDER BY mine.urgency, mine.due_at LIMIT $4 * 8
),
placed AS (SELECT near.*, row_number() OVER (PARTITION BY target ORDER BY urgency, due_at) AS place FROM near),
hosted AS (
    SELECT id, host, row_number() OVER (PARTITION BY host ORDER BY urgency, due_at) AS place
    FROM placed LEFT JOIN unnest($8::text[], $9::int[]) AS known(target, free) USING (target)
    WHERE placed.place <= coalesce(known.free, $7)
),
ready AS (
    SELECT mine.id FROM notification_tasks mine JOIN hosted USING (id)
        LEFT JOIN unnest($12::text[], $13::int[]) AS known(host, free) ON known.host = hosted.host, clock
    WHERE hosted.place <= coalesce(known.free, $11)
        AND ((mine.state = 'due' AND mine.due_at <= clock.now)
            OR (mine.state = 'sending' AND mine.lease_until < clock.now))
    ORDER BY mine.urgency, mine.due_at LIMIT $4
    FOR NO KEY UPDATE OF mine SKIP LOCKED
)
UPDATE notification_tasks AS mine
SET state = 'sending', attempts = mine.attempts + 1, lease_owner = $1, lease_until = clock.now + $3::interval
FROM ready, notices, clock
WHERE mine.id = ready.id AND notices.id = mine.notice_id
RETURNING mine.id, mine.incident_id, mine.group_key, mine.decision, mine.config_version, mine.receiver,
    mine.integration, mine.channel, mine.target, mine.urgency, mine.reason, mine.attempts AS attempt, mine.last_reason,
    mine.created_at, clock.now - mine.created_at AS age, notices.body,
    (SELECT memory FROM channel_memory kept WHERE kept.incident_id = mine.incident_id
        AND kept.receiver = mine.receiver AND kept.integration = mine.integration) AS memory
"""

# Ends tasks for good, unless the lease has passed to another owner meanwhile.
_FINISH: Final = """
UPDATE notification_tasks AS mine
SET state = new.state, last_reason = new.reason, last_detail = new.detail, finished_at = clock_timestamp(),
    lease_owner = NULL, lease_until = NULL
FROM unnest($2::uuid[], $3::int[], $4::text[], $5::text[], $6::text[]) AS new(id, attempt, state, reason, detail)
WHERE mine.id = new.id AND mine.state = 'sending' AND mine.lease_owner = $1 AND mine.attempts = new.attempt
RETURNING mine.id, mine.group_key, mine.decision, mine.receiver, mine.integration, mine.state,
    mine.last_reason AS reason, mine.finished_at
"""

# Puts tasks back, to be due again after a while.
_RETRY: Final = """
UPDATE notification_tasks AS mine
SET state = 'due', last_reason = new.reason, last_detail = new.detail, due_at = clock_timestamp() + new.delay,
    lease_owner = NULL, lease_until = NULL
FROM unnest($2::uuid[], $3::int[], $4::text[], $5::text[], $6::interval[]) AS new(id, attempt, reason, detail, delay)
WHERE mine.id = new.id AND mine.state = 'sending' AND mine.lease_owner = $1 AND mine.attempts = new.attempt
"""

# Gives back tasks that were claimed and never tried; the attempt does not count.
_RELEASE: Final = """
UPDATE notification_tasks AS mine
SET state = 'due', attempts = mine.attempts - 1, lease_owner = NULL, lease_until = NULL
FROM unnest($2::uuid[], $3::int[]) AS new(id, attempt)
WHERE mine.id = new.id AND mine.state = 'sending' AND mine.lease_owner = $1 AND mine.attempts = new.attempt
"""

# Keeps what channels want to know at the next notice of an incident.
_REMEMBER: Final = """
INSERT INTO channel_memory (incident_id, receiver, integration, memory)
SELECT incident_id, receiver, integration, memory::jsonb
FROM unnest($1::uuid[], $2::text[], $3::int[], $4::text[]) AS new(incident_id, receiver, integration, memory)
ON CONFLICT (incident_id, receiver, integration)
    DO UPDATE SET memory = excluded.memory, updated_at = clock_timestamp()
"""

# Keeps tasks that are still being sent, so that a lease need not be as long as the longest send.
_RENEW: Final = """
UPDATE notification_tasks SET lease_until = clock_timestamp() + $2::interval
WHERE id = ANY($3::uuid[]) AND state = 'sending' AND lease_owner = $1
"""

# Puts back tasks that may not be sent yet; the attempt does not count.
_HOLD: Final = """
UPDATE notification_tasks AS mine
SET state = 'due', attempts = mine.attempts - 1, last_reason = 'over_limit', due_at = clock_timestamp() + new.delay,
    lease_owner = NULL, lease_until = NULL
FROM unnest($2::uuid[], $3::int[], $4::interval[]) AS new(id, attempt, delay)
WHERE mine.id = new.id AND mine.state = 'sending' AND mine.lease_owner = $1 AND mine.attempts = new.attempt
"""

# Tasks that ended a while ago and whose group has not applied it, oldest first.
_UNTOLD: Final = """
SELECT id, group_key, decision, receiver, integration, state, last_reason AS reason, finished_at
FROM notification_tasks
WHERE finished_at IS NOT NULL AND NOT told_group
    AND finished_at < coalesce($1::timestamptz, clock_timestamp()) - $2::interval
ORDER BY finished_at LIMIT $3
"""

# Marks tasks whose end their group has applied; part of the step that applied it.
MARK_TOLD: Final = """
UPDATE notification_tasks SET told_group = true
WHERE id = ANY($1::uuid[]) AND finished_at IS NOT NULL AND NOT told_group
"""

# How many tasks are due now, and for how long the oldest has been.
_BACKLOG: Final = """
SELECT count(*) AS due, coalesce(extract(epoch FROM clock_timestamp() - min(due_at)), 0)::float8 AS oldest_seconds
FROM notification_tasks WHERE state IN ('due', 'sending') AND due_at <= clock_timestamp()
"""


@dataclass(frozen=True, slots=True)
class Notice:
    """One row of `notices`; `body` is encoded JSON, see `sinks.message`."""

    id: uuid.UUID
    incident_id: uuid.UUID
    decision: int
    body: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One new row of `notification_tasks`; `decision` counts within the incident.

    Delivery finds the integration, secrets and all, by `config_version`, `receiver` and `integration`. `urgency` is
    0 for a critical incident and 4 for one of unknown severity.
    """

    id: uuid.UUID
    notice_id: uuid.UUID
    incident_id: uuid.UUID
    group_key: str
    team: str
    decision: int
    config_version: int
    receiver: str
    integration: int
    channel: str
    target: str
    urgency: int
    reason: str
    due_at: datetime
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A task leased to this process. `attempt` counts from 1; `age` is since it was made.

    `body` is encoded JSON, see `sinks.message`; `memory` is what the channel kept of the incident's earlier notice;
    `last_reason` is why it was not sent before. A digest has no incident.
    """

    id: uuid.UUID
    incident_id: uuid.UUID | None
    group_key: str
    decision: int
    config_version: int
    receiver: str
    integration: int
    channel: str
    target: str
    urgency: int
    reason: str
    attempt: int
    last_reason: str
    created_at: datetime
    age: timedelta
    body: str
    memory: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How a task ended, for its group; `state` is sent, digested or failed. A digest has an empty `group_key`."""

    id: uuid.UUID
    group_key: str
    decision: int
    receiver: str
    integration: int
    state: str
    reason: str
    finished_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What to write about a task that ended for good."""

    id: uuid.UUID
    attempt: int
    state: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """What to write about a task that is to be tried again after `delay`."""

    id: uuid.UUID
    attempt: int
    reason: str
    detail: str
    delay: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """Tasks due and not finished."""

    due: int
    oldest_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What may be claimed of each of some: nothing of `closed`, of those in `free` so many, of others `usual`."""

    closed: Sequence[str] = ()
    free: Mapping[str, int] = field(default_factory=dict)
    usual: int

    def arguments(self) -> tuple[list[str], int, list[str], list[int]]:
        """As the query takes them."""
        return list(self.closed), self.usual, list(self.free), list(self.free.values())


ROOMY: Final = Room(usual=1_000_000)


def host_of(target: str) -> str:
    """The host and port in a target's name, as the query that claims finds it; several targets may share it."""
    return [*target.split("/", 3), "", ""][2]


async def insert(conn: Connection, notices: Sequence[Notice], tasks: Sequence[Task]) -> None:
    """Write notices and their tasks, inside the transaction of the change that caused them."""
    if notices:
        await conn.execute(_INSERT_NOTICES, *_columns(notices, Notice))
    if tasks:
        await conn.execute(_INSERT_TASKS, *_columns(tasks, Task))


async def claim(
    conn: Connection,
    owner: str,
    now: datetime | None,
    lease: timedelta,
    limit: int,
    ids: Sequence[uuid.UUID] | None = None,
    *,
    targets: Room = ROOMY,
    hosts: Room = ROOMY,
    held: Sequence[uuid.UUID] = (),
) -> list[Claimed]:
    """Lease up to `limit` tasks that are due, of `ids` alone if given, where targets and their hosts have room.

    Those that are `held` are left alone, whatever became of their leases.
    """
    wanted = list(ids) if ids is not None else None
    rows = await conn.fetch(
        _CLAIM, owner, now, lease, limit, wanted, *targets.arguments(), *hosts.arguments(), list(held)
    )
    return [Claimed(**dict(row)) for row in rows]


async def finish(conn: Connection, owner: str, endings: Sequence[Ending]) -> list[Finished]:
    """End tasks that are still leased to `owner`; those that were are returned."""
    if not endings:
        return []
    rows = await conn.fetch(_FINISH, owner, *_columns(endings, Ending))
    return [Finished(**dict(row)) for row in rows]


async def retry_later(conn: Connection, owner: str, retries: Sequence[Retry]) -> None:
    """Put tasks that are still leased to `owner` back."""
    if retries:
        await conn.execute(_RETRY, owner, *_columns(retries, Retry))


async def release(conn: Connection, owner: str, tasks: Sequence[Claimed]) -> None:
    """Give back tasks that were never tried."""
    if tasks:
        await conn.execute(_RELEASE, owner, [task.id for task in tasks], [task.attempt for task in tasks])


async def renew(conn: Connection, owner: str, lease: timedelta, ids: Sequence[uuid.UUID]) -> None:
    """Lengthen the leases of tasks that `owner` is still sending."""
    if ids:
        await conn.execute(_RENEW, owner, lease, list(ids))


async def hold(conn: Connection, owner: str, tasks: Sequence[Claimed], delay: timedelta) -> None:
    """Put back tasks that are over a receiver's limit."""
    if tasks:
        ids, attempts = [task.id for task in tasks], [task.attempt for task in tasks]
        await conn.execute(_HOLD, owner, ids, attempts, [delay] * len(tasks))


async def remember(conn: Connection, kept: Sequence[tuple[Claimed, Mapping[str, str]]]) -> None:
    """Keep what a channel said to remember of these tasks, at most one of each incident and integration."""
    if kept:
        tasks = [task for task, _ in kept]
        await conn.execute(
            _REMEMBER,
            [task.incident_id for task in tasks],
            [task.receiver for task in tasks],
            [task.integration for task in tasks],
            [msgspec.json.encode(memory).decode() for _, memory in kept],
        )


async def untold(conn: Connection, now: datetime | None, grace: timedelta, limit: int) -> list[Finished]:
    """Tasks that ended more than `grace` ago and whose group has not said that it knows."""
    rows = await conn.fetch(_UNTOLD, now, grace, limit)
    return [Finished(**dict(row)) for row in rows]


async def mark_told(conn: Connection, ids: Sequence[uuid.UUID]) -> None:
    """Note that the group has applied how these tasks ended, in the transaction that applied it."""
    if ids:
        await conn.execute(MARK_TOLD, list(ids))


async def backlog(conn: Connection) -> Backlog:
    """What is due now."""
    [row] = await conn.fetch(_BACKLOG)
    return Backlog(**dict(row))


def _columns(rows: Sequence[object], record: type) -> list[list[object]]:
    return [[getattr(row, name) for row in rows] for name in record.__slots__]  # type: ignore[attr-defined]
