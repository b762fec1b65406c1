"""Rows of jobs as workers write them: slots, claims, leases, and how runs end.

All times are the database's clock, so a worker whose own clock is wrong does nothing early, late or twice. Every write
of a run names its token: after another worker has claimed it, nothing of the former one counts.
"""

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from sinks.postgres import Connection
from streams import codec
from streams.rules_jobs import JobRule
from streams.rules_schedule import Missed

_SLOTS: Final = uuid.UUID("6f1f4a0e-0c3b-4f3c-8d9e-2b6c6a0f7d51")
MAX_LINE: Final = 1000
MAX_LINES: Final = 500

# Jobs whose slot has come; nobody else looks at them until the transaction ends.
_DUE: Final = """
SELECT name, team, action, arguments::text, schedule, zone, missed, max_attempts, next_at, clock_timestamp() AS now
FROM jobs WHERE paused_at IS NULL AND schedule IS NOT NULL AND next_at <= clock_timestamp()
ORDER BY next_at LIMIT $1 FOR UPDATE SKIP LOCKED
"""

# A slot's run, once; nothing where the job has a run that is not over.
_PLACE: Final = """
INSERT INTO job_runs (id, job, team, action, arguments, slot_at, max_attempts, missed)
VALUES ($1, $2, $3, $4, $5::text::jsonb, $6, $7, $8) ON CONFLICT DO NOTHING RETURNING id
"""

# A slot that is left out, and why.
_SKIP: Final = """
INSERT INTO job_runs (id, job, team, action, arguments, slot_at, max_attempts, missed, state, finished_at, error)
VALUES ($1, $2, $3, $4, $5::text::jsonb, $6, $7, $8, 'skipped', clock_timestamp(), $9) ON CONFLICT DO NOTHING
"""

_MOVE_ON: Final = "UPDATE jobs SET next_at = $2 WHERE name = $1"

_STOP: Final = "UPDATE jobs SET paused_at = clock_timestamp(), paused_by = $2 WHERE name = $1"

# Runs that may start, and those whose worker is gone.
_READY: Final = """
SELECT id, job, team, action, arguments::text, slot_at, asked_by, state, attempt, max_attempts, deaths, missed, token,
    coalesce(owner, '') AS owner, cancel_by, done, cursor, lease_until
FROM job_runs
WHERE ((state = 'due' AND due_at <= clock_timestamp()) OR (state = 'running' AND lease_until < clock_timestamp()))
    AND action <> ALL ($2::text[])
ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED
"""

_START: Final = """
UPDATE job_runs SET state = 'running', owner = $2, lease_until = clock_timestamp() + $3::interval, token = token + 1,
    attempt = attempt + 1, deaths = $4, started_at = coalesce(started_at, clock_timestamp()), error = ''
WHERE id = $1
"""

# Ends a run that nobody holds: it was cancelled, or has died too often.
_CLOSE: Final = """
UPDATE job_runs SET state = $2, error = $3, deaths = $4, finished_at = clock_timestamp(), lease_until = NULL
WHERE id = $1
"""

_RENEW: Final = """
UPDATE job_runs AS mine SET lease_until = clock_timestamp() + $3::interval
FROM unnest($1::uuid[], $2::bigint[]) AS held(id, token)
WHERE mine.id = held.id AND mine.token = held.token AND mine.state = 'running'
RETURNING mine.id, mine.cancel_by
"""

_HOLD: Final = "SELECT 1 FROM job_runs WHERE id = $1 AND token = $2 AND state = 'running' FOR UPDATE"

_PROGRESS: Final = """
UPDATE job_runs SET done = $3, total = coalesce($4, total), cursor = $5
WHERE id = $1 AND token = $2 AND state = 'running'
"""

_FINISH: Final = """
UPDATE job_runs SET state = $3, result = $4::text::jsonb, error = $5, finished_at = clock_timestamp(),
    lease_until = NULL
WHERE id = $1 AND token = $2 AND state = 'running' RETURNING id
"""

_AGAIN: Final = """
UPDATE job_runs SET state = 'due', error = $3, due_at = clock_timestamp() + $4::interval, lease_until = NULL,
    attempt = attempt - $5
WHERE id = $1 AND token = $2 AND state = 'running' RETURNING id
"""

