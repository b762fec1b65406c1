from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from redis.asyncio import Redis

from embedded import redis as embedded_redis
from embedded.account import server_account
from streams import codec, keys
from streams.app import app_id
from streams.records import AlertBody, Kind, Severity
from streams.redis_tables import TableSet
from streams.settings import Settings
from streams.tables import TABLES_OF
from streams.topics import ALERTS, INPUTS
from web.table_views import TableViews

pytestmark = pytest.mark.redis


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[Redis]:
    server = embedded_redis.Redis(tmp_path / "redis", tmp_path / "logs", server_account(), "secret")
    await server.start()
    client: Redis = Redis.from_url(server.url)
    yield client
    await client.aclose()
    await server.stop(5)


@pytest.mark.parametrize("prefix", ["", "staging"])
async def test_sizes_epoch_and_offset_are_those_under_the_owners_keys(redis: Redis, prefix: str) -> None:
    settings = Settings(partitions=3, app_prefix=prefix)
    tables = TableSet(redis, app_id(settings, "pipeline"), ALERTS, TABLES_OF[ALERTS])
    meta, alert_table, _, recent_table = tables.keys_of(1)
    await tables.claim(1, 7)
    await redis.hset(meta, mapping={"log_id": "life-1", "offset": 41, "saved_at": "1767225600.25"})
    await redis.hset(alert_table, mapping={f"identity-{number}": b"state" for number in range(5)})
    await redis.hset(recent_table, "41", b"ids")

    view = await TableViews(redis, settings).read()
    alerts, inputs = view.topics
    assert (alerts.topic, inputs.topic) == (ALERTS, INPUTS)
    assert {name: size.entries for name, size in alerts.totals.items()} == {"alerts": 5, "pulses": 0, "recent": 1}
    assert alerts.totals["alerts"].bytes > 0
    assert [(row.epoch, row.offset, row.saved_at is None) for row in alerts.partitions] == [
        (0, -1, True),
        (7, 41, False),
        (0, -1, True),
    ]
    assert all(size.entries == 0 for size in inputs.totals.values())


async def test_a_key_is_looked_up_with_the_names_of_its_fields_by_who_does_not_own_it(redis: Redis) -> None:
    settings = Settings(partitions=4)
    body = AlertBody(
        source="s", severity=Severity.ERROR, kind=Kind.COST, summary="slow", description="", labels={"service": "chat"}
    )
    identity, group = keys.hashed(b"an alert"), keys.hashed(b"a group")
    at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    stored: list[tuple[str, str, str, object]] = [
        (ALERTS, "alerts", identity, [1, "default", "f00", codec.encode(body), [["g", "r", {"a": "b"}]], 3, []]),
        (ALERTS, "recent", "17-4", [1, at, b"\x00\x01"]),
        (INPUTS, "members", f"{group}:{identity}", [1, identity, "f00", 1, 2, True]),
        (INPUTS, "rules", "config", 3),
    ]
    for topic, table, key, value in stored:
        tables = TableSet(redis, app_id(settings, "pipeline"), topic, TABLES_OF[topic])
        hashed = key if table in {"alerts", "members"} else keys.hashed(b"any")
        place = tables.keys_of(keys.partition_of(hashed, 4))[1 + TABLES_OF[topic].index(table)]
        await redis.hset(place, key, codec.encode(value))
    views = TableViews(redis, settings)
    [alert] = await views.look_up("alerts", identity)
    assert (alert.partition, alert.version) == (keys.partition_of(identity, 4), 1)
    assert isinstance(alert.value, dict)
    assert alert.value["team"] == "default"
    assert alert.value["groups"] == [["g", "r", {"a": "b"}]]
    assert alert.value["body"][0] == "s"
    [recent] = await views.look_up("recent", "17-4")
    assert recent.value == {"at": "2026-03-01T12:00:00Z", "ids": "0001"}
    [member] = await views.look_up("members", f"{group}:{identity}")
    assert isinstance(member.value, dict)
    assert (member.partition, member.value["firing"]) == (keys.partition_of(group, 4), True)
    [rule] = await views.look_up("rules", "config")
    assert (rule.value, rule.version) == (3, -1)
    assert await views.look_up("alerts", keys.hashed(b"another")) == []
    assert await views.look_up("alerts", "no key of ours") == []
    with pytest.raises(LookupError):
        await views.look_up("passwords", "a")
