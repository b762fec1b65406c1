"""The real services: they answer, come back, keep what they must, never meet those of another run, and end."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import aio_pika
import asyncpg
import pytest
import redis.asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from embedded.debian import can_install
from embedded.errors import EmbeddedError
from embedded.jars import kafka_jars
from embedded.rabbitmq import find_server
from embedded.supervisor import Stack
from tests.conftest import FLAVOURS, REQUIRE_KAFKA
from tests.embedded.conftest import Heard, living_in, wait_for_ends

pytestmark = [pytest.mark.kafka, pytest.mark.postgres, pytest.mark.redis, pytest.mark.rabbitmq, pytest.mark.slow]


@pytest.fixture(params=FLAVOURS)
async def flavour(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    await have(request.param, tmp_path)
    return str(request.param)


async def have(flavour: str, folder: Path) -> None:
    """Skip where RabbitMQ, or Apache Kafka if that is meant, cannot be had."""
    if find_server() is None and not can_install():
        pytest.skip("rabbitmq-server is not installed (apt-get install rabbitmq-server)")
    if flavour == "apache":
        try:
            await kafka_jars(folder)
        except EmbeddedError as error:
            if REQUIRE_KAFKA:
                raise
            pytest.skip(f"Apache Kafka cannot run here: {error}")


async def sql(stack: Stack, statement: str) -> list[Any]:
    connection = await asyncpg.connect(stack.endpoints["postgres"])
    try:
        return [tuple(row) for row in await connection.fetch(statement)]
    finally:
        await connection.close()


async def redis_do(stack: Stack, *command: str) -> Any:
    client: redis.asyncio.Redis = redis.asyncio.Redis.from_url(stack.endpoints["redis"], decode_responses=True)
    try:
        return await client.execute_command(*command)  # type: ignore[no-untyped-call]
    finally:
        await client.aclose()


async def topics(stack: Stack) -> set[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.endpoints["kafka"])
    await admin.start()
    try:
        return {name for name in await admin.list_topics() if not name.startswith("__")}
    finally:
        await admin.close()


async def make_topic(stack: Stack, name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.endpoints["kafka"])
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, num_partitions=2, replication_factor=1)])
    finally:
        await admin.close()


async def send_through_kafka(stack: Stack, topic: str, value: bytes) -> bytes | None:
    """Send a record and read it back."""
    producer = AIOKafkaProducer(bootstrap_servers=stack.endpoints["kafka"], max_request_size=2 * 1024 * 1024)
    await producer.start()
    try:
        await producer.send_and_wait(topic, value, partition=0)
    finally:
        await producer.stop()
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=stack.endpoints["kafka"], auto_offset_reset="earliest")
    await consumer.start()
    try:
        async with asyncio.timeout(20):
            got: bytes | None = (await consumer.getone()).value
            return got
    finally:
        await consumer.stop()


async def put_in_queue(stack: Stack, name: str, body: bytes) -> None:
    connection = await aio_pika.connect(stack.endpoints["amqp"]["url"])
    async with connection:
        channel = await connection.channel(publisher_confirms=True)
        await channel.declare_queue(name, durable=True, arguments={"x-queue-type": "quorum"})
        message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, name)


async def take_from_queue(stack: Stack, name: str) -> bytes:
    connection = await aio_pika.connect(stack.endpoints["amqp"]["url"])
    async with connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(name, durable=True, arguments={"x-queue-type": "quorum"})
        async with queue.iterator(timeout=20) as messages:
            async for message in messages:
                await message.ack()
                return message.body
    raise AssertionError("the queue ended")


def is_queue_known(data: Path, name: str) -> bool:
    """Whether RabbitMQ has written down where a quorum queue lives, half a second after its first confirms."""
    found = [path for book in ("names", "meta") for path in data.glob(f"rabbitmq/mnesia/*/quorum/*/{book}.dets")]
    return len(found) == 2 and all(name.encode() in path.read_bytes() for path in found)


async def until_queue_is_known(data: Path, name: str) -> None:
    async with asyncio.timeout(20):
        while not is_queue_known(data, name):
            await asyncio.sleep(0.05)


async def queue_exists(stack: Stack, name: str) -> bool:
    connection = await aio_pika.connect(stack.endpoints["amqp"]["url"])
    async with connection:
        channel = await connection.channel()
        try:
            await channel.declare_queue(name, passive=True)
        except aio_pika.exceptions.ChannelNotFoundEntity:
            return False
        return True


async def test_services_answer_keep_what_they_must_over_a_second_run_and_end(tmp_path: Path, flavour: str) -> None:
    data = tmp_path / "data"
    async with Stack(data, kafka=flavour, roles=()) as stack:
        assert {each["role"] for each in stack.processes} == {"postgres", "redis", "kafka", "rabbitmq"}
        await sql(stack, "create table kept as select 1 as one")
        assert await sql(stack, "select setting from pg_settings where name in ('fsync', 'synchronous_commit')") == [
            ("on",),
            ("on",),
        ]
        assert await redis_do(stack, "SET", "kept", "1") in {True, "OK"}
        assert (await redis_do(stack, "CONFIG", "GET", "maxmemory-policy"))["maxmemory-policy"] == "noeviction"
        await make_topic(stack, "kept")
        big = os.urandom(1_500_000)
        assert await send_through_kafka(stack, "kept", big) == big
        await put_in_queue(stack, "kept", b"body")
        if os.geteuid() == 0:
            assert 0 not in {os.stat(f"/proc/{each['pid']}").st_uid for each in stack.processes}  # noqa: PTH116
        processes = living_in(data)
        assert {each["pid"] for each in stack.processes} <= processes.keys()
    assert not wait_for_ends(processes, within=5)
    async with Stack(data, kafka=flavour, roles=()) as stack:
        assert await sql(stack, "select one from kept") == [(1,)]
        assert await take_from_queue(stack, "kept") == b"body"
        lasting = flavour == "apache"
        assert await topics(stack) == ({"kept"} if lasting else set())
        assert await redis_do(stack, "GET", "kept") == ("1" if lasting else None)
    assert not wait_for_ends(living_in(data), within=5)


async def test_a_service_that_is_killed_comes_back_where_it_was_with_its_data(
    tmp_path: Path, flavour: str, heard: Heard
) -> None:
    async with Stack(tmp_path, kafka=flavour, roles=(), say=heard) as stack:
        addresses = {name: stack.endpoints[name] for name in ("postgres", "redis", "kafka", "amqp")}
        generation = stack.settings.get("INCIDENTS_LOG_GENERATION")
        await sql(stack, "create table kept as select 1 as one")
        await make_topic(stack, "kept")
        await put_in_queue(stack, "kept", b"body")
        await until_queue_is_known(tmp_path, "kept")
        for role in ("postgres", "kafka", "rabbitmq"):
            stack.kill(role, signal.SIGKILL)
            await heard.until(f"{role} runs again")
        assert {name: stack.endpoints[name] for name in addresses} == addresses
        assert await sql(stack, "select one from kept") == [(1,)]
        assert await take_from_queue(stack, "kept") == b"body"
        assert await topics(stack) == ({"kept"} if flavour == "apache" else set())
        assert (stack.settings.get("INCIDENTS_LOG_GENERATION") == generation) is (flavour == "apache")


async def test_redis_keeps_its_data_over_its_own_death_but_not_over_that_of_a_log_that_forgets(
    tmp_path: Path, heard: Heard
) -> None:
    async with Stack(tmp_path, kafka="tansu", roles=(), rabbitmq=False, say=heard) as stack:
        await redis_do(stack, "SET", "kept", "1")
        await redis_do(stack, "CONFIG", "SET", "appendfsync", "always")
        await redis_do(stack, "SET", "kept", "2")
        stack.kill("redis")
        await heard.until("redis runs again")
        assert await redis_do(stack, "GET", "kept") == "2"
        stack.kill("kafka")
        await heard.until("kafka runs again")
        assert await redis_do(stack, "GET", "kept") is None


async def test_two_runs_side_by_side_never_meet(tmp_path: Path) -> None:
    first, second = FLAVOURS[0], FLAVOURS[-1]
    await have(first, tmp_path)
    await have(second, tmp_path)
    async with (
        Stack(tmp_path / "one", kafka=first, roles=()) as one,
        Stack(tmp_path / "two", kafka=second, roles=()) as two,
    ):
        await make_topic(one, "ours")
        await put_in_queue(one, "ours", b"body")
        await redis_do(one, "SET", "ours", "1")
        await sql(one, "create table ours as select 1")
        assert await topics(two) == set()
        assert not await queue_exists(two, "ours")
        assert await queue_exists(one, "ours")
        assert await redis_do(two, "GET", "ours") is None
        assert await sql(two, "select from pg_tables where tablename = 'ours'") == []
        pids = [living_in(tmp_path / name) for name in ("one", "two")]
        assert not pids[0].keys() & pids[1].keys()
    assert not wait_for_ends(pids[0] | pids[1], within=5)


RUN = """
import asyncio, sys
from embedded.supervisor import Stack
async def main():
    async with Stack(sys.argv[1], kafka=sys.argv[2], roles=()):
        print("up", flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


def test_when_the_program_that_runs_them_is_killed_all_services_end(tmp_path: Path) -> None:
    flavour = FLAVOURS[0]
    asyncio.run(have(flavour, tmp_path))
    process = subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path), flavour], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "up\n"
    processes = living_in(tmp_path)
    process.kill()
    process.communicate(timeout=10)
    assert not wait_for_ends(processes, within=15)
