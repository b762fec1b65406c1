"""Rows of jobs as people change them over the API: made, paused, asked for, cancelled, dropped."""

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from asyncpg import Connection, Record
    from asyncpg.pool import PoolConnectionProxy

    Conn = Connection[Record] | PoolConnectionProxy[Record]

_ADD: Final = """
INSERT INTO jobs (name, team, action, arguments, schedule, zone, missed, max_attempts, origin, created_by, next_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'api', $9, $10) ON CONFLICT DO NOTHING RETURNING name
"""

_DROP: Final = "DELETE FROM jobs WHERE name = $1 AND origin = 'api' AND ($2::text[] IS NULL OR team = ANY ($2))"

_PAUSE: Final = """
UPDATE jobs SET paused_at = coalesce(paused_at, clock_timestamp()), paused_by = $2, updated_at = clock_timestamp()
WHERE name = $1
"""

_RESUME: Final = """
UPDATE jobs SET paused_at = NULL, paused_by = '', next_at = $2, updated_at = clock_timestamp() WHERE name = $1
"""

_ASK: Final = """
INSERT INTO job_runs (id, job, team, action, arguments, asked_by, max_attempts)
VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING
"""

# Nothing where the job has a run that is not over.
_ASK_JOB: Final = """
INSERT INTO job_runs (id, job, team, action, arguments, asked_by, max_attempts)
SELECT $1, name, team, action, arguments, $3, max_attempts FROM jobs WHERE name = $2
ON CONFLICT DO NOTHING
"""

_UNFINISHED: Final = "SELECT id FROM job_runs WHERE job = $1 AND state IN ('due', 'running')"

# A run that has not begun ends at once; one that runs is ended by its worker.
_CANCEL: Final = """
UPDATE job_runs SET cancel_by = $2, state = CASE WHEN state = 'due' THEN 'cancelled' ELSE state END,
    finished_at = CASE WHEN state = 'due' THEN clock_timestamp() END,
    error = CASE WHEN state = 'due' THEN 'cancelled by ' || $2 ELSE error END
WHERE id = $1 AND state IN ('due', 'running') RETURNING state
"""

_CLOCK: Final = "SELECT clock_timestamp()"

Teams = Sequence[str] | None


async def clock(conn: "Conn") -> datetime:
    """The database's time."""
    at: datetime = await conn.fetchval(_CLOCK)
    return at


async def add(
    conn: "Conn", name: str, team: str, action: str, arguments: Mapping[str, Any], *, schedule: str | None, zone: str,
    missed: str, max_attempts: int, created_by: str, next_at: datetime | None,
) -> bool:  # fmt: skip
    """Make a job; False if there is one of that name."""
    return (
        await conn.fetchval(
            _ADD, name, team, action, dict(arguments), schedule, zone, missed, max_attempts, created_by, next_at
        )
        is not None
    )


async def drop(conn: "Conn", name: str, teams: Teams) -> bool:
    """Drop a job that was made over the API; False if there is none."""
    done: str = await conn.execute(_DROP, name, teams)
    return done != "DELETE 0"


async def pause(conn: "Conn", name: str, by: str) -> None:
    """No slots until it is resumed."""
    await conn.execute(_PAUSE, name, by)


async def resume(conn: "Conn", name: str, next_at: datetime | None) -> None:
    """Slots again, from the next one on."""
    await conn.execute(_RESUME, name, next_at)


async def ask_for_job(conn: "Conn", run_id: uuid.UUID, name: str, by: str) -> None:
    """One more run of a job, unless one of its runs is not over yet, or it is there already."""
    await conn.execute(_ASK_JOB, run_id, name, by)


async def ask(
    conn: "Conn", run_id: uuid.UUID, team: str, action: str, arguments: Mapping[str, Any], by: str, max_attempts: int
) -> None:
    """Background work; asked for twice under one id it is one."""
    await conn.execute(_ASK, run_id, None, team, action, dict(arguments), by, max_attempts)


async def unfinished(conn: "Conn", name: str) -> uuid.UUID | None:
    """The run of a job that is not over."""
    found: uuid.UUID | None = await conn.fetchval(_UNFINISHED, name)
    return found


async def cancel(conn: "Conn", run_id: uuid.UUID, by: str) -> bool:
    """Have a run end; False if it is over."""
    return await conn.fetchval(_CANCEL, run_id, by) is not None
