"""Time as records: the owner of a partition sends it a Tick when something is due."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from aiokafka.errors import KafkaError

from agents.work import Outgoing, Partition
from streams import codec, metrics
from streams.records import Tick
from streams.topics import ALERTS

RESOLUTION: Final = 0.05
APART: Final = 5.0
"""Seconds that the wall clock may be off before that is more than drift."""
BELIEVED_AFTER: Final = 600.0
"""Seconds for which a wall clock that was set must stay so."""

log = structlog.get_logger()


def _wall() -> datetime:
    return datetime.now(UTC)


def _running() -> float:
    """Seconds that pass while the machine sleeps too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Clock:
    """Wall time read once, moved on by a clock that nobody sets: a jump of the wall clock does not fire deadlines.

    The wall clock is believed again once it has stood at the same distance for `BELIEVED_AFTER`.
    """

    def __init__(self, wall: Callable[[], datetime] = _wall, running: Callable[[], float] = _running) -> None:
        self._read_wall, self._read_running = wall, running
        self._wall, self._began = wall(), running()
        self._apart = 0.0
        self._apart_since: float | None = None

    def now(self) -> datetime:
        """Now, in UTC."""
        wall, running = self._read_wall(), self._read_running()
        now = self._wall + timedelta(seconds=running - self._began)
        apart = (wall - now).total_seconds()
        if abs(apart) <= APART:
            self._apart_since = None
        elif self._apart_since is None or abs(apart - self._apart) > 1:
            self._apart, self._apart_since = apart, running
        elif running - self._apart_since >= BELIEVED_AFTER:
            log.warning("the wall clock was set, and has stayed so: it is followed", seconds=round(apart, 3))
            self._wall, self._began, self._apart_since = wall, running, None
            return wall
        return now


class Timers:
    """Watches the deadlines of those partitions of one topic that this process owns; `name` is the topic unprefixed."""

    def __init__(
        self,
        topic: str,
        partitions: Mapping[int, Partition],
        send: Callable[[Sequence[Outgoing]], Awaitable[None]],
        clock: Clock,
        name: str = ALERTS,
    ) -> None:
        self.topic = topic
        self.name = name
        self.partitions = partitions
        self.send = send
        self.clock = clock

    def due(self) -> list[tuple[Partition, Outgoing]]:
        """One tick for each partition that has something due and no tick under way."""
        now = self.clock.now()
        ticks = []
        for number, partition in self.partitions.items():
            next_at = partition.deadlines.next_at()
            if next_at is not None and next_at <= now and not partition.tick_sent:
                record = Outgoing(self.topic, number, b"tick", codec.encode(Tick(due_at=now)))
                ticks.append((partition, record))
        return ticks

    async def run(self) -> None:
        """Send ticks as they fall due, for ever."""
        while True:
            await asyncio.sleep(RESOLUTION)
            ticks = self.due()
            if not ticks:
                continue
            for partition, _ in ticks:
                partition.tick_sent = True
            try:
                await self.send([record for _, record in ticks])
                metrics.ticks.labels(self.name).inc(len(ticks))
            except (KafkaError, OSError) as error:
                log.warning("ticks were not sent", topic=self.topic, reason=repr(error))
                for partition, _ in ticks:
                    partition.tick_sent = False
