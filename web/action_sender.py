"""Actions on their way to the owner of an incident's group, and what became of them."""

import asyncio
import time
import uuid
from typing import Final

from aiokafka.errors import KafkaError

from sinks import action_rows
from sinks.action_rows import Outcome
from streams import codec, keys, metrics
from streams.kafka_link import KafkaLink, NotConnectedError
from streams.records import Action
from streams.settings import Settings
from streams.topics import INPUTS, topic_name
from web.database import Database
from web.problems import PartAwayError

CONFIRM_SECONDS: Final = 4.0
WAIT_SECONDS: Final = 5.0
_PAUSES: Final = (0.01, 0.02, 0.03, 0.05, 0.1)


class ActionSender:
    """Puts actions onto `incident-inputs`, confirmed, and waits for the row that says how they ended."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._partitions = settings.partitions
        self._database = database
        self._link = KafkaLink(settings, topic_name(settings.app_prefix, INPUTS))

    def start(self) -> None:
        """Begin to connect."""
        self._link.start()

    async def stop(self) -> None:
        """Disconnect."""
        await self._link.stop()

    async def send(self, action: Action) -> None:
        """Give it to Kafka; once this returns it will be decided.

        Raises:
            PartAwayError: Kafka has not confirmed it; asking again with the same id does no harm.
        """
        number = keys.partition_of(action.group, self._partitions)
        try:
            async with asyncio.timeout(CONFIRM_SECONDS):
                await (await self._link.send(number, action.group.encode(), codec.encode(action)))
        except (NotConnectedError, KafkaError, TimeoutError, OSError) as error:
            metrics.produced_records.labels(INPUTS, "failed").inc()
            if not isinstance(error, NotConnectedError):
                self._link.seen_failing(repr(error))
            raise PartAwayError("Kafka did not take it: nothing may have changed, try again") from error
        metrics.produced_records.labels(INPUTS, "confirmed").inc()
        self._link.seen_well()

    async def outcome(self, action_id: uuid.UUID) -> Outcome | None:
        """What became of an action so far."""
        async with self._database.reading() as conn:
            return await action_rows.outcome(conn, action_id)

    async def ended(self, action_id: uuid.UUID) -> Outcome | None:
        """What became of an action, waited for; None when that takes too long."""
        began = time.monotonic()
        turn = 0
        while True:
            found = await self.outcome(action_id)
            if found is not None or time.monotonic() - began > WAIT_SECONDS:
                return found
            await asyncio.sleep(_PAUSES[min(turn, len(_PAUSES) - 1)])
            turn += 1
