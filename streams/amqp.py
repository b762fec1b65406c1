"""What we keep on RabbitMQ: a topic exchange with a quorum queue for alerts, and the same for dead letters."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import aio_pika
import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange
from aiormq.abc import ArgumentsType
from aiormq.exceptions import AMQPError, ChannelPreconditionFailed

from streams.amqp_bursts import Deliver, bursting
from streams.settings import Settings

HANDOVER_TYPE: Final = "application/vnd.incidents.alertbatch"
HANDOVER_KEY: Final = "gateway.handover"
# RabbitMQ 4 drops a message after 20 deliveries unless told otherwise; while Kafka is away ours come back often.
QUORUM: Final[ArgumentsType] = {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000}
_CONNECT_S: Final = 5.0
_HEARTBEAT_S: Final = 4  # a peer that is silent three times as long is gone
_CLOSE_S: Final = 1.0

CONNECTION_ERRORS: Final = (AMQPError, OSError, asyncio.TimeoutError, asyncio.InvalidStateError, RuntimeError)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Topology:
    """The names on the broker. `dead` is an exchange and a queue."""

    exchange: str
    queue: str
    dead: str

    @classmethod
    def of(cls, settings: Settings) -> "Topology":
        """The names that the settings give; senders use them as they are."""
        return cls(settings.amqp_exchange, settings.amqp_queue, f"{settings.amqp_exchange}.dead")

    async def declare(self, connection: AbstractConnection) -> None:
        """Make what is missing; what somebody made otherwise is used as it is, and said."""
        for exchange, queue in ((self.exchange, self.queue), (self.dead, self.dead)):
            await _declare(connection, exchange, queue)


async def _declare(connection: AbstractConnection, exchange: str, queue: str) -> None:
    for passive in (False, True):
        channel = await connection.channel(publisher_confirms=False)
        try:
            await channel.declare_exchange(exchange, aio_pika.ExchangeType.TOPIC, durable=True, passive=passive)
            declared = await channel.declare_queue(queue, durable=True, arguments=QUORUM, passive=passive)
            await declared.bind(exchange, routing_key="#")
            await channel.close()
        except ChannelPreconditionFailed as error:
            if passive:
                raise
            log.warning("amqp_declared_otherwise", exchange=exchange, queue=queue, reason=str(error))
        else:
            return


@contextlib.asynccontextmanager
async def connected(settings: Settings, deliver: Deliver | None = None) -> AsyncIterator[AbstractConnection]:
    """A connection with everything declared; `deliver` takes what its consumer is sent.

    Raises:
        one of `CONNECTION_ERRORS`: the broker is away or refuses.
    """
    kind = bursting(deliver, settings.batch_interval / 1000) if deliver else aio_pika.Connection
    connection = await aio_pika.connect(
        settings.amqp_url, timeout=_CONNECT_S, heartbeat=_HEARTBEAT_S, connection_class=kind
    )
    try:
        async with asyncio.timeout(_CONNECT_S):
            await Topology.of(settings).declare(connection)
        yield connection
    finally:
        with contextlib.suppress(*CONNECTION_ERRORS):
            async with asyncio.timeout(_CLOSE_S):
                await connection.close()


async def confirming(connection: AbstractConnection, exchange: str) -> tuple[AbstractChannel, AbstractExchange]:
    """An exchange to publish to with confirms; a message that reaches no queue raises."""
    channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
    return channel, await channel.get_exchange(exchange, ensure=False)
