"""The AMQP channel: incident changes to a topic exchange, confirmed by the broker.

The connection to each broker is kept. A message is persistent, its id is the
task's, and its body is the incident JSON of webhooks with `format: incidents`.
"""

import asyncio
import socket
import ssl
from typing import Any, Final

import aio_pika
import httpcore
from aio_pika.exceptions import AMQPConnectionError, AMQPError, DeliveryError, ProbableAuthenticationError
from aiormq.connection import TransportFactory
from aiormq.exceptions import ChannelAccessRefused, ChannelPreconditionFailed
from yarl import URL

from sinks.addresses import RefusedAddressError, connected_socket
from sinks.channel import Telling
from sinks.jinja_texts import words
from sinks.message import incident_body, status_of
from sinks.outcome import Failed, Outcome, Reason, RetryLater, Sent
from sinks.request import encode
from sinks.tls import client_context
from sinks.wording import cut_bytes
from streams import trace_context

EXCHANGE: Final = "incidents"
MAX_ROUTING_KEY: Final = 255
_MAX_DETAIL: Final = 300
_FINAL: Final[dict[type[Exception], Reason]] = {
    RefusedAddressError: Reason.REFUSED_TARGET,
    ProbableAuthenticationError: Reason.AUTH,
    ChannelAccessRefused: Reason.AUTH,
    ChannelPreconditionFailed: Reason.CLIENT_ERROR,
}


class Amqp:
    """Publishes; one for each process, closed at its end. `deadline` is of one publication [s]."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._links: dict[tuple[str, str, bytes], _Link] = {}

    async def tell(self, telling: Telling) -> Outcome:
        """Publish one change; the broker's confirmation makes it sent."""
        options = telling.options
        url, exchange_name = options.get("url") or telling.target, options.get("exchange") or EXCHANGE
        tls = options.get("tls_config") or {}
        link = self._links.setdefault((url, exchange_name, encode(tls)), _Link(url, exchange_name, tls))
        notice = telling.notice
        own = words(options, notice, telling.reason)
        message = aio_pika.Message(
            incident_body(notice, str(telling.id), telling.reason, telling.made_at, own),
            message_id=str(telling.id),
            content_type="application/json",
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            timestamp=telling.made_at,
            type="incident",
            headers=_headers(telling),
        )
        try:
            async with asyncio.timeout(self._deadline):
                exchange = await link.exchange()
                await exchange.publish(message, routing_key(telling), mandatory=False)
        except TimeoutError:
            await link.close()
            return RetryLater(Reason.TIMEOUT, f"not confirmed within {self._deadline:g} s")
        except (AMQPError, httpcore.ConnectError, OSError, RuntimeError, ValueError) as error:
            await link.close()
            return of_error(error)
        return Sent("confirmed")

    async def close(self) -> None:
        """Close every connection."""
        for link in self._links.values():
            await link.close()


def routing_key(telling: Telling) -> str:
    """What the integration says, else `incident.<status>.<severity>.<kind>`."""
    incident = telling.notice.incident
    usual = ".".join(("incident", status_of(telling.notice), incident.severity, incident.kind))
    return cut_bytes(telling.option("routing_key") or usual, MAX_ROUTING_KEY)


def _headers(telling: Telling) -> dict[str, Any]:
    incident, trace = telling.notice.incident, trace_context.current.get()
    said = {"incident": incident.id, "severity": incident.severity, "status": status_of(telling.notice)}
    return {**said, "traceparent": trace} if trace else said


def of_error(error: Exception) -> Outcome:
    """What it means that nothing was confirmed."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"[:_MAX_DETAIL]
    for kind, reason in _FINAL.items():
        if isinstance(error, kind):
            return Failed(reason, text)
    if isinstance(error, ssl.SSLError) or isinstance(error.__cause__, ssl.SSLError):
        return RetryLater(Reason.TLS, text)
    return RetryLater(Reason.SERVER_ERROR if isinstance(error, DeliveryError) else Reason.NETWORK, text)


class _Link:
    """One broker and exchange; opened when it is needed."""

    def __init__(self, url: str, exchange: str, tls: dict[str, Any]) -> None:
        self._url = URL(url)
        self._name = exchange
        self._tls = tls
        self._connection: aio_pika.abc.AbstractConnection | None = None
        self._channel: aio_pika.abc.AbstractChannel | None = None
        self._exchange: aio_pika.abc.AbstractExchange | None = None
        self._opening = asyncio.Lock()

    async def exchange(self) -> aio_pika.abc.AbstractExchange:
        """The exchange over a connection that was seen well; made where it is missing."""
        async with self._opening:
            if self._exchange is None or self._channel is None or self._channel.is_closed:
                await self.close()
                context = client_context(self._tls) if self._url.scheme == "amqps" else None
                connection = aio_pika.Connection(self._url, ssl_context=context)
                connection.kwargs["transport_factory"] = _Checked(context, self._tls.get("server_name"))
                self._connection = connection
                await connection.connect()
                self._channel = await connection.channel(publisher_confirms=True)
                self._exchange = await self._channel.declare_exchange(
                    self._name, aio_pika.ExchangeType.TOPIC, durable=True
                )
            return self._exchange

    async def close(self) -> None:
        """Forget the connection; the next notice opens another."""
        connection = self._connection
        self._connection = self._channel = self._exchange = None
        if connection is not None:
            try:
                async with asyncio.timeout(1):
                    await connection.close()
            except (TimeoutError, AMQPError, OSError, RuntimeError):
                pass


class _Checked(TransportFactory):
    """aiormq's connection over a socket to a checked address."""

    def __init__(self, context: ssl.SSLContext | None, server_name: str | None) -> None:
        self._context = context
        self._server_name = server_name

    async def create(self, url: URL, **_kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:  # noqa: ANN401 - aiormq's own
        made: socket.socket = await connected_socket(url.host or "", url.port or 5672)
        name = (self._server_name or url.host) if self._context is not None else None
        try:
            return await asyncio.open_connection(sock=made, ssl=self._context, server_hostname=name)
        except OSError as error:
            raise AMQPConnectionError(*error.args) from error
