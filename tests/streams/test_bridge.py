"""The bridge with a real RabbitMQ and a real Kafka: what it acknowledges is on Kafka, what it refuses can be found."""

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Self

import aio_pika
import pytest
from aio_pika.abc import AbstractConnection
from aiokafka import AIOKafkaConsumer, TopicPartition

from embedded.account import server_account
from embedded.rabbitmq import RabbitMQ, find_server
from streams import codec
from streams.amqp import HANDOVER_TYPE, Topology
from streams.bridge import Bridge
from streams.capacity import Capacity
from streams.fallback import Fallback, FallbackUnavailableError
from streams.intake import parse_own
from streams.observe import Health
from streams.producer import EventProducer
from streams.records import WAITED, Alert, AlertBatch, Rejected
from streams.settings import Settings
from streams.topic_admin import ensure_topics
from streams.topics import ALERTS, topic_name
from tests.conftest import Broker

PATIENCE = 20.0
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
async def wired(settings: Settings, kafka: Broker, amqp_url: str) -> Settings:
    both = dataclasses.replace(
        settings,
        kafka_url=kafka.url,
        amqp_url=amqp_url,
        amqp_exchange=settings.app_prefix,
        amqp_queue=f"{settings.app_prefix}.in",
        amqp_prefetch=200,
    )
    await ensure_topics(both, lambda _: None)
    return both


class Running:
    """A bridge in this process, with its producer."""

    def __init__(self, settings: Settings, capacity: Capacity | None = None) -> None:
        self.settings = settings
        self.capacity = capacity
        self.stop = asyncio.Event()
        self.producer = EventProducer(settings)
        self.health = Health("bridge")
        self.task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.producer.start()
        self.task = asyncio.create_task(
            Bridge(self.settings, self.producer, self.health, self.stop, self.capacity).run()
        )
        await until(lambda: self.producer.connected and self.health.is_ok("rabbitmq"))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop.set()
        assert self.task is not None
        async with asyncio.timeout(5):
            await self.task
        await self.producer.stop()


async def until(true: Callable[[], Any]) -> None:
    """Yield to the loop until something holds."""
    async with asyncio.timeout(PATIENCE):
        while not true():
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def connection(settings: Settings) -> AsyncIterator[AbstractConnection]:
    opened = await aio_pika.connect(settings.amqp_url)
    try:
        yield opened
    finally:
        await opened.close()


async def send(settings: Settings, *messages: aio_pika.Message) -> None:
    async with connection(settings) as opened:
        channel = await opened.channel(publisher_confirms=True, on_return_raises=True)
        exchange = await channel.get_exchange(Topology.of(settings).exchange)
        await asyncio.gather(*(exchange.publish(message, "alerts.test") for message in messages))


def said(index: int, **more: object) -> dict[str, object]:
    return {
        "source": "test",
        "status": "firing",
        "summary": f"alert {index}",
        "labels": {"alertname": "A", "n": str(index)},
        **more,
    }


def message(body: object, **properties: Any) -> aio_pika.Message:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return aio_pika.Message(text, content_type="application/json", **properties)


async def batches(settings: Settings, enough: Callable[[list[AlertBatch]], bool]) -> list[AlertBatch]:
    """What is on `alerts`, read from the start until it is enough."""
    topic = topic_name(settings.app_prefix, ALERTS)
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka_url, fetch_max_wait_ms=20)
    await consumer.start()
    found: list[AlertBatch] = []
    try:
        consumer.assign([TopicPartition(topic, partition) for partition in range(settings.partitions)])
        await consumer.seek_to_beginning()
        async with asyncio.timeout(PATIENCE):
            while not enough(found):
                for records in (await consumer.getmany(timeout_ms=50)).values():
                    for record in records:
                        decoded = codec.decode_alerts(record.value)
                        assert isinstance(decoded, AlertBatch)
                        found.append(decoded)
    finally:
        await consumer.stop()
    return found


def event_ids(found: list[AlertBatch]) -> list[str]:
    return sorted(item.event_id for batch in found for item in batch.items)


async def waiting(settings: Settings, queue: str) -> int:
    async with connection(settings) as opened:
        channel = await opened.channel()
        declared = await channel.declare_queue(queue, passive=True)
        return declared.declaration_result.message_count or 0


class Crowded(Capacity):
    """A bound that is reached or not, as the test says."""

    def __init__(self) -> None:
        self.full = frozenset({0})

    async def without_room(self, items: Sequence[Any]) -> set[int]:
        return set(range(len(items))) if self.full else set()


