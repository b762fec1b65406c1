"""The Redis side of the table store: keys, the atomic write, loading, look-ups from anywhere.

One partition of one agent's input topic keeps all its tables behind one mark
(epoch, log, offset; time and configuration there), and every write moves both:

    {<app>:<topic>:<p>}:meta        hash: epoch, log_id, offset, config_version, watermark, saved_at, entries
    {<app>:<topic>:<p>}:t:<table>   hash: key -> encoded value

The braces are Redis Cluster's hash tag: one partition's keys share a slot.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha1
from itertools import islice
from typing import Any, Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from streams import metrics
from streams.redis_scripts import CLAIM, CLEAR, FLUSH, TAKE

ANY_BYTES: Final = "surrogateescape"
"""How a key of any bytes is a string in memory: those of our own tables are plain text."""

_PIECE: Final = 2000
_PIECES: Final = 8
_FENCED: Final = -1
_FORGOTTEN: Final = -2

log = structlog.get_logger()


class FencedError(RuntimeError):
    """Raised when a newer owner has the partition: this process's state is stale and it must stop."""


class ForgottenError(RedisError):
    """Raised when Redis lost what was written, twice in a row: trying again writes it again."""


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


UNWRITTEN: Final = Mark(0, "", -1, 0, datetime.fromtimestamp(0, UTC))
"""Where a partition stands that nobody has written."""


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
        self._flush_sha = sha1(FLUSH.encode(), usedforsecurity=False).hexdigest()
        self._claim = redis.register_script(CLAIM)
        self._take = redis.register_script(TAKE)
        self._clear = redis.register_script(CLEAR)

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

    async def take(self, partition: int) -> int:
        """Take a partition over with an epoch that Redis allocates, and answer it: the last one to ask is the owner."""
        now = int(time.time() * 1000)
        return int(await self._take(keys=self.keys_of(partition)[:1], args=[now]))

    async def mark(self, partition: int) -> Mark:
        """The partition's mark; any process may ask."""
        found: Any = await self.redis.hmget(
            self.keys_of(partition)[0], ["epoch", "log_id", "offset", "config_version", "watermark"]
        )
        epoch, log_id, offset, config_version, watermark = found
        if offset is None or watermark is None:
            return replace(UNWRITTEN, epoch=int(epoch or 0))
        at = datetime.fromisoformat(watermark.decode())
        return Mark(int(epoch or 0), log_id.decode(), int(offset), int(config_version), at)

    async def whole(self, partition: int) -> bool:
        """Whether Redis has as many entries of a partition as were left there."""
        meta, *keys = self.keys_of(partition)
        entries: Any = await self.redis.hget(meta, "entries")
        return entries is not None and int(entries) == sum([await self.redis.hlen(key) for key in keys])

    async def clear(self, partition: int, epoch: int) -> None:
        """Drop a claimed partition's tables and position.

        Raises:
            FencedError, ForgottenError: as `replace`.
        """
        self._check(partition, await self._clear(keys=self.keys_of(partition), args=[epoch]))

    async def load(self, partition: int, epoch: int) -> View:
        """Read a claimed partition; nobody else can write it any more, so a scan is consistent.

        A partition of which Redis lost a part comes back as one that was never written.
        """
        meta, *keys = self.keys_of(partition)
        mark = await self.mark(partition)
        names: dict[str, str] = {}  # of tables that have their keys in common, each is kept once
        # Together, so that Redis finds the next piece of one table while this process reads another's.
        values = await asyncio.gather(*(self._values(key, names) for key in keys))
        tables = dict(zip(self.tables, values, strict=True))
        entries: Any = await self.redis.hget(meta, "entries")
        if entries is not None and int(entries) != sum(map(len, tables.values())):
            log.warning("redis lost a part", topic=self.topic, partition=partition, entries=int(entries))
            mark = UNWRITTEN
        return View(partition, replace(mark, epoch=epoch), tables)

    async def _values(self, key: str, names: dict[str, str]) -> dict[str, bytes]:
        values: dict[str, bytes] = {}
        cursor = 0
        while True:
            found: Any = await self.redis.hscan(key, cursor, count=_PIECE)
            cursor, fields = found
            for name, value in fields.items():
                decoded = name.decode(errors=ANY_BYTES)
                values[names.setdefault(decoded, decoded)] = value
            if not cursor:
                return values

    async def replace(self, view: View) -> None:
        """Write a partition whole, as its owner has it; its mark moves only with the last piece.

        Raises:
            FencedError: another owner took the partition meanwhile.
            ForgottenError: Redis lost what was written before the end.
        """
        partition = view.partition
        await self.claim(partition, view.epoch)
        await self.clear(partition, view.epoch)
        empty = replace(view, mark=replace(UNWRITTEN, epoch=view.epoch))
        await self.pour(empty, view.tables)
        [answer] = await self._run([self._written(Overlay(empty), view.mark)])
        self._check(partition, answer)

    async def pour(self, view: View, changes: Mapping[str, Mapping[str, bytes | None]]) -> None:
        """Write changes of any number a piece at a time, under the mark that stands there.

        Between the pieces the tables are further on than their mark: only for
        values that a replay from there sets again.

        Raises:
            FencedError, ForgottenError: as `replace`.
        """
        overlays = (Overlay(view, {table: piece}) for table in changes for piece in _pieces(changes[table]))
        while some := list(islice(overlays, _PIECES)):
            answers = await self._run([self._written(overlay, view.mark, piece=True) for overlay in some])
            self._check(view.partition, min(answers))

    def _check(self, partition: int, answer: int) -> None:
        if answer == _FENCED:
            raise FencedError(f"{self.topic}/{partition}: a newer owner has this partition")
        if answer == _FORGOTTEN:
            raise ForgottenError(f"{self.topic}/{partition}: what was written is not there any more")

    async def flush(self, writes: Sequence[tuple[Overlay, Mark]]) -> None:
        """Write each overlay with the mark that it leads to: one script a partition, one round trip.

        Where Redis is not at the view's mark, or has not as many entries as were
        left there, it was emptied or put back to an older day: the owner's view
        is written again, whole, before the overlay.

        Raises:
            FencedError: at least one partition has a newer owner; the others were written.
            ForgottenError: Redis forgot again meanwhile.
        """
        answers = await self._run([self._written(overlay, mark) for overlay, mark in writes])
        fenced = []
        for (overlay, mark), answer in zip(writes, answers, strict=True):
            if answer == _FENCED:
                fenced.append(overlay.view.partition)
            elif answer == _FORGOTTEN:
                await self._repair(overlay, mark)
        if fenced:
            raise FencedError(f"{self.topic}/{fenced}: a newer owner has these partitions")

    async def _repair(self, overlay: Overlay, mark: Mark) -> None:
        view = overlay.view
        entries = sum(map(len, view.tables.values()))
        log.warning("redis forgot: written again", topic=self.topic, partition=view.partition, entries=entries)
        await self.replace(view)
        [answer] = await self._run([self._written(overlay, mark)])
        self._check(view.partition, answer)
        metrics.table_repairs.inc()

    def _written(self, overlay: Overlay, mark: Mark, *, piece: bool = False) -> tuple[Any, ...]:
        view = overlay.view
        keys, at = self.keys_of(view.partition), mark.watermark.isoformat()
        here = (view.epoch, view.log_id, view.offset, int(piece))
        there = (mark.log_id, mark.offset, mark.config_version, at, f"{time.time():.3f}")
        return (len(keys), *keys, *here, *there, *self._arguments(overlay.changes))

    async def _run(self, calls: Sequence[tuple[Any, ...]]) -> list[int]:
        try:
            return await self._call(calls)
        except NoScriptError:
            # A Redis that was started again; what went through before answers 0 now.
            await self.redis.script_load(FLUSH)
            return await self._call(calls)

    async def _call(self, calls: Sequence[tuple[Any, ...]]) -> list[int]:
        pipeline = self.redis.pipeline(transaction=False)
        for call in calls:
            pipeline.execute_command("EVALSHA", self._flush_sha, *call)  # `evalsha` is closed to a cluster's pipeline
        answers: list[int] = await pipeline.execute()
        return answers

    def _arguments(self, changes: Mapping[str, Mapping[str, bytes | None]]) -> Iterable[int | str | bytes]:
        for table in self.tables:
            changed = changes.get(table, {})
            sets = [
                part
                for key, value in changed.items()
                if value is not None
                for part in (key.encode(errors=ANY_BYTES), value)
            ]
            gone = [key.encode(errors=ANY_BYTES) for key, value in changed.items() if value is None]
            yield len(sets)
            yield from sets
            yield len(gone)
            yield from gone

    async def sizes(self, table: str, partitions: Iterable[int]) -> list[int]:
        """How many entries a table has in each of the partitions, in one round trip."""
        place = 1 + self.tables.index(table)
        pipeline = self.redis.pipeline(transaction=False)
        for partition in partitions:
            pipeline.hlen(self.keys_of(partition)[place])
        sizes: list[int] = await pipeline.execute()
        return sizes

    async def known(self, partition: int, table: str, keys: Iterable[str]) -> list[bool]:
        """Which keys a table has, in one round trip."""
        place = self.keys_of(partition)[1 + self.tables.index(table)]
        pipeline = self.redis.pipeline(transaction=False)
        for key in keys:
            pipeline.hexists(place, key)
        found: list[bool] = await pipeline.execute()
        return found

    async def look_up(self, partition: int, table: str, key: str) -> bytes | None:
        """One value as last committed, from any process, owner or not."""
        name = key.encode(errors=ANY_BYTES)
        value: Any = await self.redis.hget(self.keys_of(partition)[1 + self.tables.index(table)], name)
        return bytes(value) if value is not None else None


def _pieces(changes: Mapping[str, bytes | None]) -> Iterator[dict[str, bytes | None]]:
    items = iter(changes.items())
    while piece := dict(islice(items, _PIECE)):
        yield piece
