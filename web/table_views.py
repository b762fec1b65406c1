"""The stream tables as the page shows them: entries, bytes, epoch and offset of each partition, from Redis."""

import asyncio
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec
from redis.exceptions import RedisError

from streams.redis_tables import TableSet
from streams.settings import Settings
from streams.tables import TABLES_OF
from streams.topics import topic_name
from web.problems import PartAwayError

if TYPE_CHECKING:
    from redis.asyncio import Redis

_FRESH: Final = 1.0
_TIMEOUT: Final = 3.0


class TableSize(msgspec.Struct, frozen=True):
    """One table of one partition. `bytes` is Redis' estimate of the memory it takes."""

    entries: int
    bytes: int


class PartitionView(msgspec.Struct, frozen=True, kw_only=True):
    """One partition: who owns it (epoch), how far it was saved (offset, -1: never), and its tables."""

    partition: int
    epoch: int
    offset: int
    log_id: str
    saved_at: datetime | None
    tables: dict[str, TableSize]


class TopicView(msgspec.Struct, frozen=True, kw_only=True):
    """An agent's input topic with the tables it leads to; `totals` are over all partitions."""

    topic: str
    totals: dict[str, TableSize]
    partitions: list[PartitionView]


class TablesView(msgspec.Struct, frozen=True, kw_only=True):
    """Every stream table, as read at `at`."""

    at: datetime
    topics: list[TopicView]


class TableViews:
    """Reads the sizes in one pipeline, at most once a second however many ask."""

    def __init__(self, redis: "Redis", settings: Settings) -> None:
        app = topic_name(settings.app_prefix, "pipeline")
        self._sets = {topic: TableSet(redis, app, topic, tables) for topic, tables in TABLES_OF.items()}
        self._redis = redis
        self._partitions = settings.partitions
        self._lock = asyncio.Lock()
        self._read_at = float("-inf")
        self._view: TablesView | None = None

    async def read(self) -> TablesView:
        """The sizes, at most a second old.

        Raises:
            PartAwayError: Redis does not answer.
        """
        async with self._lock:
            if self._view is None or time.monotonic() - self._read_at > _FRESH:
                try:
                    async with asyncio.timeout(_TIMEOUT):
                        self._view = await self._fetch()
                except (RedisError, OSError, TimeoutError) as error:
                    raise PartAwayError(f"Redis cannot be reached ({type(error).__name__})") from error
                self._read_at = time.monotonic()
            return self._view

    async def _fetch(self) -> TablesView:
        pipeline = self._redis.pipeline(transaction=False)
        for tables in self._sets.values():
            for partition in range(self._partitions):
                meta, *keys = tables.keys_of(partition)
                pipeline.hmget(meta, ["epoch", "offset", "log_id", "saved_at"])
                for key in keys:
                    pipeline.hlen(key)
                    pipeline.memory_usage(key)
        answers = iter(await pipeline.execute())
        topics = []
        for name, tables in self._sets.items():
            partitions = [_partition(number, tables.tables, answers) for number in range(self._partitions)]
            topics.append(TopicView(topic=name, totals=_totals(tables.tables, partitions), partitions=partitions))
        return TablesView(at=datetime.now(UTC), topics=topics)


def _partition(number: int, tables: tuple[str, ...], answers: Any) -> PartitionView:  # noqa: ANN401 - an iterator over Redis' answers
    epoch, offset, log_id, saved_at = (None if value is None else _text(value) for value in next(answers))
    sizes = {table: TableSize(entries=int(next(answers)), bytes=int(next(answers) or 0)) for table in tables}
    return PartitionView(
        partition=number,
        epoch=int(epoch or 0),
        offset=int(offset) if offset is not None else -1,
        log_id=log_id or "",
        saved_at=datetime.fromtimestamp(float(saved_at), UTC) if saved_at else None,
        tables=sizes,
    )


def _totals(tables: tuple[str, ...], partitions: list[PartitionView]) -> dict[str, TableSize]:
    return {
        table: TableSize(
            entries=sum(partition.tables[table].entries for partition in partitions),
            bytes=sum(partition.tables[table].bytes for partition in partitions),
        )
        for table in tables
    }


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
