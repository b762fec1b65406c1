"""What a worker does by the clock beside its streams, driven by Faust's timers and crontabs.

They only knock: what is due is decided by Postgres' clock, so a worker whose clock is wrong knocks early or late, and
nothing happens. Heavy work runs in tasks of its own, on connections of its own.
"""

from typing import Final

import asyncpg
import faust
import structlog

from agents.heartbeats import Heartbeats
from agents.job_actions import actions_of
from agents.job_alerts import Herald, Send
from agents.jobs import Jobs
from sinks import job_rows, migrate, postgres
from sinks.http import Http
from streams.settings import Settings, new_owner

LOOK_SECONDS: Final = 1.0
RULES_SECONDS: Final = 5.0
FOUR_TIMES_A_DAY: Final = "3 */6 * * *"
_CONNECTIONS: Final = 8
_STATEMENT_MS: Final = 60_000

log = structlog.get_logger()


class Periodic:
    """The periodic part of one worker."""

    def __init__(self, settings: Settings, send: Send, pool: "asyncpg.Pool") -> None:
        owner = new_owner(settings)
        self._pool = pool
        self._http = Http(settings.delivery_timeout)
        herald = Herald(settings, send)
        self._jobs = Jobs(pool, actions_of(settings, herald, self._http), owner, without=_switched_off(settings))
        self._heartbeats = Heartbeats(pool, herald)

    @classmethod
    async def open(cls, settings: Settings, send: Send) -> "Periodic":
        """With connections of its own, made when they are needed; `send` puts records onto Kafka."""
        pool = await postgres.open_pool(
            settings.database_url, size=_CONNECTIONS, statement_timeout_ms=_STATEMENT_MS,
            name=f"jobs-{settings.worker_name}",
        )  # fmt: skip
        return cls(settings, send, pool)

    def drive(self, app: faust.App) -> None:
        """Have the app's timers do it."""

        @app.timer(LOOK_SECONDS, name="jobs", traced=False)
        async def look() -> None:
            await self._jobs.tick()

        @app.timer(LOOK_SECONDS, name="heartbeats", traced=False)
        async def listen() -> None:
            await self._heartbeats.tick()

        @app.timer(RULES_SECONDS, name="job rules", traced=False)
        async def look_anew() -> None:
            self._jobs.look_anew()

        @app.crontab(FOUR_TIMES_A_DAY, traced=False)
        async def days() -> None:
            await self._make_days()

    async def stop(self) -> None:
        """Give back what is under way."""
        await self._jobs.stop()
        self._pool.terminate()
        await self._http.close()

    async def _make_days(self) -> None:
        """Make the coming days' partitions, also while the job that keeps them is paused."""
        try:
            async with self._pool.acquire(timeout=5) as conn:
                await migrate.ensure_partitions(conn, (await job_rows.clock(conn)).date())
        except (*postgres.TRANSIENT, asyncpg.PostgresError) as error:
            log.warning("days were not made", reason=repr(error))


def _switched_off(settings: Settings) -> frozenset[str]:
    return frozenset() if settings.canary == "on" else frozenset({"canary"})