async def test_what_has_no_room_waits_on_rabbitmq_until_there_is_some(wired: Settings) -> None:
    capacity = Crowded()
    async with Running(wired, capacity) as running:
        await send(wired, *(message(said(index), message_id=f"m{index}") for index in range(10)))
        await until(lambda: running.health.readiness().parts["rabbitmq"].detail.startswith("held"))
        assert await waiting(wired, wired.amqp_queue) == 0  # delivered, and not acknowledged
        capacity.full = frozenset()
        found = await batches(wired, lambda found: len(event_ids(found)) >= 10)
    assert len(event_ids(found)) == 10
    assert await waiting(wired, wired.amqp_queue) == 0


async def test_every_message_is_on_kafka_once_and_the_queue_is_empty_after_a_stop(wired: Settings) -> None:
    async with Running(wired):
        await send(wired, *(message(said(index), message_id=f"m{index}") for index in range(500)))
        found = await batches(wired, lambda got: sum(len(batch.items) for batch in got) >= 500)
    assert event_ids(found) == sorted(f"m{index}" for index in range(500))
    assert {batch.via for batch in found} == {"amqp"}
    assert await waiting(wired, Topology.of(wired).queue) == 0


async def test_a_list_gives_each_item_its_own_event_id(wired: Settings) -> None:
    async with Running(wired):
        await send(wired, message([said(0), said(1, event_id="mine"), said(2)], message_id="batch"))
        found = await batches(wired, lambda got: len(event_ids(got)) >= 3)
    assert event_ids(found) == ["batch#0", "batch#2", "mine"]


async def test_a_bad_message_goes_to_the_dead_letter_queue_with_its_reason_and_to_kafka_as_rejected(
    wired: Settings,
) -> None:
    async with Running(wired):
        bad = said(1)
        del bad["source"]
        await send(wired, message(said(0), message_id="good"), message(bad, message_id="bad"))
        await send(wired, message([said(2), {**said(3), "labels": {"x": 7}}], message_id="mixed"))
        await send(wired, message(b"\xff\x00 not json", message_id="junk"))
        found = await batches(wired, lambda got: len(event_ids(got)) >= 5)
        await until_acked(wired)
    rejected = {item.event_id: item for batch in found for item in batch.items if isinstance(item, Rejected)}
    assert {event_id: item.field for event_id, item in rejected.items()} == {
        "bad": "source",
        "mixed#1": "labels.x",
        "junk": "body",
    }
    assert event_ids(found) == ["bad", "good", "junk", "mixed#0", "mixed#1"]
    letters = await dead_letters(wired, 3)
    assert {letter.message_id: (letter.headers["x-field"], letter.headers["x-reason"]) for letter in letters} == {
        event_id: (item.field, item.reason) for event_id, item in rejected.items()
    }
    assert {letter.body for letter in letters} >= {b"\xff\x00 not json", json.dumps(bad).encode()}


async def until_acked(settings: Settings) -> None:
    async with asyncio.timeout(PATIENCE):
        while await waiting(settings, Topology.of(settings).queue):
            await asyncio.sleep(0.02)


async def dead_letters(settings: Settings, count: int) -> list[aio_pika.abc.AbstractIncomingMessage]:
    async with connection(settings) as opened:
        queue = await (await opened.channel()).get_queue(Topology.of(settings).dead)
        found: list[aio_pika.abc.AbstractIncomingMessage] = []
        async with asyncio.timeout(PATIENCE):
            while len(found) < count:
                got = await queue.get(no_ack=True, fail=False)
                if got is not None:
                    found.append(got)
        assert await queue.get(fail=False) is None
        return found


async def test_a_handed_over_batch_passes_as_it_is(wired: Settings) -> None:
    parsed = parse_own(json.dumps([said(0), said(1)]).encode(), accepted_at=NOW, limits=wired)
    batch = AlertBatch(accepted_at=NOW, items=tuple(parsed.items), via="http")
    async with Running(wired):
        await send(wired, aio_pika.Message(codec.encode(batch), content_type=HANDOVER_TYPE))
        found = await batches(wired, lambda got: len(event_ids(got)) >= 2)
    assert event_ids(found) == sorted(item.event_id for item in parsed.items)
    assert {(one.via, one.accepted_at) for one in found} == {(WAITED, NOW)}


