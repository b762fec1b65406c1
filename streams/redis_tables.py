"""The Redis side of the table store: keys, the atomic write, loading, look-ups from anywhere.

One partition of one agent's input topic keeps all its tables behind one mark
(epoch, log, offset; time and configuration there), and every write moves both:

    {<app>:<topic>:<p>}:meta        hash: epoch, log_id, offset, config_version, watermark, saved_at
    {<app>:<topic>:<p>}:t:<table>   hash: key -> encoded value

The braces are Redis Cluster's hash tag: one partition's keys share a slot.
"""

import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha1
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

_SCAN_COUNT: Final = 2000
_EPOCH: Final = datetime.fromtimestamp(0, UTC)

# KEYS: meta, one hash a table. ARGV: epoch, log_id, offset, config_version, watermark, saved_at,
# then for each table the number of set arguments, field and value in turn, the number of deletions, fields.
# Answers 1 written, 0 already there, -1 fenced.
_FLUSH: Final = """
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'log_id', 'offset')
if (meta[1] or '0') ~= ARGV[1] then return -1 end
if meta[2] == ARGV[2] and tonumber(meta[3] or '-1') >= tonumber(ARGV[3]) then return 0 end
local at = 7
for t = 2, #KEYS do
  local last = at + tonumber(ARGV[at])
  at = at + 1
  while at <= last do
    local upto = math.min(at + 3999, last)
    redis.call('HSET', KEYS[t], unpack(ARGV, at, upto))
    at = upto + 1
  end
  last = at + tonumber(ARGV[at])
  at = at + 1
  while at <= last do
    local upto = math.min(at + 3999, last)
    redis.call('HDEL', KEYS[t], unpack(ARGV, at, upto))
    at = upto + 1
  end
end
redis.call('HSET', KEYS[1], 'log_id', ARGV[2], 'offset', ARGV[3], 'config_version', ARGV[4], 'watermark', ARGV[5],
  'saved_at', ARGV[6])
return 1
"""

# Takes the partition over: the epoch only grows. Answers 1, or 0 when a newer owner was there first.
_CLAIM: Final = """
if tonumber(redis.call('HGET', KEYS[1], 'epoch') or '0') > tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1])
return 1
"""

# Drops a partition's tables and its position, keeping the epoch, before they are rebuilt.
_CLEAR: Final = """
if (redis.call('HGET', KEYS[1], 'epoch') or '0') ~= ARGV[1] then return -1 end
redis.call('HDEL', KEYS[1], 'log_id', 'offset', 'config_version', 'watermark', 'saved_at')
for t = 2, #KEYS do redis.call('UNLINK', KEYS[t]) end
return 1
"""


# One piece of a rebuilt table: KEYS meta, table; ARGV epoch, field and value in turn.
_FILL: Final = """
if (redis.call('HGET', KEYS[1], 'epoch') or '0') ~= ARGV[1] then return -1 end
redis.call('HSET', KEYS[2], unpack(ARGV, 2))
return 1
"""


class FencedError(RuntimeError):
    """Raised when a newer owner has the partition: this process's state is stale and it must stop."""


class EvictingRedisError(RuntimeError):
    """Raised at start when Redis may evict keys; set `maxmemory-policy noeviction`."""


@dataclass(frozen=True)
class Mark:
    """How far a partition's tables are, and what its owner knew there. Offset -1: nothing was written yet.

    A replay from here decides as the first time only with the time and the
    configuration of here: Postgres' progress row may be further on.
    """

    epoch: int
    log_id: str
    offset: int
    config_version: int
    watermark: datetime


@dataclass
class View:
    """One partition's tables in memory: encoded values by key, and the mark they stand at."""

    partition: int
    mark: Mark
    tables: dict[str, dict[str, bytes]]

    @property
    def epoch(self) -> int:
        """The owner's epoch."""
        return self.mark.epoch

    @property
    def log_id(self) -> str:
        """The log that the offset is on."""
        return self.mark.log_id

    @property
    def offset(self) -> int:
        """The last offset whose changes are in the tables."""
        return self.mark.offset


@dataclass
class Overlay:
    """Uncommitted changes over a view; None marks a deletion."""

    view: View
    changes: dict[str, dict[str, bytes | None]] = field(default_factory=dict)

    def get(self, table: str, key: str) -> bytes | None:
        """The value as this step sees it."""
        changed = self.changes.get(table)
        if changed is not None and key in changed:
            return changed[key]
        return self.view.tables[table].get(key)

    def put(self, table: str, key: str, value: bytes | None) -> None:
        """Set a value, or delete it with None."""
        self.changes.setdefault(table, {})[key] = value

    def commit(self, mark: Mark) -> None:
        """Fold the changes into the view, once everything else is durable."""
        for table, changes in self.changes.items():
            target = self.view.tables[table]
            for key, value in changes.items():
                if value is None:
                    target.pop(key, None)
                else:
                    target[key] = value
        self.view.mark = mark


