"""The actions `replay` and `rebuild`: dead letters judged again, and tables written to Redis anew by their owners."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from agents.dlq import AT_ONCE, producing
from agents.job_alerts import Send
from agents.jobs import Work
from agents.replay import Replayer
from agents.work import Outgoing
from sinks import dead_letter_rows
from streams import codec
from streams.app import app_id
from streams.records import Tick
from streams.redis_link import connect
from streams.redis_tables import TableSet
from streams.rules_jobs import Rebuild, Replay
from streams.settings import Settings
from streams.tables import TABLES_OF
from streams.topics import topic_name

_VERDICT_SECONDS: Final = 30.0
_WRITTEN_WITHIN: Final = 60.0
_LOOK: Final = 0.1


class NotWrittenError(Exception):
    """Raised where an owner has not written its tables in time."""


async def replay(work: Work, settings: Settings) -> Mapping[str, Any]:
    """Send every letter that waits through intake again; each keeps its event id, so a second time repeats nothing."""
    told: Replay = work.told
    source, until = told.source or None, datetime.now(UTC)
    counts: dict[str, int] = {}
    async with work.pool.acquire(timeout=5) as conn, producing(settings) as producer:
        total = await dead_letter_rows.count_waiting(conn, source=source, until=until)
        replayer = Replayer(settings, conn, producer, _VERDICT_SECONDS)
        last = None
        while letters := await dead_letter_rows.waiting(conn, source=source, until=until, after=last, limit=AT_ONCE):
            for outcome in await replayer.replay(letters):
                counts[outcome.word] = counts.get(outcome.word, 0) + 1
            last = letters[-1]
            await work.progress(sum(counts.values()), total)
    return dict(counts)


async def rebuild(work: Work, settings: Settings, send: Send) -> Mapping[str, Any]:
    """Take each partition's tables from Redis and have its owner step, which writes its whole view again."""
    told: Rebuild = work.told
    redis = connect(settings.redis_url, socket_timeout=5, socket_connect_timeout=2)
    tables = TableSet(redis, app_id(settings, "pipeline"), told.topic, TABLES_OF[told.topic])
    topic = topic_name(settings.app_prefix, told.topic)
    entries = 0
    try:
        for number in range(settings.partitions):
            await redis.delete(*tables.keys_of(number))
            await send([Outgoing(topic, number, b"tick", codec.encode(Tick(due_at=datetime.now(UTC))))])
            entries += await _written(tables, number)
            await work.progress(number + 1, settings.partitions)
    finally:
        await redis.aclose()
    return {"partitions": settings.partitions, "entries": entries}


async def _written(tables: TableSet, number: int) -> int:
    meta, *keys = tables.keys_of(number)
    try:
        async with asyncio.timeout(_WRITTEN_WITHIN):
            while await tables.redis.hget(meta, "entries") is None or not await tables.whole(number):  # noqa: ASYNC110 - Redis has no event
                await asyncio.sleep(_LOOK)
    except TimeoutError as error:
        raise NotWrittenError(f"partition {number} was not written within {_WRITTEN_WITHIN:g} s") from error
    return sum([await tables.redis.hlen(key) for key in keys])
