from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from embedded import redis as embedded_redis
from embedded.account import server_account
from streams.app import app_id
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
