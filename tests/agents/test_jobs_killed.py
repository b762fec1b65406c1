"""kill -9 of the worker at any moment of a job's life leaves it run once, or retried and marked so."""

import asyncio
import signal
import sys
from pathlib import Path

import asyncpg
import pytest

from tests.agents import job_worker

ONCE, TWICE = (1, 0), (2, 1)
POINTS = {
    "before its slot": ONCE,
    "slot placed": ONCE,
    "claimed": TWICE,
    "begun": TWICE,
    "inside its transaction": TWICE,
    "worked": TWICE,
    "ended": ONCE,
}
"""Where the worker dies, and the attempts and deaths that the run has in the end."""


@pytest.mark.parametrize("point", POINTS)
async def test_a_worker_that_is_killed_leaves_the_run_done_once_or_retried_and_marked(
    point: str, conn: "asyncpg.Connection[asyncpg.Record]", database_url: str
) -> None:
    await conn.execute("CREATE TABLE effects (run uuid, attempt int)")
    await conn.execute(
        """INSERT INTO jobs (name, action, arguments, schedule, origin, next_at)
        VALUES ('mortal', 'alert', '{"summary": "x"}', '0 0 1 1 *', 'api', clock_timestamp() - interval '1 s')"""
    )
    assert await ended(database_url, point) == -signal.SIGKILL
    assert await ended(database_url, "never") == 0
    runs = await conn.fetch("SELECT * FROM job_runs WHERE job = 'mortal'")
    assert [(row["state"], (row["attempt"], row["deaths"])) for row in runs] == [("succeeded", POINTS[point])]
    assert await conn.fetchval("SELECT next_at > clock_timestamp() FROM jobs WHERE name = 'mortal'")
    log = [row["line"] for row in await conn.fetch("SELECT line FROM job_log WHERE run_id = $1", runs[0]["id"])]
    assert len(log) == runs[0]["deaths"]
    assert all("died" in line for line in log)
    # The slots of built-in jobs come meanwhile, too.
    attempts = await conn.fetch("SELECT attempt FROM effects WHERE run = $1 ORDER BY attempt", runs[0]["id"])
    effects = [row["attempt"] for row in attempts]
    # What a killed attempt had committed stands; what was inside its transaction does not.
    assert effects == ([1, 2] if point == "worked" else [runs[0]["attempt"]])


async def ended(database_url: str, point: str) -> int:
    """Run the process to its end, within generous bounds; its exit code."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", job_worker.__name__, database_url, point, cwd=Path(__file__).parents[2]
    )
    try:
        async with asyncio.timeout(90):
            return await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
