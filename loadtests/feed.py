"""Brings a fixed list of events in, over RabbitMQ with confirms or over HTTP, and keeps the ledger of it."""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

import aio_pika
import httpx
import msgspec
from aio_pika.exceptions import AMQPError, DeliveryError

from loadtests.ledger_file import Entry, Outcome
from loadtests.mixes import Event, body
from loadtests.plan import AmqpEndpoint, Endpoints

_WINDOW: Final = 200
_HTTP_WINDOW: Final = 16
_CONFIRM_S: Final = 30.0
_ROUTING_KEY: Final = "llm.alert"
_PATH: Final = "/api/v1/alerts"

Told = Callable[[int], None]


class _Recorded(msgspec.Struct, frozen=True):
    """The events that an answer speaks of, taken or refused with a record of it."""

    event_ids: list[str] = []


async def feed(endpoints: Endpoints, events: Sequence[Event], told: Told) -> list[Entry]:
    """Send everything in order; `told` hears how many are through each time."""
    if endpoints.amqp is not None:
        return await _over_amqp(endpoints.amqp, events, told)
    if endpoints.http is None:
        raise ConnectionError("this system takes alerts neither over RabbitMQ nor over HTTP")
    return await _over_http(endpoints.http, events, told)


async def _over_amqp(amqp: AmqpEndpoint, events: Sequence[Event], told: Told) -> list[Entry]:
    entries: list[Entry] = []
    connection = await aio_pika.connect(amqp.url)
    async with connection:
        channel = await connection.channel(publisher_confirms=True)
        exchange = await channel.get_exchange(amqp.exchange, ensure=True)
        for start in range(0, len(events), _WINDOW):
            window = events[start : start + _WINDOW]
            entries += await asyncio.gather(*(_published(exchange, event) for event in window))
            told(len(entries))
    return entries


async def _published(exchange: aio_pika.abc.AbstractExchange, event: Event) -> Entry:
    sent_us = _now_us()
    message = aio_pika.Message(
        body(event, datetime.fromtimestamp(sent_us / 1e6, UTC)),
        content_type="application/json",
        message_id=event.event_id,
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
    )
    try:
        await exchange.publish(message, _ROUTING_KEY, mandatory=True, timeout=_CONFIRM_S)
        outcome = Outcome.CONFIRMED
    except DeliveryError:
        outcome = Outcome.REFUSED
    except (AMQPError, OSError, TimeoutError):
        outcome = Outcome.UNKNOWN
    return Entry(event.event_id, sent_us, _now_us(), outcome)


async def _over_http(url: str, events: Sequence[Event], told: Told) -> list[Entry]:
    entries: list[Entry] = []
    async with httpx.AsyncClient(base_url=url, timeout=_CONFIRM_S) as client:
        for start in range(0, len(events), _HTTP_WINDOW):
            window = events[start : start + _HTTP_WINDOW]
            entries += await asyncio.gather(*(_posted(client, event) for event in window))
            told(len(entries))
    return entries


async def _posted(client: httpx.AsyncClient, event: Event) -> Entry:
    sent_us = _now_us()
    headers = {"content-type": "application/json", "idempotency-key": event.event_id}
    try:
        answer = await client.post(
            _PATH, content=body(event, datetime.fromtimestamp(sent_us / 1e6, UTC)), headers=headers
        )
        recorded = msgspec.json.decode(answer.content, type=_Recorded).event_ids
        outcome = Outcome.CONFIRMED if recorded else Outcome.REFUSED
    except (httpx.HTTPError, msgspec.MsgspecError):
        outcome = Outcome.UNKNOWN
    return Entry(event.event_id, sent_us, _now_us(), outcome)


def _now_us() -> int:
    return time.time_ns() // 1000
