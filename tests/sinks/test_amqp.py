"""Incident changes reach a topic exchange of a real RabbitMQ, confirmed."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aio_pika
import pytest

from sinks.amqp import Amqp, routing_key
from sinks.outcome import Failed, Outcome, Reason, RetryLater, Sent
from streams import trace_context
from tests.sinks.tellings import TASK, TRACE, telling


@pytest.fixture
async def amqp() -> AsyncIterator[Amqp]:
    amqp = Amqp(3.0)
    yield amqp
    await amqp.close()


@pytest.fixture
async def broker(amqp_url: str) -> AsyncIterator[aio_pika.abc.AbstractChannel]:
    async with await aio_pika.connect(amqp_url) as connection:
        yield await connection.channel()


def options(url: str, prefix: str, **given: Any) -> dict[str, Any]:
    return {"url": url, "exchange": f"{prefix}.incidents", **given}


async def test_a_change_is_published_to_the_topic_exchange(
    amqp: Amqp, broker: aio_pika.abc.AbstractChannel, amqp_url: str, app_prefix: str
) -> None:
    exchange = await broker.declare_exchange(f"{app_prefix}.incidents", "topic", durable=True)
    queue = await broker.declare_queue(exclusive=True)
    await queue.bind(exchange, "incident.*.critical.#")
    told = telling(options(amqp_url, app_prefix))
    assert isinstance(await amqp.tell(told), Sent)
    trace_context.current.set(TRACE)
    assert isinstance(await amqp.tell(told), Sent)
    first, again = [await queue.get(timeout=5) for _ in range(2)]
    assert first.message_id == again.message_id == str(TASK)
    assert first.body == again.body
    assert "traceparent" not in first.headers
    assert again.headers["traceparent"] == TRACE
    assert first.routing_key == "incident.firing.critical.other"
    assert first.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
    assert json.loads(first.body)["incident"]["title"] == "Down"


async def test_an_exchange_that_is_missing_is_made_and_one_of_another_kind_refused(
    amqp: Amqp, broker: aio_pika.abc.AbstractChannel, amqp_url: str, app_prefix: str
) -> None:
    assert isinstance(await amqp.tell(telling(options(amqp_url, app_prefix))), Sent)
    await broker.declare_exchange(f"{app_prefix}.fanout", "fanout", durable=True)
    outcome = await amqp.tell(telling(options(amqp_url, app_prefix, exchange=f"{app_prefix}.fanout")))
    assert (type(outcome), outcome.reason) == (Failed, Reason.CLIENT_ERROR)


async def test_a_connection_that_was_cut_is_opened_again(amqp: Amqp, amqp_url: str, app_prefix: str) -> None:
    told = telling(options(amqp_url, app_prefix))
    assert isinstance(await amqp.tell(told), Sent)
    [link] = amqp._links.values()
    assert link._connection is not None
    await link._connection.close()
    assert isinstance(await amqp.tell(told), Sent)


async def test_many_at_once_share_one_connection(amqp: Amqp, amqp_url: str, app_prefix: str) -> None:
    told = telling(options(amqp_url, app_prefix))
    outcomes = await asyncio.gather(*(amqp.tell(told) for _ in range(50)))
    assert all(isinstance(one, Sent) for one in outcomes)


@pytest.mark.parametrize(
    ("url", "kind", "reason"),
    [
        ("amqp://127.0.0.1:1/", RetryLater, Reason.NETWORK),
        ("amqp://169.254.169.254/", Failed, Reason.REFUSED_TARGET),
    ],
)
async def test_where_nobody_may_answer(amqp: Amqp, url: str, kind: type[Outcome], reason: Reason) -> None:
    outcome = await amqp.tell(telling(options(url, "x")))
    assert (type(outcome), outcome.reason) == (kind, reason)


async def test_a_wrong_password_fails_for_good(amqp: Amqp, amqp_url: str, app_prefix: str) -> None:
    host = amqp_url.rpartition("@")[2]
    outcome = await amqp.tell(telling(options(f"amqp://nobody:wrong@{host}", app_prefix)))
    assert (type(outcome), outcome.reason) == (Failed, Reason.AUTH)
    assert "wrong" not in outcome.detail


async def test_a_broker_that_hangs_is_left_at_the_deadline(app_prefix: str) -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(hang, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        outcome = await Amqp(0.5).tell(telling(options(f"amqp://127.0.0.1:{port}/", app_prefix)))
    assert (type(outcome), outcome.reason) == (RetryLater, Reason.TIMEOUT)


def test_the_routing_key_says_status_severity_and_kind() -> None:
    assert routing_key(telling({}, resolved=True)) == "incident.resolved.critical.other"
    assert routing_key(telling({"routing_key": "ops.{{ .Title }}"})) == "ops.Down"
