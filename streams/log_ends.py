"""How far Kafka's logs go, asked on a connection of its own: whoever reads them is not believed about that."""

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streams.kafka_cut import mend
from streams.settings import Settings
from streams.topics import topic_name

_CLOSE_S: Final = 1.0


class LogEnds:
    """The next offset of every partition of these topics, as it was last told. Connects when it asks first."""

    def __init__(self, settings: Settings, topics: Iterable[str]) -> None:
        mend()
        self.known: dict[tuple[str, int], int] = {}
        self._settings = settings
        self._names = {topic_name(settings.app_prefix, topic): topic for topic in topics}
        self._client: AIOKafkaConsumer | None = None

    async def ask(self, within: float) -> None:
        """Ask anew; what is known stays where there is no answer within so many seconds."""
        with contextlib.suppress(KafkaError, OSError, TimeoutError):
            async with asyncio.timeout(within):
                client = self._client = self._client or await self._connected()
                partitions = range(self._settings.partitions)
                places = [TopicPartition(name, number) for name in self._names for number in partitions]
                found = await client.end_offsets(places)
                self.known = {(self._names[place.topic], place.partition): end for place, end in found.items()}

    async def close(self) -> None:
        """Disconnect."""
        if self._client is not None:
            await _closed(self._client)

    async def _connected(self) -> AIOKafkaConsumer:
        client = AIOKafkaConsumer(bootstrap_servers=self._settings.kafka_url, enable_auto_commit=False)
        try:
            await client.start()
        except BaseException:
            await _closed(client)
            raise
        return client


async def _closed(client: AIOKafkaConsumer) -> None:
    with contextlib.suppress(KafkaError, OSError, TimeoutError):
        async with asyncio.timeout(_CLOSE_S):
            await client.stop()
