"""The gateway's second place for accepted events: RabbitMQ, while Kafka does not confirm.

A handed-over message carries a packed `AlertBatch` with its event ids; the
bridge passes it on as it is, so an event that Kafka had all the same is known.
"""

import asyncio
import contextlib
from typing import Final

import aio_pika
import structlog
from aio_pika.abc import AbstractChannel, AbstractExchange

from streams import codec, metrics
from streams.amqp import CONNECTION_ERRORS, HANDOVER_KEY, HANDOVER_TYPE, Topology, confirming, connected
from streams.observe import Question
from streams.producer import pieces
from streams.records import AlertBatch
from streams.settings import Settings

_CONFIRM_S: Final = 2.0
_PROBE_S: Final = 0.9
_LOOK_S: Final = 0.2
_LOOKS: Final = 15
"""So often in a row the queue must be empty: what the bridge has in hand is not counted, and it needs so long
to find Kafka again and pass that on."""
_PAUSES_S: Final = (0.1, 0.2, 0.5, 1.0)
_WAITING: Final = 256

log = structlog.get_logger(__name__)


class FallbackUnavailableError(Exception):
    """Raised when RabbitMQ did not confirm; it may have the events all the same."""


class Fallback:
    """Publishes to the alerts exchange with confirms. `connected` and `detail` are for readiness."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._exchange: AbstractExchange | None = None
        self._is_silent = False
        self._empty_looks = _LOOKS
        self._has_asked = False
        self._broken = asyncio.Event()
        self._room = asyncio.Semaphore(_WAITING)
        self._task: asyncio.Task[None] | None = None
        self.detail = "not connected yet" if settings.amqp_url else "AMQP is off"

    @property
    def connected(self) -> bool:
        """Whether RabbitMQ can be published to, and answers."""
        return self._exchange is not None and not self._is_silent

    @property
    def behind(self) -> bool:
        """Whether RabbitMQ may still hold what it was given, here or before a restart, as far as one has looked."""
        return self._empty_looks < _LOOKS

    def look_anew(self) -> None:
        """Its queue must be seen empty again: until now what left it had nowhere to go."""
        self._empty_looks = 0

    async def start(self) -> None:
        """Begin to connect; returns at once. Without an address there is nothing to connect to."""
        if self._settings.amqp_url:
            self._task = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Disconnect."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def publish(self, batch: AlertBatch) -> None:
        """Return when RabbitMQ has confirmed every item.

        Raises:
            FallbackUnavailableError: it has not.
        """
        exchange = self._exchange
        if exchange is None or self._room.locked():
            metrics.fallback_messages.labels("failed").inc()
            raise FallbackUnavailableError(self.detail or "too many wait for RabbitMQ already")
        async with self._room:
            try:
                async with asyncio.timeout(_CONFIRM_S):
                    for part in pieces(batch):
                        await exchange.publish(_message(part), HANDOVER_KEY, mandatory=True)
            except Exception as error:  # aiormq raises a bare one when the connection goes while it writes
                metrics.fallback_messages.labels("failed").inc()
                self.detail = f"{type(error).__name__}: {error}"
                self._broken.set()
                raise FallbackUnavailableError(self.detail) from error
        if not self.behind:
            self._empty_looks = 0
        metrics.fallback_messages.labels("confirmed").inc(len(batch.items))

    async def _keep(self) -> None:
        attempt = 0
        while True:
            try:
                async with connected(self._settings) as connection:
                    channel, exchange = await confirming(connection, Topology.of(self._settings).exchange)
                    if not self._has_asked and await self._waiting(channel):
                        self.look_anew()
                    self._has_asked = True
                    self._broken.clear()
                    channel.close_callbacks.add(self._closed)
                    connection.close_callbacks.add(self._closed)
                    self._exchange, self.detail, attempt = exchange, "", 0
                    await self._watch(channel, exchange.name)
            except CONNECTION_ERRORS as error:
                self.detail = f"{type(error).__name__}: {error}"
            finally:
                self._exchange = None
            await asyncio.sleep(_PAUSES_S[min(attempt, len(_PAUSES_S) - 1)])
            attempt += 1

    async def _watch(self, channel: AbstractChannel, exchange: str) -> None:
        """Ask whether it is there until the connection breaks; one that hangs is given up by its heartbeat."""

        async def ask() -> None:
            if not self.behind:
                await channel.declare_exchange(exchange, passive=True)
                return
            self._empty_looks = 0 if await self._waiting(channel) else self._empty_looks + 1

        question = Question(ask, _PROBE_S)
        try:
            while not self._broken.is_set():
                flaw = await question.flaw(*CONNECTION_ERRORS)
                self._is_silent, self.detail = bool(flaw), flaw or ""
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_S if self.behind else _PROBE_S):
                        await self._broken.wait()
        finally:
            self._is_silent = False

    async def _waiting(self, channel: AbstractChannel) -> int:
        """Messages that lie in the queue; those that the bridge has in hand are not among them."""
        async with asyncio.timeout(_CONFIRM_S):
            queue = await channel.declare_queue(Topology.of(self._settings).queue, passive=True)
        return queue.declaration_result.message_count or 0

    def _closed(self, _sender: object, reason: BaseException | None) -> None:
        self._exchange = None
        self.detail = str(reason or "the connection was closed")
        self._broken.set()


def _message(batch: AlertBatch) -> aio_pika.Message:
    return aio_pika.Message(
        codec.encode(batch),
        content_type=HANDOVER_TYPE,
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        timestamp=batch.accepted_at,
    )
