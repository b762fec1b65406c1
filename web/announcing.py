"""Silences on their way to the workers: told to every partition of incident-inputs until each has applied them."""

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import asyncpg
import structlog
from aiokafka.errors import KafkaError

from sinks import silence_rows
from streams import codec
from streams.kafka_link import KafkaLink, NotConnectedError
from streams.records import Silence, SilenceChanged
from streams.settings import Settings
from streams.topics import INPUTS, topic_name
from web.database import Database, DatabaseAwayError

if TYPE_CHECKING:
    from web.database import Conn

SWEEP_SECONDS: Final = 0.5
AGAIN_SECONDS: Final = 2.0
MAX_ITEMS: Final = 500
MAX_BYTES: Final = 1 << 20
_AWAY: Final = (DatabaseAwayError, NotConnectedError, OSError, TimeoutError, asyncpg.PostgresError, KafkaError)

log = structlog.get_logger(__name__)


class SilenceAnnouncer:
    """Tells each partition what it has not applied; `soon` makes it look at once."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._database = database
        self._link = KafkaLink(settings, topic_name(settings.app_prefix, INPUTS))
        self._changed = asyncio.Event()
        self._told: dict[int, tuple[int, float]] = {}

    def soon(self) -> None:
        """Something was stored."""
        self._changed.set()

    async def run(self) -> None:
        """Sweep for ever; a part that is away is asked again later."""
        self._link.start()
        try:
            while True:
                self._changed.clear()
                try:
                    await self.sweep()
                except _AWAY as error:
                    log.debug("silences_wait", reason=repr(error))
                await self._rest()
        finally:
            await self._link.stop()

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(SWEEP_SECONDS):
                await self._changed.wait()
        except TimeoutError:
            return

    async def sweep(self) -> int:
        """Tell the partitions that are behind; how many were told."""
        async with self._database.reading() as conn:
            found = await silence_rows.applied(conn, INPUTS)
            behind = [(number, at) for number, at in found.behind if self._is_due(number, found.last)]
            records = {at: await self._record(conn, at, found.last) for at in {at for _, at in behind}}
        if behind:
            await self._send([(number, records[at]) for number, at in behind])
            log.debug("silences_announced", upto=found.last, partitions=len(behind))
        return len(behind)

    async def _send(self, records: Sequence[tuple[int, SilenceChanged]]) -> None:
        sent = [await self._link.send(number, b"silences", codec.encode(record)) for number, record in records]
        try:
            await asyncio.gather(*sent)
        except KafkaError as error:
            self._link.seen_failing(repr(error))
            raise
        self._link.seen_well()
        for number, record in records:
            self._told[number] = (record.upto, time.monotonic())

    def _is_due(self, number: int, last: int) -> bool:
        """What was told a moment ago is probably still on its way."""
        upto, at = self._told.get(number, (-1, 0.0))
        return upto < last or time.monotonic() - at > AGAIN_SECONDS

    async def _record(self, conn: "Conn", after: int, last: int) -> SilenceChanged:
        items = await silence_rows.since(conn, after, last, MAX_ITEMS)
        kept = list(_that_fit(items))
        whole = len(kept) == len(items) < MAX_ITEMS
        upto = last if whole else kept[-1].sequence
        return SilenceChanged(after=after, upto=upto, items=tuple(kept), announced_at=datetime.now(UTC))


def _that_fit(items: Iterable[Silence]) -> Iterator[Silence]:
    size = 0
    for item in items:
        size += len(codec.encode(item))
        if size > MAX_BYTES:
            return
        yield item
