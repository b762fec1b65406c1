"""Faust starts where the state says; and an upgrade that changes what is overridden stops here."""

import asyncio
import dataclasses
import hashlib
import inspect
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.conn import AIOKafkaConnection
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest
from faust.app.base import App
from faust.contrib.asgi import faust_app_running
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer
from faust.types import TP

from streams import kafka_cut
from streams.app import options
from streams.settings import Settings
from streams.topic_admin import ensure_topics
from streams.topics import ALERTS, INPUTS, topic_name
from streams.transport import PositionedApp, settled
from tests.conftest import Broker

READ = {
    App._new_transport: "42db531312dd776f",
    AIOKafkaConsumerThread._create_worker_consumer: "c2701bfc3e6f6cad",
    AIOKafkaConsumerThread._fetch_records: "39a2c6c79fc1455a",
    Fetcher.fetched_records: "be4348896b9b66af",
    Consumer._new_consumer_thread: "0870ec53dea75083",
    Consumer.perform_seek: "0e8c130ff4b0afd8",
    Consumer._seek: "4f95c631420410a5",
    Consumer._wait_next_records: "6218e1969a636b3f",
    Consumer._get_active_partitions: "b24897f3c7afdb5d",
    Consumer.on_buffer_full: "c8961679e0bcdce5",
    Consumer.on_buffer_drop: "4b57e8a418d5ad9c",
    Recovery.on_recovery_completed: "6ef567acf072e46d",
    TableManager.recovery.fget: "f0bf5de78b4c3d23",  # type: ignore[attr-defined]
    AIOKafkaConsumer.__init__: "01506f316191f7c9",
    kafka_cut._send: "5909ea32f4efca49",
}


@pytest.mark.parametrize(("method", "digest"), READ.items(), ids=lambda value: getattr(value, "__qualname__", ""))
def test_what_is_overridden_is_what_was_read(method: Callable[..., Any], digest: str) -> None:
    found = hashlib.sha256(inspect.getsource(method).encode()).hexdigest()[:16]
    assert found == digest, f"{method.__qualname__} has changed: read streams/transport.py against it"


async def test_a_failed_delivery_is_raised_after_all_have_ended() -> None:
    loop = asyncio.get_running_loop()
    futures: list[asyncio.Future[Any]] = [loop.create_future() for _ in range(3)]
    waiting = asyncio.create_task(settled(futures))
    futures[0].set_exception(OSError("refused"))
    futures[1].set_result(None)
    await asyncio.sleep(0)
    assert not waiting.done()
    futures[2].set_result(None)
    with pytest.raises(OSError, match="refused"):
        await waiting


def test_a_write_to_a_connection_that_was_cut_is_a_broken_connection() -> None:
    async def story() -> None:
        host, port = listener.getsockname()
        connection = AIOKafkaConnection(host, port)
        connection._reader, connection._writer = await asyncio.open_connection(host, port)
        connection._read_task = asyncio.get_running_loop().create_future()  # that it is cut is not read yet
        connection._versions = {MetadataRequest.API_KEY: (0, 1)}
        connection._writer.transport.abort()
        await asyncio.sleep(0)
        with pytest.raises(KafkaConnectionError, match="broken"):
            connection.send(MetadataRequest(["alerts"]))
        assert not connection.connected()

    kafka_cut.mend()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        uvloop.run(story())


@pytest.fixture
async def log(settings: Settings, kafka: Broker, tmp_path: Path) -> Settings:
    """Topics whose `alerts` holds b"0" to b"9" in each partition."""
    made = dataclasses.replace(
        settings, data_dir=str(tmp_path), kafka_url=kafka.url, log_generation=kafka.generation, partitions=2
    )
    await ensure_topics(made, lambda _: None)
    producer = AIOKafkaProducer(bootstrap_servers=made.kafka_url)
    await producer.start()
    try:
        for number in range(made.partitions):
            for n in range(10):
                await producer.send_and_wait(topic_name(made.app_prefix, ALERTS), b"%d" % n, partition=number)
    finally:
        await producer.stop()
    return made


async def read(
    settings: Settings, positions: dict[int, int], count: int, **changed: Any
) -> list[tuple[int, int, bytes]]:
    """What an app whose state is at `positions` gets first, in the order in which it comes."""
    name = topic_name(settings.app_prefix, ALERTS)
    app = PositionedApp(topic_name(settings.app_prefix, "reader"), **{**options(settings), **changed})
    app.positions.update({TP(name, number): offset for number, offset in positions.items()})
    got: list[tuple[int, int, bytes]] = []
    full = asyncio.Event()
    topic = app.topic(name, value_type=bytes, value_serializer="raw", partitions=settings.partitions)

    async def agent(stream: Any) -> None:
        async for event in stream.events():
            got.append((event.message.partition, event.message.offset, event.value))
            if len(got) >= count:
                full.set()

    app.agent(topic, name="reader")(agent)
    async with faust_app_running(app, stop_timeout=10):
        await asyncio.wait_for(full.wait(), 60)
    return got


@pytest.mark.slow
async def test_partitions_begin_where_the_state_is_and_not_where_kafka_was_told(log: Settings) -> None:
    assert sorted(await read(log, {}, 20)) == [(p, n, b"%d" % n) for p in (0, 1) for n in range(10)]
    # Kafka's group stands at the end now; the state says otherwise, one partition at its very beginning.
    assert sorted(await read(log, {0: 7, 1: 0}, 13)) == [(0, 7, b"7"), (0, 8, b"8"), (0, 9, b"9")] + [
        (1, n, b"%d" % n) for n in range(10)
    ]


@pytest.mark.slow
async def test_partitions_take_turns_although_one_has_much_to_hand_out(log: Settings) -> None:
    got = await read(log, {0: 0, 1: 0}, 20, broker_max_poll_records=3)
    second = next(place for place, (partition, _, _) in enumerate(got) if partition != got[0][0])
    assert second <= 3  # not after all ten of the first


@pytest.mark.slow
async def test_a_topic_that_nobody_takes_from_does_not_hold_up_another(log: Settings) -> None:
    held, other = (topic_name(log.app_prefix, topic) for topic in (ALERTS, INPUTS))
    app = PositionedApp(
        topic_name(log.app_prefix, "reader"),
        **{**options(log), "stream_buffer_maxsize": 10, "broker_max_poll_records": 2},
    )
    got: list[bytes] = []
    full = asyncio.Event()

    async def nothing(stream: Any) -> None:
        async for _ in stream.events():
            await asyncio.Event().wait()

    async def everything(stream: Any) -> None:
        async for event in stream.events():
            got.append(event.value)
            if len(got) == 20:
                full.set()

    for name, agent in ((held, nothing), (other, everything)):
        topic = app.topic(name, value_type=bytes, value_serializer="raw", partitions=log.partitions)
        app.agent(topic, name=name)(agent)
    app.conf.stream_wait_empty = False
    async with faust_app_running(app, stop_timeout=10):
        consumer: Any = app.consumer
        while not consumer._buffered_partitions:
            await asyncio.sleep(0.01)
        assert {tp.topic for tp in consumer._buffered_partitions} == {held}
        producer = AIOKafkaProducer(bootstrap_servers=log.kafka_url)
        await producer.start()
        for n in range(20):
            await producer.send_and_wait(other, b"%d" % n, partition=n % log.partitions)
        await producer.stop()
        await asyncio.wait_for(full.wait(), 60)
    assert sorted(got) == sorted(b"%d" % n for n in range(20))
