"""The producer on a real broker: confirmed means it is there, batches grow by themselves, a lost broker is said."""

import asyncio
import dataclasses
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from embedded.account import server_account
from embedded.tansu import Tansu
from streams import codec, keys, producer
from streams.producer import EventProducer, KafkaUnavailableError, OverloadedError, cut, partition_of
from streams.records import Alert, AlertBatch, Rejected
from streams.settings import Settings
from streams.topic_admin import ensure_topics
from streams.topics import ALERTS, INPUTS, topic_name
from tests.conftest import Broker

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def alert(name: str, body: bytes = b"b" * 100) -> Alert:
    return Alert(
        event_id=name,
        team="default",
        identity=keys.hashed(name.encode()),
        content=b"c" * 8,
        firing=True,
        event_at=NOW,
        body=body,
    )


def batch(*items: Alert | Rejected) -> AlertBatch:
    return AlertBatch(accepted_at=NOW, items=items)


@pytest.fixture
async def at_kafka(settings: Settings, kafka: Broker) -> Settings:
    wired = dataclasses.replace(settings, kafka_url=kafka.url, kafka_confirm_timeout=5000)
    await ensure_topics(wired, lambda _: None)
    return wired


@pytest.fixture
async def started(at_kafka: Settings) -> AsyncIterator[EventProducer]:
    made = EventProducer(at_kafka)
    await made.start()
    await until(lambda: made.connected)
    yield made
    await made.stop()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.01)


async def records(settings: Settings, items: int) -> list[tuple[int, AlertBatch]]:
    """What is on `alerts` until there are so many items, with the partition."""
    topic = topic_name(settings.app_prefix, ALERTS)
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka_url, fetch_max_wait_ms=20)
    await consumer.start()
    found: list[tuple[int, AlertBatch]] = []
    try:
        places = [TopicPartition(topic, partition) for partition in range(settings.partitions)]
        consumer.assign(places)
        await consumer.seek_to_beginning()
        async with asyncio.timeout(10):
            while sum(len(one.items) for _, one in found) < items:
                for place, some in (await consumer.getmany(timeout_ms=50)).items():
                    for record in some:
                        decoded = codec.decode_alerts(record.value)
                        assert isinstance(decoded, AlertBatch)
                        found.append((place.partition, decoded))
    finally:
        await consumer.stop()
    return found


async def test_confirmed_items_are_on_their_partitions_in_order(at_kafka: Settings, started: EventProducer) -> None:
    items = [alert(f"e{index}") for index in range(100)]
    refused = Rejected(event_id="bad", source="s", field="body", reason="body: is empty")
    await started.publish(batch(*items, refused))
    found = await records(at_kafka, 101)
    for partition, one in found:
        assert all(partition_of(item, at_kafka.partitions) == partition for item in one.items)
    assert Counter(item.event_id for _, one in found for item in one.items) == Counter(
        [*(item.event_id for item in items), "bad"]
    )
    for partition in range(at_kafka.partitions):
        sent = [item.event_id for item in items if partition_of(item, at_kafka.partitions) == partition]
        got = [item.event_id for where, one in found if where == partition for item in one.items]
        assert [event_id for event_id in got if event_id != "bad"] == sent
    assert started.held_bytes == 0


async def test_a_record_for_another_topic_goes_there_and_its_place_is_known(
    at_kafka: Settings, started: EventProducer
) -> None:
    topic = topic_name(at_kafka.app_prefix, INPUTS)
    assert [await started.send_on(topic, 1, b"key", b"value", within=10) for _ in range(2)] == [0, 1]
    await started.stop()
    with pytest.raises(KafkaUnavailableError):
        await started.send_on(topic, 1, b"key", b"value", within=10)


async def test_what_gathers_while_one_is_sent_goes_together(at_kafka: Settings, started: EventProducer) -> None:
    await asyncio.gather(*(started.publish(batch(alert(f"e{index}"))) for index in range(400)))
    found = await records(at_kafka, 400)
    assert sum(len(one.items) for _, one in found) == 400
    assert len(found) < 50


async def test_nothing_of_different_ways_in_shares_a_record(at_kafka: Settings, started: EventProducer) -> None:
    ways = ("http", "amqp", "http", "alertmanager")
    await asyncio.gather(*(started.publish(arrived(batch(alert("same")), way)) for way in ways for _ in range(5)))
    found = await records(at_kafka, 20)
    assert Counter(one.via for _, one in found for _ in one.items) == Counter(ways * 5)


def arrived(one: AlertBatch, via: str) -> AlertBatch:
    return AlertBatch(accepted_at=one.accepted_at, items=one.items, via=via)


