"""A step of a policy is told once, though the worker that decided it was stopped in the middle and goes on later."""

import itertools
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis

from streams import codec, keys
from streams.records import Change, ConfigChanged, InputBatch, InputsRecord, MemberChange, Tick
from streams.redis_tables import FencedError
from streams.rules_config import load
from streams.settings import Settings
from streams.topics import INPUTS
from tests.agents.stage import body_of
from tests.agents.steps import POINTS, Crash, Owner, World, at

RULES = load(
    """
route: {receiver: desk, group_by: [alertname], group_wait: 1s}
receivers: [{name: desk}, {name: boss, webhook_configs: [{url: "http://boss.example/"}]}]
incidents:
  people:
    ada: {webhook_configs: [{url: "http://ada.example/"}], email_configs: [{to: a@b.c, from: d@e.f, smarthost: 'm:25'}]}
  policies:
    p:
      steps: [{targets: [{person: ada}]}, {delay: 10s, targets: [{person: ada}, {receiver: boss}]}]
      repeat: {times: 1, after: 30s}
  escalation: [{policy: p}]
""",
    version=2,
)
STEPS = [
    ("@ada", 0, "escalation step 1 of policy p"), ("@ada", 1, "escalation step 1 of policy p"),
    ("@ada", 0, "escalation step 2 of policy p"), ("@ada", 1, "escalation step 2 of policy p"),
    ("boss", 0, "escalation step 2 of policy p"),
    ("@ada", 0, "escalation step 1 of policy p, round 2"), ("@ada", 1, "escalation step 1 of policy p, round 2"),
]  # fmt: skip


def log() -> list[bytes]:
    """An incident opens, and time passes until its second round."""
    fired = MemberChange(
        change=Change.FIRED, group=keys.hashed(b"g"), route=RULES.route.id, group_labels={"alertname": "Down"},
        team="default", identity=keys.hashed(b"i"), fingerprint="f", occurrence=1, revision=1, starts_at=at(0),
        ends_at=None, accepted_at=at(0), cause=0, index=0, cause_partition=0, body=body_of({"alertname": "Down"}),
        config_version=2,
    )  # fmt: skip
    records: list[InputsRecord] = [
        ConfigChanged(version=2, announced_at=at(0)),
        InputBatch(log_id="log-1", accepted_at=at(0), items=(fired,)),
        *(Tick(due_at=at(seconds)) for seconds in (1, 11, 41)),
    ]
    return [codec.encode(record) for record in records]


@pytest.fixture
async def world(settings: Settings, database_url: str, redis_url: str) -> AsyncIterator[World]:
    redis = Redis.from_url(redis_url)
    made = World(settings, database_url, redis, {0: log()}, topic=INPUTS)
    made.configs[2] = RULES
    yield made
    await made.lose_redis()
    await redis.aclose()


async def tasks(world: World) -> list[tuple[str, int, str]]:
    conn = await asyncpg.connect(world.database_url)
    try:
        rows = await conn.fetch(
            "SELECT receiver, integration, reason FROM notification_tasks ORDER BY created_at, receiver, integration"
        )
    finally:
        await conn.close()
    return [tuple(row) for row in rows]


@pytest.mark.parametrize("bound", [3, 5])
async def test_a_worker_that_is_stopped_before_its_commit_and_goes_on_after_another_took_over_tells_nothing(
    world: World, bound: int
) -> None:
    old = await world.start()
    await old.step(bound - 1)
    write = old.logic.write
    new: list[Owner] = []

    async def overtaken(conn: Any, works: Any) -> None:
        """Between deciding and committing, the other worker does all of it."""
        new.append(await world.start())
        await new[0].step()
        await write(conn, works)

    old.take_the_long_way()
    old.logic.write = overtaken  # type: ignore[method-assign]
    with pytest.raises(FencedError):
        await old.step(bound)
    assert await tasks(world) == STEPS
    for owner in (old, *new):
        await owner.close()


@pytest.mark.parametrize(("point", "lost_redis"), list(zip(POINTS, itertools.cycle([False, True]), strict=False)))
async def test_a_worker_that_dies_anywhere_in_a_step_tells_it_once(world: World, point: str, lost_redis: bool) -> None:
    owner = await world.start()
    await owner.step(2)
    for bound in (3, 4, 5):
        owner.die(point)
        with pytest.raises(Crash):
            await owner.step(bound)
        await owner.close()
        if lost_redis:
            await world.lose_redis()
        owner = await world.start()
        await owner.step(bound)
    assert await tasks(world) == STEPS
    await owner.close()
