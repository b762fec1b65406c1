"""What the gateway measures of the whole: how far readers are behind, incidents, dead letters, sizes.

It asks Kafka for the ends of the logs and Postgres for what was applied, so the figures are there, and grow, when a
worker hangs or is gone.
"""

import asyncio
import contextlib
import time
from collections import deque
from itertools import count
from typing import Final

from sinks import measure_reads
from streams import metrics
from streams.backlog import Backlog
from streams.log_ends import LogEnds
from streams.observe import Health
from streams.settings import Settings
from streams.topics import ALERTS, INPUTS
from web.database import Database, DatabaseAwayError

EVERY: Final = 2.0
_SIZES_EVERY: Final = 15
_PATIENCE: Final = 5.0
GROWTH: Final = 10
GROWTH_WITHIN: Final = 600.0
"""So many more dead letters within these seconds degrade the gateway."""
_TOPICS: Final = (ALERTS, INPUTS)

Place = tuple[str, int]


class Measures:
    """Keeps the gauges of the whole system."""

    def __init__(self, settings: Settings, database: Database, health: Health) -> None:
        self._settings = settings
        self._health = health
        self._letters: deque[tuple[float, int]] = deque()
        self._database = database
        self._backlogs: dict[Place, Backlog] = {}
        self._ends = LogEnds(settings, _TOPICS)
        self._applied: dict[Place, int] = {}
        for topic in _TOPICS:
            metrics.partitions.labels(topic).set(settings.partitions)

    async def run(self) -> None:
        """Measure for ever."""
        try:
            for number in count():
                await self._look(with_sizes=number % _SIZES_EVERY == 0)
                await asyncio.sleep(EVERY)
        finally:
            await self._ends.close()

    async def _look(self, *, with_sizes: bool) -> None:
        await self._ends.ask(_PATIENCE)
        with contextlib.suppress(DatabaseAwayError):
            async with self._database.reading() as conn:
                self._measure_backlog(await measure_reads.applied(conn))
                _measure_incidents(await measure_reads.active(conn))
                self._look_at_letters(await measure_reads.dead_letters(conn))
                if with_sizes:
                    for table, size in (await measure_reads.sizes(conn)).items():
                        metrics.postgres_table_bytes.labels(table).set(size)
            return
        self._measure_backlog({})

    def _look_at_letters(self, waiting: int) -> None:
        metrics.dead_letters_waiting.set(waiting)
        now = time.monotonic()
        self._letters.append((now, waiting))
        while self._letters[0][0] < now - GROWTH_WITHIN:
            self._letters.popleft()
        new = waiting - min(count for _, count in self._letters)
        detail = f"{new} more within {GROWTH_WITHIN / 60:.0f} minutes, {waiting} in all" if new > GROWTH else ""
        self._health.set("dead letters", ok=new <= GROWTH, detail=detail, required=False)

    def _measure_backlog(self, applied: dict[Place, int]) -> None:
        """What is not applied by what was last known of either side."""
        now = time.monotonic()
        self._applied |= applied
        for topic in _TOPICS:
            behind, oldest = 0, 0.0
            for number in range(self._settings.partitions):
                place = (topic, number)
                following = self._applied.get(place, -1) + 1
                end = self._ends.known.get(place, following)
                behind += max(0, end - following)
                oldest = max(oldest, self._backlogs.setdefault(place, Backlog()).age(end, following, now))
            metrics.backlog_records.labels(topic).set(behind)
            metrics.backlog_seconds.labels(topic).set(oldest)


def _measure_incidents(active: dict[tuple[str, str], int]) -> None:
    for status in metrics.ACTIVE_STATUSES:
        for severity in metrics.SEVERITIES:
            metrics.active_incidents.labels(status, severity).set(active.get((status, severity), 0))
