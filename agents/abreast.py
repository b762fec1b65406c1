"""What workers tell each other while they catch up: when the oldest record that waits was written.

    {<app>:<topic>}:oldest    hash: worker -> seconds since 1970, of those of which old records wait

It goes through Redis, and only while something old waits. Without an answer a
worker goes by what it heard last.
"""

import contextlib
import math
from typing import Any, Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from agents.alignment import Pace, is_old

BEAT_SECONDS: Final = 0.25
HOLD_SECONDS: Final = 0.05
_KEPT_MS: Final = 60_000

log = structlog.get_logger()


class Abreast:
    """One worker's part of it, for one topic."""

    def __init__(self, redis: "Redis", app: str, topic: str, worker: str) -> None:
        self._redis = redis
        self._key = f"{{{app}:{topic}}}:oldest"
        self._worker = worker
        self._pace = Pace()
        self._is_told = False
        self._is_leaving = False

    async def until(self, oldest: float, now: float) -> float:
        """Until when a step may take records (see `Pace`), after telling of the oldest that waits here."""
        if self._is_leaving or not is_old(oldest, now):
            self._pace = Pace()
            return math.inf
        with contextlib.suppress(RedisError):
            self._pace.hear(await self._exchanged(oldest))
        had_waited = self._pace.waited
        until = self._pace.until(oldest, now)
        if oldest > until and not had_waited:
            log.info("lets workers that are further behind go first", seconds_ahead=round(oldest - until, 3))
        return until

    async def beat(self, oldest: float | None, now: float) -> None:
        """Tell of it between steps, which may take long; None where nothing waits."""
        with contextlib.suppress(RedisError):
            if oldest is not None and is_old(oldest, now) and not self._is_leaving:
                await self._exchanged(oldest)
            elif self._is_told:
                await self._redis.hdel(self._key, self._worker)
                self._is_told = False

    async def leave(self) -> None:
        """From now on this worker waits for nobody, and nobody for it."""
        self._is_leaving = True
        await self.beat(None, 0.0)

    async def _exchanged(self, oldest: float) -> dict[str, float]:
        pipeline: Any = self._redis.pipeline(transaction=False)
        pipeline.hset(self._key, self._worker, repr(oldest))
        pipeline.pexpire(self._key, _KEPT_MS)
        pipeline.hgetall(self._key)
        self._is_told = True
        *_, told = await pipeline.execute()
        return {name: float(at) for key, at in told.items() if (name := key.decode()) != self._worker}
