"""What workers tell each other while they catch up: when the oldest record that waits was written.

    {<app>:<topic>}:oldest    hash: worker -> seconds since 1970, and when it said so

It goes through Redis, and only while something old waits. Without an answer a
worker goes by what it heard last; of one that says nothing any more, nobody
hears after `_LASTS_MS`.
"""

import asyncio
import contextlib
import math
from typing import Any, Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisClusterException, RedisError

from agents.alignment import Pace, is_old
from streams.redis_scripts import SAY

BEAT_SECONDS: Final = 0.25
HOLD_SECONDS: Final = 0.05
_ANSWER_SECONDS: Final = 0.5
_LASTS_MS: Final = 3000

log = structlog.get_logger()


class Abreast:
    """One worker's part of it, for one topic."""

    def __init__(self, redis: "Redis", app: str, topic: str, worker: str) -> None:
        self._key = f"{{{app}:{topic}}}:oldest"
        self._worker = worker
        self._script = redis.register_script(SAY)
        self._turn = asyncio.Lock()
        self._pace = Pace()
        self._is_holding = False
        self._is_told = False
        self._is_leaving = False

    async def until(self, oldest: float, now: float) -> float:
        """Until when a step may take records (see `Pace`), after telling of the oldest that waits here."""
        if self._is_leaving or not is_old(oldest, now):
            self._pace, self._is_holding = Pace(), False
            return math.inf
        until = self._pace.until(oldest, await self._say(oldest), now)
        if oldest > until and not self._is_holding:
            self._is_holding = True
            log.info("lets workers that are further behind go first", seconds_ahead=round(oldest - until, 3))
        return until

    async def beat(self, oldest: float | None, now: float) -> None:
        """Tell of it between steps, which may take long; None where nothing waits."""
        if oldest is not None and is_old(oldest, now) and not self._is_leaving:
            await self._say(oldest)
        elif self._is_told:
            await self._say(None)

    async def leave(self) -> None:
        """From now on this worker waits for nobody, and nobody for it."""
        self._is_leaving = True
        await self._say(None)

    async def _say(self, oldest: float | None) -> dict[str, float] | None:
        """Tell it, or take it back, and hear of the others; None without an answer."""
        found: Any
        with contextlib.suppress(RedisError, RedisClusterException, TimeoutError):
            async with self._turn, asyncio.timeout(_ANSWER_SECONDS):
                told = repr(oldest) if oldest is not None and not self._is_leaving else ""
                self._is_told = bool(told)
                found = await self._script(keys=[self._key], args=[self._worker, told, _LASTS_MS])
                return {name.decode(): float(at) for name, at in zip(found[::2], found[1::2], strict=True)}
        return None
