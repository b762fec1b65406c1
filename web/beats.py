"""Beats on their way to Postgres: those that come together go in one statement, and each is answered once it is there.

So a flood of beats costs a statement at a time, however many there are, and one row for each thing.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from sinks import heartbeat_rows
from sinks.heartbeat_rows import Beat, HeartbeatView
from streams import metrics
from web.database import Database, DatabaseAwayError

MAX_WAITING: Final = 20_000

Key = tuple[str, str]
Stored = dict[Key, HeartbeatView]


class Beats:
    """Gathers beats while the ones before them are being stored."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[Key, Beat] = {}
        self._next: asyncio.Future[Stored] | None = None
        self._task: asyncio.Task[None] | None = None

    async def take(self, beat: Beat) -> HeartbeatView | None:
        """Return once the beat is stored, with how the thing stands; None where no interval is known of it.

        Raises:
            DatabaseAwayError: it is not stored, or too many wait.
        """
        key = (beat.team, beat.name)
        before = self._waiting.get(key)
        if before is None and len(self._waiting) >= MAX_WAITING:
            raise DatabaseAwayError("too many beats wait")
        self._waiting[key] = beat.after(before) if before is not None else beat
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        stored = self._next
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._store())
        return (await asyncio.shield(stored)).get(key)

    async def _store(self) -> None:
        while self._next is not None:
            stored, some = self._next, list(self._waiting.values())
            self._next, self._waiting = None, {}
            try:
                stored.set_result(await self._stored(some))
            except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
                stored.set_exception(error)
                stored.exception()  # nobody may wait any more

    async def _stored(self, beats: Sequence[Beat]) -> Stored:
        async with self._database.writing() as conn:
            found = await heartbeat_rows.beat(conn, beats)
        metrics.heartbeats.inc(sum(beat.beats for beat in beats))
        return found
