"""Between claiming and sending: receivers' limits, and digests of what is over them or too old."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import asyncpg
import structlog

from agents.channels import Versions
from agents.rules import limits
from agents.rules.limits import Waiting
from sinks import digest_rows, task_rows
from sinks.outcome import Reason
from sinks.task_rows import Claimed
from sinks.token_bucket import AWAY, TokenBuckets
from streams import metrics
from streams.observe import Health
from streams.rules_config import ConfigError
from streams.rules_limits import RateLimit

OVER: Final = Reason.OVER_LIMIT

log = structlog.get_logger(__name__)


class Admission:
    """Decides which claimed tasks go now; the others are put back or folded."""

    def __init__(
        self, pool: asyncpg.Pool, owner: str, versions: Versions, buckets: TokenBuckets, health: Health
    ) -> None:
        self._pool = pool
        self._owner = owner
        self._versions = versions
        self._buckets = buckets
        self._health = health

    async def admitted(self, claimed: Sequence[Claimed]) -> list[Claimed]:
        """Those to be sent now."""
        go: list[Claimed] = []
        limited: dict[str, tuple[RateLimit, list[Claimed]]] = {}
        for task in claimed:
            limit = await self._limit(task)
            if limit is None:
                go.append(task)
            else:
                limited.setdefault(task.receiver, (limit, []))[1].append(task)
        for receiver, (limit, tasks) in limited.items():
            go += await self._within(receiver, limit, tasks)
        return go

    async def fold_stale(self, task: Claimed) -> None:
        """A target that was away took `task`: what else grew old waiting for it is told in one."""
        async with self._pool.acquire(timeout=2) as conn, conn.transaction():
            made = await digest_rows.fold(conn, task, older_than=limits.STALE)
        if made is not None:
            log.info("digest_made", digest=str(made), receiver=task.receiver, why="stale")

    async def _limit(self, task: Claimed) -> RateLimit | None:
        """None for a digest, too: its token was taken when it was made."""
        if task.incident_id is None:
            return None
        try:
            rules = await self._versions.get(task.config_version)
        except ConfigError:
            return None  # sending says what is wrong
        return rules.config.ours.rate_limit(task.receiver)

    async def _within(self, receiver: str, limit: RateLimit, tasks: list[Claimed]) -> list[Claimed]:
        waiting = [
            Waiting(task, (task.integration, task.target), task.urgency, task.last_reason == OVER) for task in tasks
        ]
        wanted = limits.wanted(waiting)
        granted, wait = await self._tokens(receiver, limit, wanted)
        admission = limits.admit(waiting, granted)
        go = list(admission.send)
        for over in admission.fold:
            go += await self._folded(over)
        if admission.hold:
            async with self._pool.acquire(timeout=2) as conn:
                await task_rows.hold(conn, self._owner, admission.hold, limits.pause(wait, limit.per))
            for task in admission.hold:
                metrics.notifications.labels(task.channel, "held").inc()
            log.info("over_limit", receiver=receiver, held=len(admission.hold))
        return go

    async def _folded(self, over: Sequence[Claimed]) -> list[Claimed]:
        """Nothing when they became a digest; themselves when there is nothing to put together."""
        async with self._pool.acquire(timeout=2) as conn, conn.transaction():
            made = await digest_rows.fold(conn, over[0], [task.id for task in over])
        if made is None:
            return list(over)
        log.info("digest_made", digest=str(made), receiver=over[0].receiver, why=OVER)
        return []

    async def _tokens(self, receiver: str, limit: RateLimit, wanted: int) -> tuple[int, timedelta]:
        try:
            taken = await self._buckets.take(receiver, capacity=limit.notices, per=limit.per, wanted=wanted)
        except AWAY as error:
            # Telling comes before the limit.
            self._health.set("redis", ok=False, detail=type(error).__name__, required=False)
            return wanted, timedelta(0)
        self._health.set("redis", ok=True, required=False)
        return taken
