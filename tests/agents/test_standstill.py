"""What a worker that does nothing says and does: it waits for its topics, and ends where records wait for it."""

import asyncio
import dataclasses
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from agents import worker as worker_role
from agents.standstill import PAUSE_SECONDS, Standstill
from agents.worker import StalledError, Worker
from streams.observe import Health
from streams.settings import Settings
from streams.topic_admin import ensure_topics
from streams.topics import ALERTS, topic_name
from tests.conftest import Broker


def test_records_that_wait_without_a_step_are_a_standstill() -> None:
    standing = Standstill(0)
    for now in range(1, 5):
        standing.look(now)
        assert standing.idle("alerts", behind=7, excused=False, last_step_at=0) == now - 1
    standing.look(5)
    assert standing.idle("alerts", behind=7, excused=False, last_step_at=4.5) == 0.5
    assert standing.idle("alerts", behind=0, excused=False, last_step_at=4.5) == 0
    standing.look(9)
    assert standing.idle("alerts", behind=1, excused=False, last_step_at=4.5) == 0


def test_what_has_a_name_is_no_standstill() -> None:
    standing = Standstill(0)
    standing.look(1)
    assert standing.idle("alerts", behind=7, excused=False, last_step_at=0) == 0
    standing.look(4)
    assert standing.idle("alerts", behind=7, excused=True, last_step_at=0) == 0
    standing.look(6)
    assert standing.idle("alerts", behind=7, excused=False, last_step_at=0) == 0


def test_time_in_which_the_process_itself_stood_is_no_standstill() -> None:
    standing = Standstill(0)
    standing.look(1)
    assert standing.idle("alerts", behind=7, excused=False, last_step_at=0) == 0
    standing.look(1 + PAUSE_SECONDS + 20)
    assert standing.idle("alerts", behind=7, excused=False, last_step_at=0) == 0


@pytest.mark.timeout(120)
async def test_a_worker_waits_for_its_topics_and_says_which_are_missing(
    settings: Settings, kafka: Broker, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    made = dataclasses.replace(
        settings, kafka_url=kafka.url, log_generation=kafka.generation, database_url=database_url,
        redis_url=redis_url, data_dir=str(tmp_path),
    )  # fmt: skip
    health, stop = Health("worker"), asyncio.Event()
    running = asyncio.create_task(Worker(made, health).run(stop))
    async with asyncio.timeout(60):
        while "topics" not in health.readiness().parts:
            await asyncio.wait({running}, timeout=0.05)
            assert not running.done(), running.exception()
        part = health.readiness().parts["topics"]
        assert (health.readiness().ready, part.ok) == (False, False)
        assert topic_name(made.app_prefix, ALERTS) in part.detail
        stop.set()
        await running


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_worker_whose_consumer_fetches_no_more_ends(
    settings: Settings, apache_kafka: Broker, database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.setattr(worker_role, "STALL_SECONDS", 1.0)
    made = dataclasses.replace(
        settings, kafka_url=apache_kafka.url, database_url=database_url, redis_url=redis_url, partitions=1,
        data_dir=str(tmp_path),
    )  # fmt: skip
    await ensure_topics(made, lambda _: None)
    worker = Worker(made, Health("worker"))
    running = asyncio.create_task(worker.run(asyncio.Event()))
    producer = AIOKafkaProducer(bootstrap_servers=made.kafka_url)
    await producer.start()
    try:
        async with asyncio.timeout(90):
            while not (worker.runners and all(runner.partitions for runner in worker.runners.values())):
                await asyncio.wait({running}, timeout=0.1)
                assert not running.done(), running.exception()
            thread = worker.app.consumer._thread  # type: ignore[attr-defined]
            thread.thread_loop.call_soon_threadsafe(thread._consumer._fetcher._fetch_task.cancel)
            while not thread._consumer._fetcher._fetch_task.done():
                await asyncio.sleep(0.05)
            await producer.send_and_wait(topic_name(made.app_prefix, ALERTS), b"not read", partition=0)
            with pytest.raises(StalledError, match="1 records wait"):
                await running
    finally:
        running.cancel()
        await producer.stop()
