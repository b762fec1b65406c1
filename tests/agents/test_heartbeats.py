"""Heartbeats on real rows: told once whoever looks, told again until Kafka has it, and nothing after a break."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from aiokafka.errors import KafkaConnectionError

from agents.heartbeats import Heartbeats
from agents.job_alerts import Herald
from agents.work import Outgoing
from sinks import heartbeat_rows
from sinks.heartbeat_rows import Beat
from sinks.postgres import open_pool
from streams import codec
from streams.records import Alert, AlertBatch
from streams.settings import Settings

MINUTE = timedelta(minutes=1)


class Kafka:
    """Takes what is sent, or refuses."""

    def __init__(self) -> None:
        self.away = False
        self.alerts: list[Alert] = []

    async def send(self, records: Sequence[Outgoing]) -> None:
        if self.away:
            raise KafkaConnectionError("away")
        for record in records:
            batch = codec.decode_alerts(record.value)
            assert isinstance(batch, AlertBatch)
            self.alerts += [item for item in batch.items if isinstance(item, Alert)]

    def told(self) -> list[tuple[str, bool]]:
        return [(codec.decode_body(one.body).labels["heartbeat"], one.firing) for one in self.alerts]


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator["asyncpg.Pool"]:
    opened = await open_pool(database_url, size=8, statement_timeout_ms=10_000, name="test")
    yield opened
    await opened.close()


async def beat(pool: "asyncpg.Pool", name: str = "backup", **more: Any) -> None:
    async with pool.acquire() as conn:
        await heartbeat_rows.beat(conn, [Beat(team="default", name=name, **more)])


async def moved(pool: "asyncpg.Pool", seconds: float) -> None:
    """The time passes: everything that was is so much longer ago, and was watched meanwhile."""
    await pool.execute(
        "UPDATE heartbeats SET last_beat_at = last_beat_at - $1::interval, changed_at = changed_at - $1::interval",
        timedelta(seconds=seconds),
    )
    await pool.execute(
        "UPDATE heartbeat_watch SET since_at = since_at - $1::interval,"
        " looked_at = clock_timestamp() - interval '2 s'", timedelta(seconds=seconds),
    )  # fmt: skip


async def test_silence_is_told_once_and_so_is_the_return(pool: "asyncpg.Pool") -> None:
    kafka = Kafka()
    workers = [Heartbeats(pool, Herald(Settings(), kafka.send)) for _ in range(3)]

    async def look() -> None:
        await asyncio.gather(*(one.tick() for one in workers))

    await beat(pool, interval=MINUTE)
    await beat(pool, "cron", interval=timedelta(hours=1))
    await moved(pool, 60)
    await look()
    assert kafka.told() == []
    for _ in range(3):
        await moved(pool, 30)
        await look()
    assert {one.event_id for one in kafka.alerts} == {kafka.alerts[0].event_id}
    assert set(kafka.told()) == {("backup", True)}
    kafka.alerts.clear()
    await beat(pool)
    for _ in range(2):
        await moved(pool, 1)
        await look()
    assert set(kafka.told()) == {("backup", False)}
    kafka.alerts.clear()
    await moved(pool, 100)
    await look()
    assert set(kafka.told()) == {("backup", True)}


async def test_what_kafka_did_not_take_is_told_again_as_the_same_event(pool: "asyncpg.Pool") -> None:
    kafka = Kafka()
    await beat(pool, interval=MINUTE, labels='{"service": "db"}', severity="error")
    await moved(pool, 100)
    kafka.away = True
    worker = Heartbeats(pool, Herald(Settings(), kafka.send))
    await worker.tick()
    assert await pool.fetchval("SELECT state = 'missing' AND NOT told FROM heartbeats")
    kafka.away = False
    await worker.tick()
    (told,) = kafka.alerts
    body = codec.decode_body(told.body)
    assert (body.source, body.severity, body.labels["service"]) == ("heartbeat", "error", "db")
    await worker.tick()
    assert len(kafka.alerts) == 1


async def test_after_a_break_in_watching_nothing_is_missing_before_it_has_had_its_time(pool: "asyncpg.Pool") -> None:
    kafka = Kafka()
    worker = Heartbeats(pool, Herald(Settings(), kafka.send))
    await beat(pool, interval=MINUTE)
    await moved(pool, 1000)
    await pool.execute("UPDATE heartbeat_watch SET looked_at = looked_at - interval '900 s'")
    await worker.tick()
    assert kafka.told() == []
    await moved(pool, 70)
    await worker.tick()
    assert kafka.told() == [("backup", True)]


async def test_a_clock_that_goes_back_two_hours_hides_no_silence(pool: "asyncpg.Pool") -> None:
    kafka = Kafka()
    worker = Heartbeats(pool, Herald(Settings(), kafka.send))
    await beat(pool, interval=MINUTE)
    await pool.execute("UPDATE heartbeats SET last_beat_at = last_beat_at + interval '2 h'")
    await pool.execute("UPDATE heartbeat_watch SET looked_at = looked_at + interval '2 h'")
    await worker.tick()
    assert kafka.told() == []
    await moved(pool, 70)
    await worker.tick()
    assert kafka.told() == [("backup", True)]


async def test_what_is_watched_no_more_ends_its_alert_and_goes(pool: "asyncpg.Pool") -> None:
    kafka = Kafka()
    worker = Heartbeats(pool, Herald(Settings(), kafka.send))
    await beat(pool, interval=MINUTE)
    await moved(pool, 100)
    await worker.tick()
    async with pool.acquire() as conn:
        assert await heartbeat_rows.delete(conn, "backup", None)
        assert await heartbeat_rows.listed(conn, None) == []
    await moved(pool, 1)
    await worker.tick()
    assert kafka.told() == [("backup", True), ("backup", False)]
    assert await pool.fetchval("SELECT count(*) FROM heartbeats") == 0
    await beat(pool, "cron", interval=MINUTE, actor="ada")
    async with pool.acquire() as conn:
        assert await heartbeat_rows.delete(conn, "cron", None)
        assert not await heartbeat_rows.delete(conn, "cron", None)
    assert await pool.fetchval("SELECT count(*) FROM heartbeats") == 0  # it was alive, and nothing is to be told
    await beat(pool, "cron", interval=MINUTE, actor="bob")
    assert tuple(await pool.fetchrow("SELECT beats, created_by FROM heartbeats") or ()) == (1, "bob")