_SAY: Final = """
INSERT INTO job_log (run_id, attempt, line) SELECT id, attempt, $2 FROM job_runs
WHERE id = $1 AND (SELECT count(*) FROM job_log WHERE run_id = $1) < $3
"""

_APPLIED: Final = "SELECT version, program FROM jobs_applied FOR UPDATE"

_APPLIED_NOW: Final = "UPDATE jobs_applied SET version = $1, program = $2"

_LOOK: Final = "SELECT version, program FROM jobs_applied"

_CLOCK: Final = "SELECT clock_timestamp()"

# Makes or changes a job of the rules; its next slot stays while its schedule does, and so does its being paused.
# Nothing where the name is that of a job which was made over the API: that one stays as it is.
_PUT: Final = """
INSERT INTO jobs AS mine (name, action, arguments, schedule, zone, missed, max_attempts, origin, created_by, next_at)
VALUES ($1, $2, $3::text::jsonb, $4, $5, $6, $7, $8, $8, $9)
ON CONFLICT (name) DO UPDATE SET action = excluded.action, arguments = excluded.arguments,
    schedule = excluded.schedule, zone = excluded.zone, missed = excluded.missed, origin = excluded.origin,
    max_attempts = excluded.max_attempts, updated_at = clock_timestamp(),
    next_at = CASE WHEN mine.schedule IS NOT DISTINCT FROM excluded.schedule AND mine.zone = excluded.zone
        THEN mine.next_at ELSE excluded.next_at END
WHERE mine.origin <> 'api' RETURNING name
"""

_MADE_BY_PEOPLE: Final = "SELECT name FROM jobs WHERE origin = 'api' AND name = ANY ($1::text[]) ORDER BY name"

_LEAVE: Final = "DELETE FROM jobs WHERE origin <> 'api' AND name <> ALL ($1::text[])"


class DueJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job whose slot `next_at` has come; `now` is the database's."""

    name: str
    team: str
    action: str
    arguments: str
    schedule: str
    zone: str
    missed: Missed
    max_attempts: int
    next_at: datetime
    now: datetime


class ReadyRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run that is due, or whose worker (`owner`) has let its lease end: then `state` is running."""

    id: uuid.UUID
    job: str | None
    team: str
    action: str
    arguments: str
    slot_at: datetime | None
    asked_by: str
    state: str
    attempt: int
    max_attempts: int
    deaths: int
    missed: int
    token: int
    owner: str
    cancel_by: str
    done: int
    cursor: str
    lease_until: datetime | None


def run_id(job: str, slot_at: datetime) -> uuid.UUID:
    """The id of a slot's run, and so the idempotency key of what it does."""
    return uuid.uuid5(_SLOTS, f"{job}/{slot_at.timestamp():.0f}")


async def due(conn: Connection, limit: int) -> list[DueJob]:
    """Jobs whose slot has come, locked until the caller's transaction ends."""
    return [msgspec.convert(dict(row), DueJob) for row in await conn.fetch(_DUE, limit)]


async def place(conn: Connection, job: DueJob, slot_at: datetime, missed: int) -> bool:
    """Add a slot's run; False where the job has a run that is not over, and the slot is marked as left out."""
    row = (
        run_id(job.name, slot_at), job.name, job.team, job.action, job.arguments, slot_at, job.max_attempts, missed,
    )  # fmt: skip
    if await conn.fetchval(_PLACE, *row) is not None:
        return True
    await conn.execute(_SKIP, *row, "the run before it was still under way")
    return False


async def skip(conn: Connection, job: DueJob, slot_at: datetime, missed: int) -> None:
    """Mark a slot as missed."""
    await conn.execute(
        _SKIP, run_id(job.name, slot_at), job.name, job.team, job.action, job.arguments, slot_at, job.max_attempts,
        missed, "nobody was there",
    )  # fmt: skip


async def move_on(conn: Connection, name: str, next_at: datetime) -> None:
    """The job's slot is dealt with."""
    await conn.execute(_MOVE_ON, name, next_at)


async def stop(conn: Connection, name: str, why: str) -> None:
    """Pause a job that cannot be followed."""
    await conn.execute(_STOP, name, why)


