"""Time as records: the owner of a partition sends it a Tick when something is due."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from aiokafka.errors import KafkaError

from agents.step import Outgoing, Partition
from streams import codec
from streams.records import Tick

RESOLUTION: Final = 0.05

log = structlog.get_logger()


class Clock:
    """Wall time read once, moved on by the monotonic clock: a jump of the wall clock does not fire deadlines."""

    def __init__(self) -> None:
        self._wall = datetime.now(UTC)
        self._monotonic = time.monotonic()

    def now(self) -> datetime:
        """Now, in UTC."""
        return self._wall + timedelta(seconds=time.monotonic() - self._monotonic)


class Timers:
    """Watches the deadlines of the partitions of one topic that this process owns."""

    def __init__(
        self,
        topic: str,
        partitions: Mapping[int, Partition],
        send: Callable[[Sequence[Outgoing]], Awaitable[None]],
        clock: Clock,
    ) -> None:
        self.topic = topic
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
            except (KafkaError, OSError) as error:
                log.warning("ticks were not sent", topic=self.topic, reason=repr(error))
                for partition, _ in ticks:
                    partition.tick_sent = False
