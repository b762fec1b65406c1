"""The delivery role against real Postgres, Kafka and a real HTTP server."""

import asyncio
import contextlib
import dataclasses
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from agents.deliver import deliver, hint_app
from sinks import config_rows, task_rows
from streams import codec, keys
from streams.records import Outcome, TaskHint
from streams.settings import Settings
from streams.topic_admin import ensure_topics
from streams.topics import INPUTS, TASKS, topic_name
from tests.conftest import Broker
from tests.sinks.outbox import incident, task

RULES = """
route: {{receiver: ops}}
receivers:
  - name: ops
    webhook_configs: [{{url: "{url}"}}]
"""


class Hook:
    """An HTTP server that fails as often as it is told, then accepts."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.failures = 0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
                fields = dict(line.split(": ", 1) for line in head[1:] if line)
                await reader.readexactly(int(fields["content-length"]))
                self.keys.append(fields["idempotency-key"])
                self.failures -= 1
                status = 503 if self.failures >= 0 else 200
                writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode())
        writer.close()


@pytest.fixture
async def hook() -> AsyncIterator[Hook]:
    hook = Hook()
    server = await asyncio.start_server(hook.serve, "127.0.0.1", 0)
    hook.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    async with server:
        yield hook


@contextlib.asynccontextmanager
async def delivering(settings: Settings) -> AsyncIterator[None]:
    stopping = asyncio.Event()
    role = asyncio.create_task(deliver(settings, stopping))
    try:
        yield
    finally:
        stopping.set()
        async with asyncio.timeout(15):
            await role


async def due(conn: asyncpg.Connection, told: uuid.UUID, decision: int, url: str) -> uuid.UUID:
    """A task of rules that name `url` as the first target of `ops`."""
    version = await config_rows.store(conn, RULES.format(url=url), "test")
    return await task(conn, told, decision, made_at=datetime.now(UTC), target=url, config_version=version)


async def state(conn: asyncpg.Connection, wanted: uuid.UUID) -> str:
    found: str = await conn.fetchval("SELECT state FROM notification_tasks WHERE id = $1", wanted)
    return found


async def sent(conn: asyncpg.Connection, wanted: uuid.UUID, seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while await state(conn, wanted) != "sent":
            await asyncio.sleep(0.05)


async def test_a_notice_is_delivered_and_its_group_told_until_it_knows(
    settings: Settings, kafka: Broker, database_url: str, conn: asyncpg.Connection, hook: Hook
) -> None:
    settings = dataclasses.replace(settings, kafka_url=kafka.url, database_url=database_url)
    await ensure_topics(settings, lambda _: None)
    told = await incident(conn)
    hook.failures = 1
    outcomes = AIOKafkaConsumer(
        topic_name(settings.app_prefix, INPUTS), bootstrap_servers=kafka.url, auto_offset_reset="earliest"
    )
    await outcomes.start()
    try:
        async with delivering(settings):
            made = await due(conn, told, 1, hook.url)
            hint = codec.encode(TaskHint(task_ids=(str(made),)))
            async with AIOKafkaProducer(bootstrap_servers=kafka.url) as producer:
                await producer.send_and_wait(topic_name(settings.app_prefix, TASKS), hint, partition=0)
                await producer.send_and_wait(topic_name(settings.app_prefix, TASKS), b"no hint", partition=0)
            await sent(conn, made)
            first, again = [await asyncio.wait_for(outcomes.getone(), 20) for _ in range(2)]
            await task_rows.mark_told(conn, [made])
            later = await due(conn, told, 2, hook.url)
            await sent(conn, later)
    finally:
        await outcomes.stop()
    assert hook.keys == [str(made), str(made), str(later)]
    record = codec.decode_inputs(first.value)
    assert isinstance(record, Outcome)
    assert (record.task_id, record.state, record.reason) == (str(made), "sent", "accepted")
    assert (first.key, first.partition) == (told.hex.encode(), keys.partition_of(told.hex, settings.partitions))
    assert first.value == again.value


async def test_hints_arrive_by_faust_and_what_is_none_is_passed_over(settings: Settings, kafka: Broker) -> None:
    settings = dataclasses.replace(settings, kafka_url=kafka.url)
    await ensure_topics(settings, lambda _: None)
    heard: list[uuid.UUID] = []
    app = hint_app(settings, heard.extend)
    wanted = [uuid.uuid4() for _ in range(3)]
    try:
        await app.maybe_start()
        async with AIOKafkaProducer(bootstrap_servers=kafka.url) as producer:
            topic = topic_name(settings.app_prefix, TASKS)
            for partition, ids in ((0, wanted[:2]), (3, wanted[2:])):
                hint = codec.encode(TaskHint(task_ids=tuple(map(str, ids))))
                for value in (b"no hint", codec.encode(TaskHint(task_ids=("no id",))), hint):
                    await producer.send_and_wait(topic, value, partition=partition)
        async with asyncio.timeout(20):
            while sorted(heard) != sorted(wanted):
                await asyncio.sleep(0.05)
    finally:
        async with asyncio.timeout(5):
            await app.stop()


async def test_notices_go_out_while_kafka_is_away(
    settings: Settings, database_url: str, conn: asyncpg.Connection, hook: Hook
) -> None:
    settings = dataclasses.replace(settings, kafka_url="127.0.0.1:1", database_url=database_url)
    async with delivering(settings):
        made = await due(conn, await incident(conn), 1, hook.url)
        await sent(conn, made)
    assert hook.keys == [str(made)]
    assert [one.id for one in await task_rows.untold(conn, None, timedelta(0), 10)] == [made]
