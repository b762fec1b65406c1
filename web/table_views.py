"""The stream tables as the page shows them: entries, bytes, epoch and offset of each partition, from Redis."""

import asyncio
import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec
from redis.exceptions import RedisError

from streams import codec, keys
from streams.redis_tables import TableSet
from streams.settings import Settings
from streams.tables import FIELDS, TABLES_OF
from streams.topics import topic_name
from web.problems import PartAwayError

if TYPE_CHECKING:
    from redis.asyncio import Redis

_KEYED: Final = frozenset({"alerts", "pulses", "groups", "members"})
_HASHED: Final = re.compile("[0-9a-f]{8}")
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


class TableEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One key's value in one partition as last committed, with the names of its fields. Bytes are shown in hex."""

    partition: int
    bytes: int
    version: int
    value: dict[str, Any] | list[Any] | str | int | float | bool | None


def team_in(entry: TableEntry) -> str:
    """The team that an entry belongs to; '' where it does not say, so that only who sees all teams sees it."""
    value = entry.value
    return str(value.get("team", "")) if isinstance(value, dict) else ""


class TableViews:
    """Reads the sizes in one pipeline, at most once a second however many ask; and single keys."""

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

    async def look_up(self, table: str, key: str) -> list[TableEntry]:
        """The value of a key, from each partition that has it.

        Raises:
            LookupError: there is no such table.
            PartAwayError: Redis does not answer.
        """
        tables = next((tables for tables in self._sets.values() if table in tables.tables), None)
        if tables is None:
            raise LookupError(table)
        partitions = self._partitions_of(table, key)
        try:
            async with asyncio.timeout(_TIMEOUT):
                values = await asyncio.gather(*(tables.look_up(number, table, key) for number in partitions))
        except (RedisError, OSError, TimeoutError) as error:
            raise PartAwayError(f"Redis cannot be reached ({type(error).__name__})") from error
        return [_entry(table, number, value) for number, value in zip(partitions, values, strict=True) if value]

    def _partitions_of(self, table: str, key: str) -> list[int]:
        if table in _KEYED and _HASHED.match(key):
            return [keys.partition_of(key, self._partitions)]
        return list(range(self._partitions))

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


def _entry(table: str, partition: int, value: bytes) -> TableEntry:
    read = msgspec.msgpack.decode(value)
    names = FIELDS.get(table)
    if names is not None and isinstance(read, list):
        read = dict(zip(names, read[1:], strict=False)) | ({"more": more} if (more := read[1 + len(names) :]) else {})
        if "body" in read:
            read["body"] = codec.decode_body(read["body"])
    shown = msgspec.to_builtins(read, str_keys=True, builtin_types=(bytes,))
    return TableEntry(partition=partition, bytes=len(value), version=codec.version_of(value), value=_readable(shown))


def _readable(value: Any) -> Any:  # noqa: ANN401 - whatever MessagePack holds
    if isinstance(value, dict):
        return {name: _readable(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_readable(part) for part in value]
    return value.hex() if isinstance(value, bytes) else value


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