async def ready(conn: Connection, limit: int, *, without: Sequence[str] = ()) -> list[ReadyRun]:
    """Runs to be taken, but for some actions, locked until the caller's transaction ends."""
    return [msgspec.convert(dict(row), ReadyRun) for row in await conn.fetch(_READY, limit, list(without))]


async def start(conn: Connection, run: ReadyRun, owner: str, lease: timedelta, deaths: int) -> ReadyRun:
    """Lease a run to an owner, as its next attempt with the next token."""
    await conn.execute(_START, run.id, owner, lease, deaths)
    return msgspec.structs.replace(
        run, state="running", attempt=run.attempt + 1, token=run.token + 1, owner=owner, deaths=deaths
    )


async def close(conn: Connection, run: ReadyRun, state: str, error: str, deaths: int) -> None:
    """End a run that nobody holds."""
    await conn.execute(_CLOSE, run.id, state, error, deaths)


async def renew(conn: Connection, held: Sequence[ReadyRun], lease: timedelta) -> dict[uuid.UUID, str]:
    """Those that are still this process's, each with who wants it cancelled (or nobody: empty)."""
    rows = await conn.fetch(_RENEW, [run.id for run in held], [run.token for run in held], lease)
    return {row["id"]: row["cancel_by"] for row in rows}


async def hold(conn: Connection, run: ReadyRun) -> bool:
    """Lock a run until the transaction ends; False when it is no longer this attempt's."""
    return await conn.fetchval(_HOLD, run.id, run.token) is not None


async def progress(conn: Connection, run: ReadyRun, done: int, total: int | None, cursor: str) -> None:
    """How far it is, and where the next attempt would go on."""
    await conn.execute(_PROGRESS, run.id, run.token, done, total, cursor)


async def finish(conn: Connection, run: ReadyRun, state: str, result: Any, error: str = "") -> bool:  # noqa: ANN401 - JSON
    """End it; False when it is no longer this attempt's."""
    found = await conn.fetchval(_FINISH, run.id, run.token, state, codec.to_json(result), error[:MAX_LINE])
    return found is not None


async def again(conn: Connection, run: ReadyRun, error: str, delay: timedelta, *, counts: bool = True) -> bool:
    """Let it be tried again after a while; `counts` is false where the attempt did not fail."""
    found = await conn.fetchval(_AGAIN, run.id, run.token, error[:MAX_LINE], delay, int(not counts))
    return found is not None


async def say(conn: Connection, run: uuid.UUID, line: str) -> None:
    """A line of its log; after `MAX_LINES` no more."""
    clean = "".join(letter if letter.isprintable() else " " for letter in line[:MAX_LINE])
    await conn.execute(_SAY, run, clean, MAX_LINES)


async def applied(conn: Connection, *, lock: bool) -> tuple[int, str]:
    """The version of the rules, and the name of the program's own jobs, that the rows were made from."""
    row = await conn.fetchrow(_APPLIED if lock else _LOOK)
    return (row["version"], row["program"]) if row is not None else (-1, "")


async def clock(conn: Connection) -> datetime:
    """The database's time."""
    at: datetime = await conn.fetchval(_CLOCK)
    return at


async def made_by_people(conn: Connection, names: Sequence[str]) -> list[str]:
    """Which of these are names of jobs that were made over the API."""
    return [row["name"] for row in await conn.fetch(_MADE_BY_PEOPLE, list(names))]


async def apply(
    conn: Connection, version: int, program: str, rules: Sequence[tuple[JobRule, datetime | None]]
) -> list[str]:
    """Make the jobs of the rules, each with its next slot, and drop those that are in them no more.

    The names that jobs made over the API have already come back: those are left alone.
    """
    taken: list[str] = []
    for rule, next_at in rules:
        placed = await conn.fetchval(
            _PUT, rule.name, rule.action, codec.to_json(rule.arguments), rule.schedule, rule.zone, rule.missed,
            rule.max_attempts, rule.origin, next_at,
        )  # fmt: skip
        if placed is None:
            taken.append(rule.name)
    await conn.execute(_LEAVE, [rule.name for rule, _ in rules])
    await conn.execute(_APPLIED_NOW, version, program)
    return taken
