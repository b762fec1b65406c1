"""How full the partitions of `alerts` are, and which alerts have no room: asked before anything is accepted.

The sizes are those of the tables that workers keep in Redis, read once a
second. While Redis is away the last ones known hold.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from streams import keys, metrics
from streams.records import Alert, Rejected
from streams.redis_tables import TableSet
from streams.settings import Settings
from streams.tables import TABLES_OF
from streams.topics import ALERTS, topic_name

EVERY: Final = 1.0
PULSES: Final = "pulses"

log = structlog.get_logger()


class FullError(Exception):
    """Raised for new alerts whose partition holds as many as it may; all others were taken."""


class Capacity:
    """Knows which partitions are full. `run` keeps it fresh."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._tables = TableSet(redis, topic_name(settings.app_prefix, "pipeline"), ALERTS, TABLES_OF[ALERTS])
        self._partitions = settings.partitions
        self._cap = settings.alerts_cap
        self.full: frozenset[int] = frozenset()

    async def run(self) -> None:
        """Read the sizes for ever."""
        while True:
            began = time.monotonic()
            await self.refresh()
            await asyncio.sleep(max(0.0, began + EVERY - time.monotonic()))

    async def refresh(self) -> None:
        """Read the sizes once."""
        try:
            sizes = await self._tables.sizes(PULSES, range(self._partitions))
        except (RedisError, OSError):
            return
        full = frozenset(number for number, size in enumerate(sizes) if size >= self._cap)
        if full != self.full:
            log.warning("partitions of alerts are full", partitions=sorted(full), cap=self._cap)
        self.full = full
        metrics.alerts_fill_ratio.set(max(sizes, default=0) / self._cap)

    async def without_room(self, items: Sequence[Alert | Rejected]) -> set[int]:
        """Places of items that are new alerts of a full partition; ends, and repeats of what is known, have room."""
        if not self.full:
            return set()
        asked: dict[int, list[int]] = {}
        for place, item in enumerate(items):
            if isinstance(item, Alert) and item.firing:
                number = keys.partition_of(item.identity, self._partitions)
                if number in self.full:
                    asked.setdefault(number, []).append(place)
        try:
            known = await self._known(items, asked)
        except (RedisError, OSError):
            known = set()  # who cannot be asked may be new: the sender comes again
        return {place for places in asked.values() for place in places} - known

    async def _known(self, items: Sequence[Any], asked: dict[int, list[int]]) -> set[int]:
        known: set[int] = set()
        for number, places in asked.items():
            found = await self._tables.known(number, PULSES, [items[place].identity for place in places])
            known.update(place for place, there in zip(places, found, strict=True) if there)
        return known
