"""A process that does jobs and kills itself at a planted point of a run's life; for test_jobs_killed.py."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import asyncpg

from agents.jobs import Jobs, Work
from sinks import job_rows
from sinks.postgres import Connection, open_pool
from streams.rules_jobs import Action

LEASE = timedelta(seconds=1)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Mortal(Jobs):
    """Jobs whose process ends at a point of their life."""

    def __init__(self, pool: "asyncpg.Pool", point: str) -> None:
        self.point = point
        super().__init__(pool, dict.fromkeys(Action, self.do), f"mortal-{os.getpid()}", lease=LEASE)

    def at(self, point: str) -> None:
        if point == self.point:
            die()

    async def do(self, work: Work) -> Mapping[str, Any]:
        self.at("begun")
        async with work.writing() as conn:
            await conn.execute("INSERT INTO effects (run, attempt) VALUES ($1, $2)", work.run.id, work.run.attempt)
            self.at("inside its transaction")
        self.at("worked")
        return {}

    async def _place(self, conn: Connection) -> None:
        self.at("before its slot")
        await super()._place(conn)
        self.at("slot placed")

    async def _claim(self, conn: Connection) -> Any:
        started = await super()._claim(conn)
        if started:
            self.at("claimed")
        return started

    async def _do(self, run: job_rows.ReadyRun) -> None:
        await super()._do(run)
        self.at("ended")


async def main(url: str, point: str) -> None:
    pool = await open_pool(url, size=4, statement_timeout_ms=10_000, name="mortal")
    jobs = Mortal(pool, point)
    ended = "SELECT count(*) FROM job_runs WHERE job = 'mortal' AND finished_at IS NOT NULL"
    while not await pool.fetchval(ended):
        await jobs.tick()
        await asyncio.sleep(0.05)
    await jobs.settled()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
