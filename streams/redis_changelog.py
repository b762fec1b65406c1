"""`redis://` for any Faust app: tables in memory, kept in Redis together with the changelog offset that led to them.

Faust's changelog stays the truth. Redis holds what the broker has confirmed of
it, written in one script with the confirmed offset, so that a partition that
moves replays only what Redis lacks. Reading and writing are dictionary work;
what goes to Redis goes in batches, beside the stream.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

import structlog
from faust.exceptions import ImproperlyConfigured
from faust.stores.base import SerializedStore
from faust.streams import current_event
from faust.tables.sets import SetTable
from faust.types import TP, EventT, ProcessingGuarantee
from mode import Service
from redis.exceptions import RedisError
from yarl import URL

from streams.codec import UnknownVersionError
from streams.redis_link import connect, refuse_eviction
from streams.redis_tables import ANY_BYTES, UNWRITTEN, FencedError, Mark, Overlay, TableSet, View

VERSION: Final = b"\x01"
"""The first byte of every value: what follows is as the table's value_serializer made it."""

FLUSH_SECONDS: Final = 0.1
_LARGE: Final = 5000
_REDIS_TIMEOUT: Final = 2.0
_LAST_FLUSH: Final = 1.5

log = structlog.get_logger()

Changes = dict[str, bytes | None]


class NotOwnedError(RuntimeError):
    """Raised when a key is written whose partition this worker does not hold."""


class StateLostError(RuntimeError):
    """Raised when Redis lost a partition between its assignment and its loading; the next start replays it all."""


@dataclass
class Cut:
    """What was written up to some moment. It may go to Redis once the broker has confirmed `count` writes."""

    changes: Changes
    count: int
    offset: int | None = None


@dataclass(kw_only=True)
class Part:
    """One partition of the table that this worker owns.

    `mark` is where Redis stands. `written` and `confirmed` count changelog
    records since the partition was loaded, `offset` is that of the last one
    confirmed, and `replayed` is what recovery brings before the tables are read.
    """

    mark: Mark
    offset: int
    view: View | None = None
    replayed: Changes = field(default_factory=dict)
    staged: Changes = field(default_factory=dict)
    written: int = 0
    confirmed: int = 0
    cut: Cut | None = None

    def stage(self, key: str, value: bytes | None, *, logged: bool = True) -> None:
        """Note a change; `logged` says that a changelog record is on its way."""
        self.staged[key] = value
        self.written += logged

    def confirm(self, offset: int) -> None:
        """The broker has one more record of the changelog."""
        if offset <= self.offset:
            return  # of an earlier ownership: recovery has brought it already
        self.confirmed += 1
        self.offset = offset
        if self.cut is not None and self.confirmed == self.cut.count:
            self.cut.offset = offset

    def ready(self) -> Cut | None:
        """The next thing to write to Redis, if there is one that is confirmed."""
        if self.cut is None and self.staged:
            done = self.confirmed == self.written
            self.cut = Cut(self.staged, self.written, self.offset if done else None)
            self.staged = {}
        return self.cut if self.cut is not None and self.cut.offset is not None else None