async def test_a_deleted_queue_is_declared_again(wired: Settings) -> None:
    async with Running(wired) as running:
        async with connection(wired) as opened:
            channel = await opened.channel()
            await channel.queue_delete(Topology.of(wired).queue)
        await until(lambda: not running.health.is_ok("rabbitmq"))
        await until(lambda: running.health.is_ok("rabbitmq"))
        await send(wired, message(said(0), message_id="after"))
        assert event_ids(await batches(wired, bool)) == ["after"]


async def test_while_kafka_refuses_nothing_is_acknowledged_and_nothing_is_lost(wired: Settings) -> None:
    away = dataclasses.replace(wired, kafka_url="127.0.0.1:1")
    stop, health = asyncio.Event(), Health("bridge")
    producer = EventProducer(away)
    await producer.start()
    task = asyncio.create_task(Bridge(away, producer, health, stop).run())
    await until(lambda: health.is_ok("rabbitmq"))
    await send(away, *(message(said(index), message_id=f"m{index}") for index in range(10)))
    stop.set()
    async with asyncio.timeout(5):
        await task
    await producer.stop()
    assert await waiting(wired, Topology.of(wired).queue) == 10
    async with Running(wired):
        found = await batches(wired, lambda got: len(event_ids(got)) >= 10)
    assert event_ids(found) == sorted(f"m{index}" for index in range(10))


@pytest.fixture
async def own_rabbit(tmp_path: Path) -> AsyncIterator[RabbitMQ]:
    script = find_server()
    if script is None:
        pytest.skip("rabbitmq-server is not installed (apt-get install rabbitmq-server)")
    unit = RabbitMQ(tmp_path / "rabbitmq", tmp_path / "logs", server_account(), "secret", script)
    await unit.start()
    yield unit
    await unit.stop(5)


@pytest.mark.rabbitmq
async def test_a_rabbitmq_that_died_is_read_again_and_handed_over_to_again(
    wired: Settings, own_rabbit: RabbitMQ
) -> None:
    settings = dataclasses.replace(wired, amqp_url=own_rabbit.url)
    fallback = Fallback(settings)
    await fallback.start()
    async with Running(settings) as running:
        await until(lambda: fallback.connected)
        await send(settings, message(said(0), message_id="before"))
        await batches(settings, bool)
        await own_rabbit.kill()
        await until(lambda: not running.health.is_ok("rabbitmq") and not fallback.connected)
        parsed = parse_own(json.dumps(said(1, event_id="handed")).encode(), accepted_at=NOW, limits=settings)
        batch = AlertBatch(accepted_at=NOW, items=tuple(parsed.items))
        with pytest.raises(FallbackUnavailableError):
            await fallback.publish(batch)
        await own_rabbit.start_again()
        await until(lambda: running.health.is_ok("rabbitmq") and fallback.connected)
        await send(settings, message(said(2), message_id="after"))
        known = [fallback.behind]
        await fallback.publish(batch)
        assert [*known, fallback.behind] == [False, True]
        found = await batches(settings, lambda got: len(set(event_ids(got))) >= 3)
        await until(lambda: not fallback.behind)
    await fallback.stop()
    assert set(event_ids(found)) == {"before", "handed", "after"}


async def test_a_gateway_that_restarts_knows_that_rabbitmq_still_holds_something(wired: Settings) -> None:
    parsed = parse_own(json.dumps(said(1, event_id="handed")).encode(), accepted_at=NOW, limits=wired)
    known = []
    for handed in (True, False):
        fallback = Fallback(wired)
        await fallback.start()
        await until(partial(getattr, fallback, "connected"))
        known.append(fallback.behind)
        if handed:
            await fallback.publish(AlertBatch(accepted_at=NOW, items=tuple(parsed.items)))
            await fallback.stop()
    assert known == [False, True]
    async with Running(wired):
        await until(lambda: not fallback.behind)
        assert event_ids(await batches(wired, bool)) == ["handed"]
    await fallback.stop()


async def test_order_of_one_alert_is_kept(wired: Settings) -> None:
    async with Running(wired):
        for index in range(20):
            await send(wired, message(said(0, summary=f"{index}"), message_id=f"{index:03}"))
        found = await batches(wired, lambda got: len(event_ids(got)) >= 20)
    order = [item.event_id for batch in found for item in batch.items if isinstance(item, Alert)]
    assert order == sorted(order)
