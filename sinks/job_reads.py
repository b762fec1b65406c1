"""Jobs and their runs as people read them."""

import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from streams.rules_jobs import Action
from streams.rules_schedule import Missed

if TYPE_CHECKING:
    from asyncpg import Connection, Record
    from asyncpg.pool import PoolConnectionProxy

    Conn = Connection[Record] | PoolConnectionProxy[Record]

MAX_PAGE: Final = 200
MASK: Final = "***"

_SEEN_RUNS: Final = """
SELECT id, job, team, action, arguments, slot_at, asked_by, state, attempt, max_attempts, deaths, missed,
    coalesce(owner, '') AS owner, due_at, created_at, started_at, finished_at,
    extract(epoch FROM coalesce(finished_at, clock_timestamp()) - started_at)::float8 AS seconds,
    cancel_by, done, total, result, error
FROM job_runs
"""

_SEEN_JOBS: Final = """
SELECT name, jobs.team, jobs.action, jobs.arguments, schedule, zone, jobs.missed, origin, created_by, paused_at,
    paused_by, next_at, jobs.max_attempts, jobs.created_at, updated_at, to_jsonb(last) AS last FROM jobs
"""

# Jobs with the last of their runs, those that come next first.
_JOBS: Final = f"""{_SEEN_JOBS}
LEFT JOIN LATERAL ({_SEEN_RUNS} WHERE job_runs.job = jobs.name ORDER BY created_at DESC, id DESC LIMIT 1) last ON true
WHERE ($1::text IS NULL OR name = $1) AND ($2::text[] IS NULL OR jobs.team = ANY ($2))
ORDER BY paused_at IS NOT NULL, next_at NULLS LAST, name
"""

# Runs, the newest first, after one of a page before.
_PAGE: Final = """
WHERE ($1::text IS NULL OR job = $1) AND ($2::text[] IS NULL OR state = ANY ($2))
    AND ($3::text[] IS NULL OR team = ANY ($3))
    AND ($4::uuid IS NULL OR (created_at, id) < (SELECT created_at, id FROM job_runs WHERE id = $4))
ORDER BY created_at DESC, id DESC LIMIT $5
"""
_RUNS: Final = f"{_SEEN_RUNS} {_PAGE}"

_RUN: Final = f"{_SEEN_RUNS} WHERE id = $1 AND ($2::text[] IS NULL OR team = ANY ($2))"

_LOG: Final = "SELECT at, attempt, line FROM job_log WHERE run_id = $1 ORDER BY seq"

_PARTS: Final = "SELECT count(*) FROM job_files WHERE run_id = $1"

_PART: Final = "SELECT body FROM job_files WHERE run_id = $1 AND part = $2"


class JobRun(msgspec.Struct, frozen=True, kw_only=True):
    """One time that something is done. `slot_at` is None where somebody asked (`asked_by`).

    `attempt` counts from 1, 0 before the first; `deaths` are attempts whose worker died. `missed` are slots that
    nobody was there for, this one included. `seconds` is from the first attempt to its end, or to now.
    """

    id: uuid.UUID
    job: str | None
    team: str
    action: Action
    arguments: dict[str, Any]
    slot_at: datetime | None
    asked_by: str
    state: str
    attempt: int
    max_attempts: int
    deaths: int
    missed: int
    owner: str
    due_at: datetime
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    seconds: float | None
    cancel_by: str
    done: int
    total: int | None
    result: dict[str, Any] | None
    error: str


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    """A job with its last run. `next_at` is its next slot, None where it runs only when asked or is paused."""

    name: str
    team: str
    action: Action
    arguments: dict[str, Any]
    schedule: str | None
    zone: str
    missed: Missed
    origin: str
    created_by: str
    paused: bool
    paused_by: str
    next_at: datetime | None
    max_attempts: int
    created_at: datetime
    updated_at: datetime
    last: JobRun | None


class LogLine(msgspec.Struct, frozen=True):
    """One line of a run's log."""

    at: datetime
    attempt: int
    line: str


class JobRunDetail(msgspec.Struct, frozen=True, kw_only=True):
    """One run with its log; `file` says whether there is something to download."""

    run: JobRun
    log: list[LogLine]
    file: bool


class JobRunPage(msgspec.Struct, frozen=True, kw_only=True):
    """Runs, the newest first; `next` leads to the page after."""

    items: list[JobRun]
    next: str | None


class JobDetail(msgspec.Struct, frozen=True, kw_only=True):
    """One job with its latest runs."""

    job: JobView
    runs: list[JobRun]


Teams = Sequence[str] | None
"""Whose rows may be seen; None means everybody's."""


async def jobs(conn: "Conn", teams: Teams, name: str | None = None) -> list[JobView]:
    """All jobs, or the one of that name."""
    return [_view(row) for row in await conn.fetch(_JOBS, name, teams)]


async def runs(
    conn: "Conn", teams: Teams, *, job: str | None, states: Sequence[str] | None, after: uuid.UUID | None, limit: int
) -> JobRunPage:
    """A page of runs."""
    found = [_run(row) for row in await conn.fetch(_RUNS, job, states, teams, after, limit + 1)]
    return JobRunPage(items=found[:limit], next=str(found[limit - 1].id) if len(found) > limit else None)


async def run(conn: "Conn", teams: Teams, run_id: uuid.UUID) -> JobRunDetail | None:
    """One run, None if there is none."""
    row = await conn.fetchrow(_RUN, run_id, teams)
    if row is None:
        return None
    log = [LogLine(*line) for line in await conn.fetch(_LOG, run_id)]
    return JobRunDetail(run=_run(row), log=log, file=bool(await conn.fetchval(_PARTS, run_id)))


async def parts(conn: "Conn", run_id: uuid.UUID) -> AsyncIterator[bytes]:
    """What a run wrote, piece by piece."""
    for number in range(await conn.fetchval(_PARTS, run_id)):
        body = await conn.fetchval(_PART, run_id, number)
        if body is None:
            return
        yield body


def _view(row: "Record | Mapping[str, Any]") -> JobView:
    told = dict(row)
    last = told.pop("last")
    paused = told.pop("paused_at") is not None
    found = msgspec.convert({**told, "paused": paused, "last": None}, JobView)
    return msgspec.structs.replace(
        found, arguments=shown(found.arguments), next_at=None if paused else found.next_at,
        last=_run(last) if last is not None else None,
    )  # fmt: skip


def _run(row: "Record | Mapping[str, Any]") -> JobRun:
    found = msgspec.convert(dict(row), JobRun, strict=False)
    return msgspec.structs.replace(found, arguments=shown(found.arguments))


def shown(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments without what may be secret: the values of headers."""
    headers = arguments.get("headers")
    if not isinstance(headers, dict):
        return dict(arguments)
    return {**arguments, "headers": dict.fromkeys(headers, MASK)}