class ChangelogStore(SerializedStore[Any, Any]):
    """One Faust table in Redis, beside its changelog."""

    app: Any
    table: Any

    def __init__(self, url: str | URL, app: Any, table: Any, **options: Any) -> None:  # noqa: ANN401 - Faust's signature
        super().__init__(url, app, table, **options)
        if table.is_global or isinstance(table, SetTable):
            raise ImproperlyConfigured(
                f"table {self.table_name}: redis:// keeps plain tables; global and set tables want store='memory://'"
            )
        self.flush_every = float(self.url.query.get("flush", FLUSH_SECONDS))
        self.parts: dict[int, Part] = {}
        self._tables: TableSet | None = None
        self._writing = asyncio.Lock()
        self._complained = False

    @property
    def tables(self) -> TableSet:
        """The partitions of the table in Redis; any process may `look_up` in them."""
        if self._tables is None:
            redis = connect(
                str(self.url), socket_timeout=_REDIS_TIMEOUT, socket_connect_timeout=1, health_check_interval=5
            )
            self._tables = TableSet(redis, self.app.conf.id, self._name, (self._name,))
        return self._tables

    @property
    def _name(self) -> str:
        return str(self.table_name)

    @property
    def _changelog(self) -> str:
        return str(self.table.changelog_topic_name)

    async def on_start(self) -> None:
        """Check that Redis may be trusted, and listen for partitions that go."""
        if self.app.conf.processing_guarantee == ProcessingGuarantee.EXACTLY_ONCE:
            raise ImproperlyConfigured("redis:// works with processing_guarantee='at_least_once' only")
        await refuse_eviction(self.tables.redis)
        self.app.on_partitions_revoked.connect(self._on_partitions_revoked)

    async def on_stop(self) -> None:
        """Write what can still be written."""
        self.app.on_partitions_revoked.disconnect(self._on_partitions_revoked)
        await self._flush_at_the_end()
        if self._tables is not None:
            await self._tables.redis.aclose()
            self._tables = None

    # What Faust calls around a rebalance.

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Fence the former owners of what came, and see how far Redis is. No loading: no heartbeat runs here."""
        active = {tp.partition for tp in self.app.assignor.assigned_actives() if tp.topic == self._changelog}
        for partition in [p for p in self.parts if p not in active]:
            del self.parts[partition]
        for partition in sorted(active):
            if not await self._still_mine(partition):
                self.parts[partition] = await self._taken(partition)

    async def _still_mine(self, partition: int) -> bool:
        part = self.parts.get(partition)
        return (
            part is not None and part.view is not None and (await self.tables.mark(partition)).epoch == part.mark.epoch
        )

    async def _taken(self, partition: int) -> Part:
        epoch = await self.tables.take(partition)
        mark = await self.tables.mark(partition)
        if mark.log_id != self._changelog or not await self.tables.whole(partition):
            mark = replace(UNWRITTEN, epoch=epoch)
            await self.tables.clear(partition, epoch)
        return Part(mark=mark, offset=mark.offset)

    def persisted_offset(self, tp: TP) -> int | None:
        """The last changelog offset whose value is here or in Redis; None: all of it must be replayed."""
        part = self.parts.get(tp.partition)
        return part.offset if part is not None and part.offset >= 0 else None

    def set_persisted_offset(self, tp: TP, offset: int) -> None:
        """The broker confirmed a record of the changelog."""
        part = self.parts.get(tp.partition)
        if part is not None:
            part.confirm(offset)

    def apply_changelog_batch(
        self, batch: Iterable[EventT[Any]], to_key: Callable[[Any], Any], to_value: Callable[[Any], Any]
    ) -> None:
        """Keep what recovery brings until the tables are read; a partition that stayed has it already."""
        for event in batch:
            message = event.message
            part = self.parts.get(message.partition)
            if part is None or part.view is not None or message.offset <= part.offset:
                continue
            if message.key is None:
                # Raising here would make Faust's recovery wait for ever.
                log.error("a changelog record without a key", table=self._name, at=(message.partition, message.offset))
                continue
            part.replayed[_name(message.key)] = VERSION + message.value if message.value is not None else None
            part.offset = message.offset

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        """Read what Redis has and put what was replayed on top, before the flow starts."""
        try:
            for tp in sorted(active_tps):
                part = self.parts.get(tp.partition)
                if part is not None and part.view is None:
                    await self._load(tp.partition, part)
        except Exception as error:  # noqa: BLE001 - Faust would swallow it: it must end the process
            if not self.app.rebalancing:
                await self.crash(error)

    async def _load(self, partition: int, part: Part) -> None:
        view = await self.tables.load(partition, part.mark.epoch)
        if (view.log_id, view.offset) != (part.mark.log_id, part.mark.offset):
            raise StateLostError(f"{self._name}/{partition}: Redis is not at offset {part.mark.offset} any more")
        values = view.tables[self._name]
        for key, value in values.items():
            _check_version(key, value)
        for key, change in part.replayed.items():
            if change is None:
                values.pop(key, None)
            else:
                values[key] = change
        if part.replayed:
            part.cut = Cut(part.replayed, 0, part.offset)
            part.replayed = {}
        part.view = view

    async def need_active_standby_for(self, tp: TP) -> bool:
        """Redis is the standby."""
        return False

    async def _on_partitions_revoked(self, app: Any, revoked: set[TP], **_: Any) -> None:  # noqa: ANN401 - Faust's signal
        """The streams have ended and the producer is flushed: what the next owner need not replay goes to Redis."""
        await self._flush_at_the_end()

    # Writing to Redis, beside the stream.

    @Service.task
    async def _flushing(self) -> None:
        async for _ in self.itertimer(self.flush_every, name=f"{self._name} to redis"):
            await self.flush()

    async def _flush_at_the_end(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_FLUSH):
                await self.flush()  # the cut that was under way
                await self.flush()

    async def flush(self) -> None:
        """Write what the broker has confirmed; what cannot be written now is tried again by the next call."""
        async with self._writing:
            waiting = [
                (part.view, part, cut)
                for part in self.parts.values()
                if part.view is not None and (cut := part.ready()) is not None
            ]
            if not waiting:
                return
            try:
                await self._write(waiting)
            except FencedError as error:
                if not self.app.rebalancing:
                    await self.crash(error)
            except (RedisError, OSError) as error:
                if not self._complained:
                    log.warning("redis lags behind the changelog", table=self._name, reason=repr(error))
                self._complained = True
            else:
                self._complained = False

    async def _write(self, waiting: list[tuple[View, Part, Cut]]) -> None:
        writes = []
        for view, part, cut in waiting:
            changes = {self._name: cut.changes}
            if len(cut.changes) > _LARGE or cut.offset == part.mark.offset:
                await self.tables.pour(view, changes)
                changes = {}
            mark = Mark(part.mark.epoch, self._changelog, cut.offset or 0, 0, UNWRITTEN.watermark)
            writes.append((Overlay(view, changes), mark))
        await self.tables.flush(writes)
        for (view, part, _), (_, mark) in zip(waiting, writes, strict=True):
            view.mark = part.mark = mark
            part.cut = None

    # The mapping.

    def put(self, partition: int, key: Any, value: Any) -> None:  # noqa: ANN401 - of the table's types
        """Set a key of a named partition, whose changelog record the caller sends."""
        encoded = self._encode_value(value)
        self._change(self._owned(partition), self._encode_key(key), encoded, logged=True)

    def _change(self, part: Part, key: bytes, value: bytes | None, *, logged: bool) -> None:
        name, values = _name(key), _values(part, self._name)
        if value is None:
            values.pop(name, None)
            part.stage(name, None, logged=logged)
        else:
            values[name] = stored = VERSION + value
            part.stage(name, stored, logged=logged)

    def _owned(self, partition: int) -> Part:
        part = self.parts.get(partition)
        if part is None or part.view is None:
            raise NotOwnedError(f"{self._name}: partition {partition} is not held here")
        return part

    def _partition_of_write(self, key: bytes) -> int | None:
        if self.table.use_partitioner:
            return int(self.app.producer.key_partition(self._changelog, key).partition)
        event = current_event()
        return int(event.message.partition) if event is not None else None

    def _get(self, key: bytes) -> bytes | None:
        name = _name(key)
        event = current_event()
        first = self.parts.get(event.message.partition) if event is not None else None
        if first is not None and first.view is not None:
            value = first.view.tables[self._name].get(name)
            if value is not None:
                return value[1:]
        for values in self._all():
            value = values.get(name)
            if value is not None:
                return value[1:]
        return None

    def _set(self, key: bytes, value: bytes | None) -> None:
        partition = self._partition_of_write(key)
        if partition is None:
            raise RuntimeError(f"{self._name}: a table is written by an agent, or with put() to a partition")
        self._change(self._owned(partition), key, value, logged=True)

    def _del(self, key: bytes) -> None:
        partition = self._partition_of_write(key)
        if partition is not None:
            self._change(self._owned(partition), key, None, logged=True)
            return
        # Faust lets windows expire outside of streams, and without a record in the changelog.
        for part in self.parts.values():
            if part.view is not None and _name(key) in part.view.tables[self._name]:
                self._change(part, key, None, logged=False)

    def _clear(self) -> None:
        """Faust has sent a tombstone of every key, all of them to the partition of the present event."""
        event = current_event()
        for number, part in self.parts.items():
            here = event is not None and event.message.partition == number
            for key in list(_values(part, self._name)) if part.view is not None else ():
                self._change(part, key.encode(errors=ANY_BYTES), None, logged=here)

    def _all(self) -> Iterator[dict[str, bytes]]:
        return (part.view.tables[self._name] for part in self.parts.values() if part.view is not None)

    def _iterkeys(self) -> Iterator[bytes]:
        return (key.encode(errors=ANY_BYTES) for values in self._all() for key in values)

    def _itervalues(self) -> Iterator[bytes | None]:
        return (value[1:] for values in self._all() for value in values.values())

    def _iteritems(self) -> Iterator[tuple[bytes, bytes]]:
        return ((key.encode(errors=ANY_BYTES), value[1:]) for values in self._all() for key, value in values.items())

    def _size(self) -> int:
        return sum(map(len, self._all()))

    def _contains(self, key: bytes) -> bool:
        return any(_name(key) in values for values in self._all())

    def __delitem__(self, key: Any) -> None:  # noqa: ANN401 - of the table's type
        encoded = self._encode_key(key)
        known = self._contains(encoded)
        self._del(encoded)  # of an unknown key too: Faust has sent its tombstone
        if not known:
            raise KeyError(key)

    def update(self, *others: Any, **named: Any) -> None:  # noqa: ANN401 - as a dictionary's
        """Set many keys."""
        for key, value in dict(*others, **named).items():
            self[key] = value

    def reset_state(self) -> None:
        """Faust's `reset` command keeps what is in Redis; changelog and Redis go on together."""

    async def backup_partition(self, tp: Any, flush: bool = True, purge: bool = False, keep: int = 1) -> None:  # noqa: ANN401, FBT001, FBT002 - Faust's signature
        """Nothing to do: the changelog is the backup."""

    def restore_backup(self, tp: Any, latest: bool = True, backup_id: int = 0) -> None:  # noqa: ANN401, FBT001, FBT002 - Faust's signature
        """Nothing to do: the changelog is the backup."""


def _name(key: bytes) -> str:
    return key.decode(errors=ANY_BYTES)


def _values(part: Part, table: str) -> dict[str, bytes]:
    return part.view.tables[table] if part.view is not None else {}


def _check_version(key: str, value: bytes) -> None:
    if value[:1] != VERSION:
        raise UnknownVersionError(f"the value of {key!r} is of version {value[:1].hex()}, not {VERSION.hex()}")
