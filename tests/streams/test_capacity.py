"""At the most alerts a partition may hold, new ones are refused honestly; repeats and ends go through."""

import dataclasses
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from streams import keys
from streams.capacity import Capacity
from streams.handover import Handover
from streams.intake import parse_own
from streams.records import Alert, AlertBatch
from streams.redis_tables import TableSet
from streams.settings import Settings
from streams.tables import TABLES_OF
from streams.topics import ALERTS, topic_name
from web.ingest import ALERTMANAGER, OWN, Ingest


class Kafka:
    """Takes everything."""

    connected = True
    behind = False

    def look_anew(self) -> None:
        raise AssertionError("nothing went to RabbitMQ")

    def __init__(self) -> None:
        self.items: list[Any] = []

    async def publish(self, batch: AlertBatch) -> None:
        self.items += batch.items


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = Redis.from_url(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
def capped(settings: Settings) -> Settings:
    return dataclasses.replace(settings, alerts_cap=3, partitions=2)


def said(name: str, status: str = "firing") -> dict[str, Any]:
    return {"source": "test", "status": status, "summary": "s", "labels": {"alertname": name}}


def event(name: str, settings: Settings, status: str = "firing") -> Alert:
    body = json.dumps(said(name, status)).encode()
    parsed = parse_own(body, accepted_at=datetime.now(UTC), limits=settings)
    assert isinstance(parsed.items[0], Alert)
    return parsed.items[0]


def names_in(partition: int, settings: Settings, count: int) -> list[str]:
    found = (f"a{n}" for n in range(1000))
    return [name for name in found if keys.partition_of(event(name, settings).identity, 2) == partition][:count]


async def held(redis: Redis, settings: Settings, names: list[str]) -> None:
    """What a worker keeps of these alerts."""
    tables = TableSet(redis, topic_name(settings.app_prefix, "pipeline"), ALERTS, TABLES_OF[ALERTS])
    place = tables.keys_of(0)[1 + TABLES_OF[ALERTS].index("pulses")]
    for name in names:
        await redis.hset(place, event(name, settings).identity, b"pulse")


async def test_below_the_bound_nobody_is_asked(redis: Redis, capped: Settings) -> None:
    capacity = Capacity(redis, capped)
    await held(redis, capped, names_in(0, capped, 2))
    await capacity.refresh()
    assert capacity.full == frozenset()
    assert await capacity.without_room([event(name, capped) for name in names_in(0, capped, 9)]) == set()


async def test_a_full_partition_has_room_for_ends_and_for_what_it_knows(redis: Redis, capped: Settings) -> None:
    capacity = Capacity(redis, capped)
    mine, others = names_in(0, capped, 5), names_in(1, capped, 1)
    await held(redis, capped, mine[:3])
    await capacity.refresh()
    assert capacity.full == {0}
    items = [*(event(name, capped) for name in (*mine, *others)), event(mine[4], capped, "resolved")]
    assert await capacity.without_room(items) == {3, 4}


async def test_while_redis_is_away_what_is_not_known_to_have_room_has_none(capped: Settings) -> None:
    capacity = Capacity(Redis(port=1), capped)
    await capacity.refresh()
    assert await capacity.without_room([event("a", capped)]) == set()
    capacity.full = frozenset({0, 1})
    assert await capacity.without_room([event("a", capped)]) == {0}


@pytest.mark.parametrize(("route", "status"), [(OWN, 429), (ALERTMANAGER, 503)])
async def test_new_alerts_are_refused_and_all_others_are_taken(
    redis: Redis, capped: Settings, route: str, status: int
) -> None:
    mine = names_in(0, capped, 4)
    own = route == OWN
    known = [said(name) if own else {"labels": {"alertname": name}} for name in mine]
    places = [event(name, capped).identity for name in mine] if own else await _identities(capped, known)
    tables = TableSet(redis, topic_name(capped.app_prefix, "pipeline"), ALERTS, TABLES_OF[ALERTS])
    for number in range(2):
        place = tables.keys_of(number)[1 + TABLES_OF[ALERTS].index("pulses")]
        for identity in (*places[:3], "x", "y", "z"):
            await redis.hset(place, identity, b"pulse")
    capacity = Capacity(redis, capped)
    await capacity.refresh()
    kafka = Kafka()
    app = Ingest(capped, Handover(kafka, kafka), capacity)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://gateway") as client:
        answer = await client.post(route, json=known)
        assert (answer.status_code, answer.headers["retry-after"]) == (status, "1")
        assert "no room for 1 new of 4 alerts" in answer.text
        assert [item.identity for item in kafka.items] == places[:3]
        await redis.delete(*(key for number in range(2) for key in tables.keys_of(number)))
        await capacity.refresh()
        assert (await client.post(route, json=known)).status_code in {200, 202}
    assert len(kafka.items) == 7


async def _identities(settings: Settings, alerts: list[Any]) -> list[str]:
    kafka = Kafka()
    app = Ingest(settings, Handover(kafka, kafka))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://gateway") as client:
        assert (await client.post(ALERTMANAGER, json=alerts)).status_code == 200
    return [item.identity for item in kafka.items]
