"""A process of `make handover`: the worker's own tables of live alerts, taken over from Redis, or rebuilt.

Prints one line of JSON: seconds until every partition is usable, alerts that are
there, bytes of memory that they take.
"""

import asyncio
import gc
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from agents.loading import Loader
from agents.work import Partition
from loadtests.live_state import APPLIED, LOG_ID
from sinks import postgres
from streams.garbage import collect_seldom
from streams.redis_link import connect
from streams.redis_tables import TableSet
from streams.settings import Settings
from streams.tables import TABLES_OF
from streams.topics import ALERTS, INPUTS

APP: Final = "handover"


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What to take over: `topics` of `partitions` each."""

    database_url: str
    redis_url: str
    partitions: int
    topics: tuple[str, ...] = (ALERTS, INPUTS)


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """How it went. `grown` is the memory that this process has more than before, in bytes."""

    seconds: float
    alerts: int
    members: int
    grown: int


async def take(job: Job) -> Taken:
    """Load every partition as a worker does on assignment."""
    settings = Settings(partitions=job.partitions)
    pool = await postgres.open_pool(job.database_url, size=4, statement_timeout_ms=4000, name="handover")
    redis = connect(job.redis_url, socket_timeout=10)
    gc.collect()
    collect_seldom()
    before = resident()
    began = time.perf_counter()
    loaders = [_loader(settings, topic, pool, TableSet(redis, APP, topic, TABLES_OF[topic])) for topic in job.topics]
    for loader in loaders:
        await loader.load(set(range(job.partitions)))
    seconds = time.perf_counter() - began
    views = [view for loader in loaders for view in loader.tables.views.values()]
    alerts, members = (sum(len(view.tables.get(table, ())) for view in views) for table in ("alerts", "members"))
    grown = resident() - before
    pool.terminate()
    await redis.aclose()
    return Taken(seconds=seconds, alerts=alerts, members=members, grown=grown)


def _loader(settings: Settings, topic: str, pool: Any, tables: TableSet) -> Loader:  # noqa: ANN401 - asyncpg's pool
    owned: dict[int, Partition] = {}

    async def offsets(topic: str, partitions: Sequence[int]) -> Mapping[int, tuple[int, int]]:  # noqa: ARG001 - what Kafka has
        return dict.fromkeys(partitions, (0, APPLIED + 1))

    async def prepare(_: int) -> None:
        """Nothing to fetch: the built-in rules."""

    return Loader(
        settings=settings,
        topic=topic,
        tables=tables,
        partitions=owned,
        pool=pool,
        log_id=LOG_ID,
        offsets=offsets,
        prepare=prepare,
        waiting_for=lambda dependency, ok: None,  # noqa: ARG005 - its signature
    )


def resident() -> int:
    """The memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096


if __name__ == "__main__":
    result = asyncio.run(take(msgspec.json.decode(sys.argv[1], type=Job)))
    print(msgspec.json.encode(result).decode())