async def test_a_large_batch_is_cut_into_records_the_topic_takes(at_kafka: Settings, started: EventProducer) -> None:
    large = [alert("x", b"y" * 120_000) for _ in range(20)]
    many = [alert("z", b"") for _ in range(1500)]
    await started.publish(batch(*large, *many))
    found = await records(at_kafka, 1520)
    assert sum(len(one.items) for _, one in found) == 1520
    assert max(len(one.items) for _, one in found) <= producer.MAX_ITEMS
    assert max(len(codec.encode(one)) for _, one in found) <= producer.MAX_BYTES + 1024


def test_cutting_loses_nothing_and_keeps_order() -> None:
    items: list[Alert | Rejected] = [alert(str(index), b"b" * (index * 997 % 90_000)) for index in range(700)]
    pieces = list(cut(items))
    assert [item for some, _ in pieces for item in some] == items
    assert all(len(some) <= producer.MAX_ITEMS and size <= producer.MAX_BYTES for some, size in pieces)


async def test_too_much_at_once_is_refused_whole(started: EventProducer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producer, "MAX_HELD", 1000)
    with pytest.raises(OverloadedError):
        await started.publish(batch(*(alert(str(index)) for index in range(10))))
    assert started.held_bytes == 0
    await started.publish(batch(alert("small")))


async def test_without_a_broker_callers_hear_it_at_once(settings: Settings) -> None:
    made = EventProducer(dataclasses.replace(settings, kafka_url="127.0.0.1:1"))
    await made.start()
    with pytest.raises(KafkaUnavailableError):
        await made.publish(batch(alert("a")))
    await made.stop()


async def test_a_missing_topic_and_a_wrong_partition_count_are_named(at_kafka: Settings) -> None:
    for settings, words in (
        (dataclasses.replace(at_kafka, app_prefix="nowhere"), "does not exist"),
        (dataclasses.replace(at_kafka, partitions=7), "INCIDENTS_PARTITIONS says 7"),
    ):
        made = EventProducer(settings)
        await made.start()
        await until(lambda made=made, words=words: words in made.detail)  # type: ignore[misc]
        assert not made.connected
        await made.stop()


@pytest.fixture
async def own_broker(tmp_path: Path, settings: Settings) -> AsyncIterator[tuple[Settings, Tansu]]:
    unit = Tansu(tmp_path / "tansu", tmp_path / "logs", server_account())
    await unit.start()
    wired = dataclasses.replace(settings, kafka_url=unit.address, kafka_confirm_timeout=400)
    await ensure_topics(wired, lambda _: None)
    yield wired, unit
    await unit.stop(5)


@pytest.mark.kafka
async def test_a_broker_that_hangs_is_noticed_in_time_and_used_again_when_it_wakes(
    own_broker: tuple[Settings, Tansu],
) -> None:
    settings, unit = own_broker
    assert unit.child is not None
    made = EventProducer(settings)
    await made.start()
    await until(lambda: made.connected)
    await made.publish(batch(alert("before")))
    os.kill(unit.child.pid, signal.SIGSTOP)
    stopped = Path(f"/proc/{unit.child.pid}/status")
    await until(lambda: "State:\tT" in stopped.read_text())
    try:
        began = time.monotonic()
        with pytest.raises(KafkaUnavailableError):
            await made.publish(batch(alert("during")))
        assert time.monotonic() - began < 10
        await until(lambda: not made.connected)
    finally:
        os.kill(unit.child.pid, signal.SIGCONT)
    await until(lambda: made.connected)
    await made.publish(batch(alert("after")))
    found = [item.event_id for _, one in await records(settings, 2) for item in one.items]
    assert {"before", "after"} <= set(found)
    assert made.held_bytes == 0
    await made.stop()


@pytest.mark.kafka
async def test_a_broker_that_dies_is_used_again_after_its_restart(own_broker: tuple[Settings, Tansu]) -> None:
    settings, unit = own_broker
    made = EventProducer(settings)
    await made.start()
    await until(lambda: made.connected)
    await unit.kill()
    await until(lambda: not made.connected)
    with pytest.raises(KafkaUnavailableError):
        await made.publish(batch(alert("during")))
    await unit.start_again()
    await ensure_topics(settings, lambda _: None)
    await until(lambda: made.connected)
    await made.publish(batch(alert("after")))
    assert [item.event_id for _, one in await records(settings, 1) for item in one.items] == ["after"]
    await made.stop()


@pytest.mark.kafka
async def test_stopping_answers_everyone_who_waits(own_broker: tuple[Settings, Tansu]) -> None:
    settings, unit = own_broker
    assert unit.child is not None
    made = EventProducer(settings)
    await made.start()
    await until(lambda: made.connected)
    os.kill(unit.child.pid, signal.SIGSTOP)
    try:
        waiting = [asyncio.create_task(made.publish(batch(alert(str(n))), within=30)) for n in range(50)]
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            await made.stop()
            ends = await asyncio.gather(*waiting, return_exceptions=True)
    finally:
        os.kill(unit.child.pid, signal.SIGCONT)
    assert {type(end) for end in ends} == {KafkaUnavailableError}
    assert made.held_bytes == 0