class TableSet:
    """The tables that move together in one agent's step, for every partition of its topic."""

    def __init__(self, redis: "Redis", app: str, topic: str, tables: Iterable[str]) -> None:
        self.redis = redis
        self.app = app
        self.topic = topic
        self.tables = tuple(tables)
        self.views: dict[int, View] = {}
        self._flush_sha = sha1(_FLUSH.encode(), usedforsecurity=False).hexdigest()
        self._claim = redis.register_script(_CLAIM)
        self._clear = redis.register_script(_CLEAR)
        self._fill = redis.register_script(_FILL)

    def keys_of(self, partition: int) -> list[str]:
        """The meta key and one key a table, in the order of the scripts."""
        tag = f"{{{self.app}:{self.topic}:{partition}}}"
        return [f"{tag}:meta", *(f"{tag}:t:{table}" for table in self.tables)]

    async def claim(self, partition: int, epoch: int) -> None:
        """Take a partition over with an epoch allocated in Postgres.

        Raises:
            FencedError: a newer owner claimed it already.
        """
        if not await self._claim(keys=self.keys_of(partition)[:1], args=[epoch]):
            raise FencedError(f"{self.topic}/{partition}: epoch {epoch} is not the newest")

    async def mark(self, partition: int) -> Mark:
        """The partition's mark; any process may ask."""
        found: Any = await self.redis.hmget(
            self.keys_of(partition)[0], ["epoch", "log_id", "offset", "config_version", "watermark"]
        )
        epoch, log_id, offset, config_version, watermark = found
        if offset is None or watermark is None:
            return Mark(int(epoch or 0), "", -1, 0, _EPOCH)
        at = datetime.fromisoformat(watermark.decode())
        return Mark(int(epoch or 0), log_id.decode(), int(offset), int(config_version), at)

    async def load(self, partition: int, epoch: int) -> View:
        """Read a claimed partition; nobody else can write it any more, so a scan is consistent."""
        mark = await self.mark(partition)
        tables: dict[str, dict[str, bytes]] = {}
        for table, key in zip(self.tables, self.keys_of(partition)[1:], strict=True):
            values: dict[str, bytes] = {}
            async for fields in self._scan(key):
                values.update((name.decode(), value) for name, value in fields.items())
            tables[table] = values
        return View(partition, replace(mark, epoch=epoch), tables)

    async def _scan(self, key: str) -> AsyncIterator[dict[bytes, bytes]]:
        cursor = 0
        fields: Any
        while True:
            cursor, fields = await self.redis.hscan(key, cursor, count=_SCAN_COUNT)
            yield fields
            if not cursor:
                return

    async def replace(self, view: View) -> None:
        """Write a rebuilt partition whole; its mark moves only with the last piece.

        Raises:
            FencedError: another owner took the partition meanwhile.
        """
        if await self._clear(keys=self.keys_of(view.partition), args=[view.epoch]) < 0:
            raise FencedError(f"{self.topic}/{view.partition} was taken over during a rebuild")
        meta, *keys = self.keys_of(view.partition)
        for key, table in zip(keys, self.tables, strict=True):
            items = list(view.tables[table].items())
            for start in range(0, len(items), _SCAN_COUNT):
                piece = [part for item in items[start : start + _SCAN_COUNT] for part in item]
                if await self._fill(keys=[meta, key], args=[view.epoch, *piece]) < 0:
                    raise FencedError(f"{self.topic}/{view.partition} was taken over during a rebuild")
        await self.flush([(Overlay(view), view.mark)])

    async def flush(self, writes: Sequence[tuple[Overlay, Mark]]) -> None:
        """Write each overlay with the mark that it leads to: one script a partition, one round trip.

        Raises:
            FencedError: at least one partition has a newer owner; the others were written.
        """
        calls = []
        for overlay, mark in writes:
            keys, at = self.keys_of(overlay.view.partition), mark.watermark.isoformat()
            head = [overlay.view.epoch, mark.log_id, mark.offset, mark.config_version, at, f"{time.time():.3f}"]
            calls.append((len(keys), *keys, *head, *self._arguments(overlay.changes)))
        try:
            answers = await self._call(calls)
        except NoScriptError:
            # A Redis that was started again; what went through before answers 0 now.
            await self.redis.script_load(_FLUSH)
            answers = await self._call(calls)
        partitions = [overlay.view.partition for overlay, _ in writes]
        fenced = [partition for partition, answer in zip(partitions, answers, strict=True) if answer < 0]
        if fenced:
            raise FencedError(f"{self.topic}/{fenced}: a newer owner has these partitions")

    async def _call(self, calls: Sequence[tuple[Any, ...]]) -> list[int]:
        pipeline = self.redis.pipeline(transaction=False)
        for call in calls:
            pipeline.evalsha(self._flush_sha, *call)
        answers: list[int] = await pipeline.execute()
        return answers

    def _arguments(self, changes: Mapping[str, Mapping[str, bytes | None]]) -> Iterable[int | str | bytes]:
        for table in self.tables:
            changed = changes.get(table, {})
            sets = [part for key, value in changed.items() if value is not None for part in (key.encode(), value)]
            gone = [key.encode() for key, value in changed.items() if value is None]
            yield len(sets)
            yield from sets
            yield len(gone)
            yield from gone

    async def look_up(self, partition: int, table: str, key: str) -> bytes | None:
        """One value as last committed, from any process, owner or not."""
        value: Any = await self.redis.hget(self.keys_of(partition)[1 + self.tables.index(table)], key)
        return bytes(value) if value is not None else None


async def refuse_eviction(redis: "Redis") -> None:
    """Check that Redis never drops keys by itself.

    Raises:
        EvictingRedisError: its maxmemory-policy is not noeviction while maxmemory is set.
    """
    info = await redis.info("memory")
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if int(info.get("maxmemory", 0)) and policy != "noeviction":
        raise EvictingRedisError(f"Redis evicts keys (maxmemory-policy {policy}): set it to noeviction")
