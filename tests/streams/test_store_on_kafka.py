"""Anybody's Faust app, its table in memory or in Redis, on a real broker: counts go on at the next worker."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import faust
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from faust.contrib.asgi import faust_app_running

from tests.conftest import Broker

PARTITIONS = 4
WORDS = [f"word-{n % 40}" for n in range(400)]


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> str:
    return "memory://" if request.param == "memory" else f"{request.getfixturevalue('redis_url')}?flush=0.05"


@pytest.fixture
async def topic(apache_kafka: Broker, app_prefix: str) -> str:
    admin = AIOKafkaAdminClient(bootstrap_servers=apache_kafka.url)
    await admin.start()
    try:
        names = (f"{app_prefix}-words", f"{app_prefix}-counts-changelog")
        await admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in names])
    finally:
        await admin.close()
    return app_prefix


class Counting:
    """One worker of the app: it counts words, and how much of the changelog it had to read."""

    def __init__(self, broker: Broker, store: str, prefix: str, folder: Path) -> None:
        self.app: Any = faust.App(
            prefix, broker=f"kafka://{broker.url}", store=store, datadir=str(folder), web_enabled=False,
            topic_allow_declare=False, broker_commit_interval=0.2, broker_session_timeout=6,
            broker_heartbeat_interval=1, broker_rebalance_timeout=6, worker_redirect_stdouts=False,
            consumer_auto_offset_reset="earliest", table_standby_replicas=0, topic_disable_leader=True,
        )  # fmt: skip
        self.counts = cast("Any", self.app.Table("counts", default=int, partitions=PARTITIONS))
        source = self.app.topic(f"{prefix}-words", key_type=str, value_type=str, partitions=PARTITIONS)
        self.seen = 0
        self.replayed = 0
        apply = self.counts.data.apply_changelog_batch

        def counting(batch: Sequence[Any], **how: Any) -> None:
            self.replayed += len(batch)
            apply(batch, **how)

        self.counts.data.apply_changelog_batch = counting

        async def agent(words: Any) -> None:
            async for word in words:
                self.counts[word] += 1
                self.seen += 1

        self.app.agent(source, name="count")(agent)

    async def until(self, seen: int) -> None:
        async with asyncio.timeout(60):
            while self.seen < seen:
                await asyncio.sleep(0.02)


@asynccontextmanager
async def sending(broker: Broker, prefix: str) -> AsyncIterator[Any]:
    producer = AIOKafkaProducer(bootstrap_servers=broker.url)
    await producer.start()

    async def send(words: Iterable[str]) -> None:
        for word in words:
            quoted = f'"{word}"'.encode()
            await producer.send(f"{prefix}-words", quoted, key=quoted)
        await producer.flush()

    try:
        yield send
    finally:
        await producer.stop()


@pytest.mark.slow
async def test_counts_go_on_at_the_next_worker(apache_kafka: Broker, store: str, topic: str, tmp_path: Path) -> None:
    async with sending(apache_kafka, topic) as send:
        await send(WORDS)
        first = Counting(apache_kafka, store, topic, tmp_path / "first")
        async with faust_app_running(first.app, stop_timeout=10):
            await first.until(len(WORDS))
            # So that what was counted is confirmed, flushed and committed, as far as the store does that.
            await asyncio.sleep(0.6)
        assert first.counts.copy() == Counter(WORDS)
        await send(WORDS[:100])
        second = Counting(apache_kafka, store, topic, tmp_path / "second")
        async with faust_app_running(second.app, stop_timeout=10):
            await second.until(100)
            assert second.counts.copy() == Counter(WORDS) + Counter(WORDS[:100])
    assert second.replayed == (len(WORDS) if store == "memory://" else 0)
