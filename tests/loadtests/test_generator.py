"""The generator says what really happened: confirmed, refused, unknown, late."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from threading import Thread

import aio_pika
import asyncpg
import msgspec
import pytest

from loadtests.amqp_publisher import Publisher, PublisherError, Sent
from loadtests.ledger_file import Outcome, entries_in
from loadtests.outside import OutsideReader
from loadtests.plan import STATUS_MARK, VARIABLE, AmqpEndpoint, LoadPlan, Via
from loadtests.sums import database_now

LOCUSTFILE = Path(__file__).parents[2] / "loadtests" / "locustfile.py"


@pytest.fixture
async def queue(amqp_url: str, app_prefix: str) -> AsyncIterator[aio_pika.abc.AbstractQueue]:
    """A quorum queue behind a topic exchange, both with the test's own name."""
    connection = await aio_pika.connect(amqp_url)
    channel = await connection.channel()
    exchange = await channel.declare_exchange(app_prefix, aio_pika.ExchangeType.TOPIC, durable=True)
    queue = await channel.declare_queue(app_prefix, durable=True, arguments={"x-queue-type": "quorum"})
    await queue.bind(exchange, "llm.#")
    yield queue
    await queue.delete(if_unused=False, if_empty=False)
    await exchange.delete()
    await connection.close()


class Confirms:
    """Takes the outcomes of a publisher whose listener runs in a thread."""

    def __init__(self, url: str, exchange: str, key: str = "llm.alert") -> None:
        self.told: dict[str, bool] = {}
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self.publisher = Publisher(url, exchange, key, self._tell)
        self._thread = Thread(target=self._listen, daemon=True)
        self._thread.start()

    def send(self, name: str, body: bytes) -> None:
        self.publisher.publish(body, name, Sent((name,), 0, len(body)))

    async def until(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self.told) < count:
                await self._changed.wait()
                self._changed.clear()

    def _tell(self, sent: Sent, ok: bool) -> None:
        self.told[sent.event_ids[0]] = ok
        self._loop.call_soon_threadsafe(self._changed.set)

    def _listen(self) -> None:
        try:
            self.publisher.listen()
        except OSError:
            return


async def test_messages_of_any_size_arrive_whole_and_are_confirmed(
    amqp_url: str, app_prefix: str, queue: aio_pika.abc.AbstractQueue
) -> None:
    bodies = {f"e-{size}": bytes(size % 251 for _ in range(size)) for size in (0, 1, 131_064, 131_065, 300_000)}
    confirms = Confirms(amqp_url, app_prefix)
    for name, body in bodies.items():
        confirms.send(name, body)
    confirms.publisher.flush()
    await confirms.until(len(bodies))
    assert all(confirms.told.values())
    got = [await queue.get(no_ack=True) for _ in bodies]
    assert {message.message_id: message.body for message in got} == bodies
    assert {message.delivery_mode for message in got} == {aio_pika.DeliveryMode.PERSISTENT}
    assert confirms.publisher.close() == []


async def test_what_no_queue_takes_is_refused(
    amqp_url: str, app_prefix: str, queue: aio_pika.abc.AbstractQueue
) -> None:
    confirms = Confirms(amqp_url, app_prefix, "nobody")
    confirms.send("e-1", b"{}")
    confirms.send("e-2", b"{}")
    confirms.publisher.flush()
    await confirms.until(2)
    assert confirms.told == {"e-1": False, "e-2": False}
    confirms.publisher.close()


async def test_an_exchange_that_is_not_there_is_named(amqp_url: str) -> None:
    with pytest.raises(PublisherError, match="nowhere"):
        await asyncio.to_thread(Publisher, amqp_url, "nowhere", "llm.alert", lambda _sent, _ok: None)


async def test_what_was_not_confirmed_is_given_back(
    amqp_url: str, app_prefix: str, queue: aio_pika.abc.AbstractQueue
) -> None:
    confirms = Confirms(amqp_url, app_prefix)
    confirms.send("e-1", b"{}")
    assert [sent.event_ids for sent in confirms.publisher.close()] == [("e-1",)]


async def test_locust_sends_the_whole_plan_at_its_rate_and_keeps_the_ledger(
    amqp_url: str, app_prefix: str, queue: aio_pika.abc.AbstractQueue, tmp_path: Path
) -> None:
    amqp = AmqpEndpoint(url=amqp_url, exchange=app_prefix, queue=app_prefix)
    plan = LoadPlan(rate=200, seconds=2, via=Via.AMQP, run="run", ledger=str(tmp_path), amqp=amqp)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--only-summary", "--skip-log-setup",
        env={**os.environ, VARIABLE: msgspec.json.encode(plan).decode()},
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    last = [line for line in out.decode().splitlines() if line.startswith(STATUS_MARK)][-1]
    status = msgspec.json.decode(last.removeprefix(STATUS_MARK))
    (way,) = status["ways"]
    entries = entries_in(tmp_path)
    assert process.returncode == 0
    assert status["finished"]
    assert (way["sent"], way["confirmed"]) == (400, 400)
    assert {entry.outcome for entry in entries} == {Outcome.CONFIRMED}
    assert len({entry.event_id for entry in entries}) == 400
    took = max(entry.sent_us for entry in entries) - min(entry.sent_us for entry in entries)
    assert took >= 1_000_000, "late ones catch up, but they do not go all at once"
    assert way["late_ms"]["max"] > 0


async def test_a_clock_read_long_before_the_commit_is_found_out(
    conn: "asyncpg.Connection[asyncpg.Record]", database_url: str
) -> None:
    other = await asyncpg.connect(database_url)
    reader = OutsideReader(other)
    looking = asyncio.create_task(reader.run(await database_now(conn)))
    early = timedelta(milliseconds=400)
    try:
        async with asyncio.timeout(20):
            while not reader.honesty.rows:
                at = await database_now(conn)
                await conn.execute(
                    """
                    INSERT INTO incidents (id, title, description, severity, status, created_at, updated_at, team, kind,
                        group_key, group_labels, route, receiver, partition, revision, committed_at)
                    VALUES (gen_random_uuid(), '', '', 'error', 'open', $1, $1, 'default', 'other',
                        gen_random_uuid()::text, '{}', '', '', 0, 1, $1)
                    """,
                    at - early,
                )
                await asyncio.sleep(0.01)
    finally:
        reader.stop()
        honesty = await looking
        await other.close()
    assert honesty.at_most_ms >= 400
    assert 200 <= honesty.surely_ms <= honesty.at_most_ms
