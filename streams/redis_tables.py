"""The Redis side of the table store: keys, the atomic write, loading, look-ups from anywhere.

One partition of one agent's input topic keeps all its tables behind one mark
(epoch, log, offset), and every write moves tables and mark together:

    {<app>:<topic>:<p>}:meta        hash: epoch, log_id, offset, saved_at
    {<app>:<topic>:<p>}:t:<table>   hash: key -> encoded value

The braces are Redis Cluster's hash tag: one partition's keys share a slot.
"""

import time
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from redis.asyncio import Redis

_SCAN_COUNT: Final = 2000

# KEYS: meta, one hash a table. ARGV: epoch, log_id, offset, saved_at, then for each
# table the number of set arguments, field and value in turn, the number of deletions, fields.
# Answers 1 written, 0 already there, -1 fenced.
_FLUSH: Final = """
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'log_id', 'offset')
if (meta[1] or '0') ~= ARGV[1] then return -1 end
if meta[2] == ARGV[2] and tonumber(meta[3] or '-1') >= tonumber(ARGV[3]) then return 0 end
local at = 5
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
redis.call('HSET', KEYS[1], 'log_id', ARGV[2], 'offset', ARGV[3], 'saved_at', ARGV[4])
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
redis.call('HDEL', KEYS[1], 'log_id', 'offset', 'saved_at')
for t = 2, #KEYS do redis.call('UNLINK', KEYS[t]) end
return 1
"""


class FencedError(RuntimeError):
    """Raised when a newer owner has the partition: this process's state is stale and it must stop."""


class EvictingRedisError(RuntimeError):
    """Raised at start when Redis may evict keys; set `maxmemory-policy noeviction`."""


@dataclass(frozen=True)
class Mark:
    """How far a partition's tables in Redis are. Offset -1: nothing was written yet."""

    epoch: int
    log_id: str
    offset: int


@dataclass
class View:
    """One partition's tables in memory: encoded values by key, and the mark they stand at."""

    partition: int
    epoch: int
    log_id: str
    offset: int
    tables: dict[str, dict[str, bytes]]


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

    def commit(self, offset: int, log_id: str) -> None:
        """Fold the changes into the view, once everything else is durable."""
        for table, changes in self.changes.items():
            target = self.view.tables[table]
            for key, value in changes.items():
                if value is None:
                    target.pop(key, None)
                else:
                    target[key] = value
        self.view.offset, self.view.log_id = offset, log_id


class TableSet:
    """The tables that move together in one agent's step, for every partition of its topic."""

    def __init__(self, redis: "Redis", app: str, topic: str, tables: Iterable[str]) -> None:
        self.redis = redis
        self.app = app
        self.topic = topic
        self.tables = tuple(tables)
        self.views: dict[int, View] = {}
        self._flush = redis.register_script(_FLUSH)
        self._claim = redis.register_script(_CLAIM)
        self._clear = redis.register_script(_CLEAR)

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
        found: Any = await self.redis.hmget(self.keys_of(partition)[0], ["epoch", "log_id", "offset"])
        epoch, log_id, offset = found
        return Mark(int(epoch or 0), (log_id or b"").decode(), int(offset) if offset is not None else -1)

    async def load(self, partition: int, epoch: int) -> View:
        """Read a claimed partition; nobody else can write it any more, so a scan is consistent."""
        mark = await self.mark(partition)
        tables: dict[str, dict[str, bytes]] = {}
        for table, key in zip(self.tables, self.keys_of(partition)[1:], strict=True):
            values: dict[str, bytes] = {}
            async for fields in self._scan(key):
                values.update((name.decode(), value) for name, value in fields.items())
            tables[table] = values
        return View(partition, epoch, mark.log_id, mark.offset, tables)

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
        for key, table in zip(self.keys_of(view.partition)[1:], self.tables, strict=True):
            items = list(view.tables[table].items())
            for start in range(0, len(items), _SCAN_COUNT):
                await self.redis.hset(key, mapping=dict(items[start : start + _SCAN_COUNT]))
        await self.flush([(Overlay(view), view.offset, view.log_id)])

    async def flush(self, writes: Iterable[tuple[Overlay, int, str]]) -> None:
        """Write each overlay with the (offset, log_id) that led to it: one script a partition, one round trip.

        Raises:
            FencedError: at least one partition has a newer owner; the others were written.
        """
        pipeline = self.redis.pipeline(transaction=False)
        partitions = []
        saved_at = f"{time.time():.3f}"
        for overlay, offset, log_id in writes:
            partition = overlay.view.partition
            partitions.append(partition)
            arguments = [overlay.view.epoch, log_id, offset, saved_at, *self._arguments(overlay.changes)]
            await self._flush(keys=self.keys_of(partition), args=arguments, client=pipeline)
        answers = await pipeline.execute()
        fenced = [partition for partition, answer in zip(partitions, answers, strict=True) if answer < 0]
        if fenced:
            raise FencedError(f"{self.topic}/{fenced}: a newer owner has these partitions")

    def _arguments(self, changes: Mapping[str, Mapping[str, bytes | None]]) -> Iterable[int | str | bytes]:
        for table in self.tables:
            changed = changes.get(table, {})
            sets = [part for key, value in changed.items() if value is not None for part in (key, value)]
            gone = [key for key, value in changed.items() if value is None]
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
