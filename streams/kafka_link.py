"""The producer's connection to Kafka: made in the background, watched, and made anew after a failure.

A client that failed is not trusted again: with idempotence its sequence may
have a hole, and a broker that came back may be another one.
"""

import asyncio
import contextlib
import time
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, KafkaError

from streams.kafka_cut import mend
from streams.settings import PREFIX, Settings

_REQUEST_MS: Final = 4000
_START_S: Final = 5.0
_PROBE_S: Final = 1.0
_PROBE_PATIENCE_S: Final = 1.0
_CLOSE_S: Final = 0.5
_PAUSES_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0)
_RECORD_BYTES: Final = 2 << 20

log = structlog.get_logger(__name__)


class NotConnectedError(Exception):
    """Raised by `send` while there is no usable connection."""


class KafkaLink:
    """Holds one started client for one topic, or none while Kafka is away."""

    def __init__(self, settings: Settings, topic: str) -> None:
        mend()
        self._url = settings.kafka_url
        self._partitions = settings.partitions
        self._topic = topic
        self._client: Any = None
        self._idempotent = True
        self._broken = asyncio.Event()
        self._confirmed_at = 0.0
        self._outstanding: set[asyncio.Future[object]] = set()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self.connected = False
        self.detail = "not connected yet"

    def start(self) -> None:
        """Begin to connect, in the background."""
        self._task = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Disconnect."""
        self._stopping = True
        self._broken.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=_CLOSE_S)  # a connection cut while it is made would leak
        while self._task is not None and not self._task.done():
            self._task.cancel()  # more than once: aiokafka's own closing may swallow it
            await asyncio.wait({self._task}, timeout=_CLOSE_S)

    async def send(self, partition: int, key: bytes, value: bytes, *, topic: str = "") -> "asyncio.Future[object]":
        """Hand one record to the client; the future ends when the broker has confirmed or refused it.

        Without a `topic` it is for the link's own.
        """
        if self._client is None:
            raise NotConnectedError(self.detail)
        future: asyncio.Future[object] = await self._client.send(topic or self._topic, value, key, partition=partition)
        self._outstanding.add(future)
        future.add_done_callback(self._outstanding.discard)
        return future

    def seen_well(self) -> None:
        """A record was confirmed just now."""
        self._confirmed_at = time.monotonic()

    def seen_failing(self, detail: str) -> None:
        """A record failed: the client is replaced."""
        self._set(connected=False, detail=detail)
        self._broken.set()

    async def _keep(self) -> None:
        attempt = 0
        while not self._stopping:
            self._broken.clear()
            client = await self._connected_client()
            if client is None:
                await self._until_broken(_PAUSES_S[min(attempt, len(_PAUSES_S) - 1)])
                attempt += 1
                continue
            attempt = 0
            self._client = client
            self._set(connected=True, detail="")
            try:
                await self._watch(client)
            finally:
                self._client = None
                self._set(connected=False, detail=self.detail or "disconnected")
                self._give_up()
                await _closed(client)

    async def _connected_client(self) -> Any:  # noqa: ANN401 - aiokafka has no types
        client = AIOKafkaProducer(
            bootstrap_servers=self._url,
            acks="all",
            enable_idempotence=self._idempotent,
            request_timeout_ms=_REQUEST_MS,
            max_request_size=_RECORD_BYTES,
            max_batch_size=_RECORD_BYTES,
            metadata_max_age_ms=30_000,
        )
        try:
            async with asyncio.timeout(_START_S):
                await client.start()
                flaw = await self._flaw_of_topic(client)
        except KafkaConnectionError as error:
            flaw = str(error)
        except KafkaError as error:
            flaw = f"{type(error).__name__}: {error}"
            if self._idempotent:
                self._idempotent = False
                log.info("kafka_without_idempotence", reason=flaw)
        except (OSError, TimeoutError) as error:
            flaw = str(error) or f"no answer within {_START_S:g} s"
        except BaseException:
            await _closed(client)
            raise
        if not flaw:
            return client
        self._set(connected=False, detail=flaw)
        await _closed(client)
        return None

    async def _flaw_of_topic(self, client: Any) -> str:  # noqa: ANN401 - likewise
        cluster = await client.client.fetch_all_metadata()
        found = cluster.partitions_for_topic(self._topic)
        if not found:
            return f"topic {self._topic} does not exist"
        if len(found) != self._partitions:
            return f"topic {self._topic} has {len(found)} partitions, {PREFIX}PARTITIONS says {self._partitions}"
        return ""

    async def _watch(self, client: Any) -> None:  # noqa: ANN401 - likewise
        """Ask the broker now and then while nothing else shows that it is there; return when it is not."""
        while not self._broken.is_set():
            await self._until_broken(_PROBE_S)
            if time.monotonic() - self._confirmed_at < _PROBE_S or self._broken.is_set():
                continue
            try:
                async with asyncio.timeout(_PROBE_PATIENCE_S):
                    await client.client.fetch_all_metadata()
            except (KafkaError, OSError, TimeoutError) as error:
                self._set(connected=False, detail=str(error) or f"no answer within {_PROBE_PATIENCE_S:g} s")
                return

    async def _until_broken(self, seconds: float) -> None:
        """Wait so long, or until the client fails or is no longer wanted."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._broken.wait()

    def _give_up(self) -> None:
        """Nobody is left waiting for a client that is given up; what it has sent may still arrive."""
        for future in list(self._outstanding):
            if not future.done():
                future.set_exception(NotConnectedError(self.detail))

    def _set(self, *, connected: bool, detail: str) -> None:
        if connected != self.connected and not self._stopping:
            event = "kafka_connected" if connected else "kafka_lost"
            log.info(event, address=self._url, topic=self._topic, detail=detail)
        self.connected = connected
        self.detail = detail


async def _closed(client: Any) -> None:  # noqa: ANN401 - likewise
    """Close a client without waiting for a broker that is away."""
    with contextlib.suppress(KafkaError, OSError, TimeoutError):
        async with asyncio.timeout(_CLOSE_S):
            await client.stop()
            return
    with contextlib.suppress(KafkaError, OSError, TimeoutError):
        async with asyncio.timeout(_CLOSE_S):
            await client.client.close()
