"""What workers that catch up tell each other through a real Redis, and what a step does about it."""

import asyncio
import math
import time
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from agents import abreast
from agents.abreast import Abreast
from agents.alignment import SPAN
from streams import codec
from streams.records import AlertBatch
from streams.redis_link import connect
from streams.redis_scripts import SAY
from streams.settings import Settings
from streams.topics import ALERTS
from tests.agents.steps import Owner, World, alert, at

OLD = 600.0


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was said counts, and an answer is awaited, however busy the machine is."""
    monkeypatch.setattr(abreast, "_LASTS_MS", 600_000)
    monkeypatch.setattr(abreast, "_ANSWER_SECONDS", 60)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = connect(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
async def world(settings: Settings, database_url: str, redis: Redis) -> AsyncIterator[World]:
    log = {0: [codec.encode(AlertBatch(accepted_at=at(n), items=(alert(f"e{n}", "A", n),))) for n in range(3)]}
    made = World(settings, database_url, redis, log, written_at=time.time() - OLD)
    yield made
    await made.lose_redis()


async def test_workers_that_catch_up_hear_of_each_other_until_they_leave(redis: Redis, settings: Settings) -> None:
    one, two = (Abreast(redis, settings.app_prefix, ALERTS, name) for name in ("w1", "w2"))
    now = time.time()
    assert await one.until(now - OLD, now) == math.inf
    assert await two.until(now - 2 * OLD, now) == now - OLD + SPAN
    assert await one.until(now - OLD, now) == now - 2 * OLD + SPAN
    await two.beat(now - OLD, now)
    assert await one.until(now - OLD, now) == now - OLD + SPAN
    await two.leave()
    assert await one.until(now - OLD, now) == math.inf
    assert await two.until(now - OLD, now) == math.inf
    await one.beat(None, now)
    assert not await redis.keys(f"*{settings.app_prefix}*oldest")


async def test_a_worker_whose_records_are_young_tells_nothing_and_waits_for_nobody(
    redis: Redis, settings: Settings
) -> None:
    one, two = (Abreast(redis, settings.app_prefix, ALERTS, name) for name in ("w1", "w2"))
    now = time.time()
    await two.beat(now - OLD, now)
    assert await one.until(now - 1, now) == math.inf
    await one.beat(now - 1, now)
    assert await two.until(now - OLD, now) == math.inf
    await two.leave()


async def test_without_redis_it_goes_by_what_it_heard(redis: Redis, settings: Settings) -> None:
    gone = connect("redis://127.0.0.1:1", socket_connect_timeout=0.5)
    one, two = Abreast(gone, "x", ALERTS, "w1"), Abreast(redis, settings.app_prefix, ALERTS, "w2")
    now = time.time()
    assert await one.until(now - OLD, now) == math.inf
    await one.beat(now - OLD, now)
    await two.beat(now - 2 * OLD, now)
    one = Abreast(redis, settings.app_prefix, ALERTS, "w1")
    assert await one.until(now - OLD, now) == now - 2 * OLD + SPAN
    one._script = gone.register_script(SAY)
    assert await one.until(now - OLD, now) == now - 2 * OLD + SPAN
    await two.leave()
    await gone.aclose()


async def held_back(world: World) -> tuple[Owner, Abreast]:
    """A worker whose old records wait, and another that says it has older ones."""
    other, mine = (Abreast(world.redis, world.settings.app_prefix, ALERTS, name) for name in ("other", "mine"))
    await other.beat(time.time() - 2 * OLD, time.time())
    owner = await world.start()
    owner.runner.abreast = mine
    await owner.runner.put(owner.events())  # type: ignore[arg-type]
    return owner, other


async def test_of_a_worker_that_was_killed_nobody_hears_for_long(
    redis: Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (Abreast(redis, settings.app_prefix, ALERTS, name) for name in ("w1", "w2"))
    now = time.time()
    await two.beat(now - 2 * OLD, now)
    assert await one.until(now - OLD, now) == now - 2 * OLD + SPAN
    monkeypatch.setattr(abreast, "_LASTS_MS", -1)
    assert await one.until(now - OLD, now) == math.inf


async def test_a_beat_that_is_under_way_does_not_outlive_who_leaves(redis: Redis, settings: Settings) -> None:
    one, two = (Abreast(redis, settings.app_prefix, ALERTS, name) for name in ("w1", "w2"))
    now = time.time()
    await asyncio.gather(two.beat(now - 2 * OLD, now), two.leave(), two.beat(now - 2 * OLD, now))
    assert await one.until(now - OLD, now) == math.inf
    await one.leave()
    assert not await redis.keys(f"*{settings.app_prefix}*oldest")


async def test_a_step_takes_nothing_while_another_worker_is_far_behind(world: World) -> None:
    owner, other = await held_back(world)
    with capture_logs() as logs:
        running = asyncio.create_task(owner.runner.run())
        turns = set[float]()
        while len(turns) < 4:
            await asyncio.wait({running}, timeout=0.01)
            assert not running.done(), running.exception()
            turns.add(owner.runner.last_step_at)
    assert (owner.runner.oldest, owner.partitions[0].next_offset) == (world.written_at, 0)
    assert [line["event"] for line in logs] == ["lets workers that are further behind go first"]
    await other.leave()
    while owner.partitions[0].next_offset < 3:
        await asyncio.wait({running}, timeout=0.01)
        assert not running.done(), running.exception()
    running.cancel()
    await owner.close()


async def test_partitions_that_are_taken_away_are_not_held_back(world: World) -> None:
    owner, other = await held_back(world)
    assert owner.runner._taken(await owner.runner._order()) == []
    owner.abandoned = True
    assert len(owner.runner._taken(await owner.runner._order())) == 3
    await other.leave()
    await owner.close()
