"""Which parts of a record are what cannot be handled: tried on their own, and nothing of it kept."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import structlog
from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

from agents.unhandled import parts_of
from agents.work import Logic, Part, Poisoned, Work
from sinks import postgres
from streams.redis_tables import FencedError

TRIES: Final = 3
"""How often the handling of something must fail before it is a dead letter."""
REFUSED: Final = (
    asyncpg.DataError,
    asyncpg.CheckViolationError,
    asyncpg.NotNullViolationError,
    asyncpg.ProgramLimitExceededError,
)
"""Postgres takes no such row, however often it is asked."""
_ENDS: Final = (*postgres.TRANSIENT, asyncpg.PostgresError, KafkaError, RedisError, FencedError, MemoryError)

log = structlog.get_logger()


class UnsureError(RuntimeError):
    """Raised for what must stop the process, whatever it was handling."""


def is_poison(error: Exception) -> bool:
    """Whether it comes from what is handled: not from a service, the partition's owner or a bug of the step."""
    return isinstance(error, REFUSED) or not isinstance(error, (*_ENDS, UnsureError))


@dataclass(frozen=True, kw_only=True)
class PoisonFinder:
    """Halves a record until each part that fails is alone. `decide` and `patiently` are the step's."""

    logic: Logic
    pool: "asyncpg.Pool"
    decide: Callable[[int, list[tuple[int, Any]], Poisoned], Work]
    begin: Callable[[int, Poisoned], Work]
    patiently: Callable[[str, Callable[[], Awaitable[None]]], Awaitable[None]]
    alive: Callable[[], None]

    def parts(self, number: int, offset: int, record: object) -> list[Part]:
        """The parts of a record; those of a tick are what it finds due."""
        known = parts_of(record)
        if len(known) > 1:
            return known
        work = self.begin(number, {})
        try:
            work.apply(offset, record)
        except Exception as error:  # noqa: BLE001 - what it came to until then is what is asked
            log.debug("tried for its parts", partition=number, offset=offset, reason=repr(error))
        finally:
            work.abort()
        return [*known, *(part for at, part in work.due if at == offset)]

    async def find(self, number: int, item: tuple[int, Any], among: Sequence[Part], rest: Sequence[Part]) -> Poisoned:
        """Which of these parts fail, and why, with `rest` left out."""
        offset, _ = item
        reason = await self._reason(number, item, rest) if among else ""
        self.alive()
        if not reason:
            return {}
        if len(among) == 1:
            return {(offset, among[0]): reason}
        half = len(among) // 2
        first, second = among[:half], among[half:]
        found = await self.find(number, item, first, [*rest, *second])
        return {**found, **await self.find(number, item, second, [*rest, *first])}

    async def _reason(self, number: int, item: tuple[int, Any], rest: Sequence[Part]) -> str:
        """Why the record fails with `rest` left out; empty where it does not."""
        for _ in range(TRIES):
            try:
                await self._try(number, item, rest)
            except REFUSED as error:
                return f"refused by Postgres: {error}"
            except Exception as error:
                if not is_poison(error):
                    raise
                reason = f"{type(error).__name__}: {error}"
            else:
                return ""
        return reason

    async def _try(self, number: int, item: tuple[int, Any], rest: Sequence[Part]) -> None:
        offset, _ = item
        work = self.decide(number, [item], dict.fromkeys(((offset, part) for part in rest), ""))

        async def attempt() -> None:
            async with self.pool.acquire(timeout=2) as conn:
                trial = conn.transaction()
                await trial.start()
                try:
                    await self.logic.write(conn, [work])
                finally:
                    await trial.rollback()

        try:
            list(work.outgoing())
            await self.patiently("postgres", attempt)
        finally:
            work.abort()
