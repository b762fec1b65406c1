"""What incidents tell each other is not lost when a worker dies before it is sent, and Redis with it."""

import itertools
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from streams import codec, keys
from streams.records import Action, ActionArgs, ActionName, Change, InputBatch, InputsRecord, MemberChange, Tick
from streams.rules_config import BUILT_IN
from streams.settings import Settings
from streams.topics import INPUTS
from tests.agents.stage import body_of
from tests.agents.steps import Crash, World, at

GROUPS = {name: keys.hashed(name.encode()) for name in ("api", "web", "db")}
INCIDENTS = {
    name: str(keys.derived_id("incident", GROUPS[name], "log-1", 0, 0, index)) for index, name in enumerate(GROUPS)
}


def fired(index: int, name: str) -> MemberChange:
    labels = {"alertname": name}
    return MemberChange(
        change=Change.FIRED, group=GROUPS[name], route=BUILT_IN.route.id, group_labels=labels, team="default",
        identity=keys.hashed(b"i" + name.encode()), fingerprint="f", occurrence=1, revision=1, starts_at=at(0),
        ends_at=None, accepted_at=at(0), cause=0, index=index, cause_partition=0, body=body_of(labels),
        config_version=0,
    )  # fmt: skip


def act(number: int, name: str, action: ActionName, **args: object) -> Action:
    return Action(
        id=f"00000000-0000-4000-8000-{number:012}", team="default", group=GROUPS[name], incident_id=INCIDENTS[name],
        actor="ada", action=action, at=at(number), args=ActionArgs(**args),  # type: ignore[arg-type]
    )  # fmt: skip


def log() -> list[bytes]:
    """Each way that an incident has of telling another one something, and a tick after each."""
    under = {"into": INCIDENTS["api"], "into_group": GROUPS["api"]}
    child = {"into": INCIDENTS["db"], "into_group": GROUPS["db"], "worst": 1}
    said: list[InputsRecord] = [
        InputBatch(log_id="log-1", accepted_at=at(0), items=tuple(itertools.starmap(fired, enumerate(GROUPS)))),
        act(1, "web", ActionName.MERGE, **under),  # says that it is a child
        act(2, "web", ActionName.SPLIT),  # says that it is gone
        act(3, "api", ActionName.CHILD, revision=1, **child),
        act(4, "api", ActionName.RESOLVE),  # resolves its child
        act(5, "api", ActionName.CHILD, **{**child, "into": INCIDENTS["web"], "into_group": GROUPS["web"]}),  # refuses
    ]
    return [codec.encode(one) for number, record in enumerate(said) for one in (record, Tick(due_at=at(number)))]


@pytest.fixture
async def world(settings: Settings, database_url: str, redis_url: str) -> AsyncIterator[World]:
    redis = Redis.from_url(redis_url)
    made = World(settings, database_url, redis, {0: log()}, topic=INPUTS)
    yield made
    await made.lose_redis()
    await redis.aclose()


def said(world: World) -> set[tuple[str, str, str, str]]:
    records = [codec.decode_inputs(one.value) for one in world.sent if one.topic.endswith(INPUTS)]
    actions = [one for one in records if isinstance(one, Action)]
    return {(one.id, one.action, one.incident_id, one.args.into) for one in actions}


@pytest.mark.parametrize(
    ("point", "lost_redis"), [("after commit", True), ("after commit", False), ("after send", True)]
)
async def test_what_one_owner_tells_another_is_told_whenever_its_worker_dies(
    world: World, point: str, lost_redis: bool
) -> None:
    owner = await world.start()
    await owner.step(1)
    for bound in range(2, len(world.log[0]), 2):
        await owner.step(bound)
        owner.die(point)
        with pytest.raises(Crash):
            await owner.step(bound + 1)
        await owner.close()
        if lost_redis:
            await world.lose_redis()
        owner = await world.start()
        await owner.step(bound + 1)
    await owner.step()
    await owner.close()
    assert sorted((action, into) for _, action, _, into in said(world)) == sorted([
        ("child", INCIDENTS["web"]), ("child", INCIDENTS["web"]), ("resolve", ""), ("orphan", INCIDENTS["api"]),
    ])  # fmt: skip
