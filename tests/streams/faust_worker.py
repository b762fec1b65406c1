"""A Faust table without a broker: its changelog is a list, and a rebalance is called by hand."""

import random
import secrets
import weakref
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import faust
import faust.streams
from faust.types import TP

PARTITIONS = 4
SOURCE = "words"


@dataclass
class Record:
    """One record of the changelog, raw."""

    key: bytes
    value: bytes | None


@dataclass
class Changelog:
    """What the broker has of one table's changelog."""

    records: list[list[Record]] = field(default_factory=lambda: [[] for _ in range(PARTITIONS)])

    def values(self, partition: int) -> dict[bytes, bytes]:
        """What a whole replay would give."""
        found: dict[bytes, bytes] = {}
        for record in self.records[partition]:
            if record.value is None:
                found.pop(record.key, None)
            else:
                found[record.key] = record.value
        return found


class _Event:
    """What a table asks of the event that an agent is at."""

    def __init__(self, partition: int) -> None:
        self.message = SimpleNamespace(topic=SOURCE, partition=partition)


class Worker:
    """One process of a Faust app with one table."""

    def __init__(self, store: str, app_id: str, log: Changelog, folder: str, **table: Any) -> None:
        self.log = log
        self.app: Any = faust.App(app_id, store=store, broker="kafka://127.0.0.1:1", datadir=folder)
        self.table = cast("Any", self.app.Table("counts", partitions=PARTITIONS, **table))
        self.table._verified_source_topics_for_partitions.add(SOURCE)
        self.table.send_changelog = self._send
        self.store: Any = self.table.data
        self.topic = str(self.table.changelog_topic_name)
        self.unconfirmed: list[tuple[int, int]] = []
        self.replayed = 0
        self.owned: set[int] = set()

    def _send(self, partition: int, key: Any, value: Any, *_: Any, **how: Any) -> Any:
        serializers = self.app.serializers
        raw = serializers.dumps_key(self.table.key_type, key, serializer=self.table.key_serializer)
        serializer = how.get("value_serializer") or self.table.value_serializer
        packed = serializers.dumps_value(self.table.value_type, value, serializer=serializer)
        self.log.records[partition].append(Record(raw, packed))
        self.unconfirmed.append((partition, len(self.log.records[partition]) - 1))
        return SimpleNamespace(message=SimpleNamespace(partition=partition))

    @contextmanager
    def at(self, partition: int) -> Iterator[Any]:
        """Inside an agent that is at an event of a partition; gives the table."""
        event = _Event(partition)
        token = faust.streams._current_event.set(weakref.ref(event))  # type: ignore[arg-type]
        try:
            yield self.table
        finally:
            faust.streams._current_event.reset(token)

    def confirm(self) -> None:
        """The broker tells that it has what was sent."""
        for partition, offset in self.unconfirmed:
            self.store.set_persisted_offset(TP(self.topic, partition), offset)
        self.unconfirmed.clear()

    async def assigned(self, partitions: set[int], *, batch: int = 7, upto: int = 1 << 60) -> None:
        """A rebalance as Faust goes through it: revoked, assigned, recovered, completed."""
        await self.app.on_partitions_revoked.send({TP(self.topic, p) for p in self.owned})
        await self.joined(partitions)
        self.recover(partitions, batch=batch, upto=upto)
        await self.complete(partitions)

    async def joined(self, partitions: set[int]) -> None:
        """The group's new generation."""
        mine = {TP(self.topic, p) for p in partitions}
        self.app.assignor = SimpleNamespace(assigned_actives=lambda: mine, assigned_standbys=set)
        gone = {TP(self.topic, p) for p in self.owned - partitions}
        await self.store.on_rebalance(mine, gone, mine, 1)
        self.owned = set(partitions)

    def recover(self, partitions: set[int], *, batch: int = 7, upto: int = 1 << 60) -> None:
        """Replay what the store asks for."""
        for partition in sorted(partitions):
            done = self.store.persisted_offset(TP(self.topic, partition))
            records = list(enumerate(self.log.records[partition]))[(-1 if done is None else done) + 1 : upto]
            self.replayed += len(records)
            events = [self._event(partition, offset, record) for offset, record in records]
            for start in range(0, len(events), batch):
                part = events[start : start + batch]
                self.store.apply_changelog_batch(part, self.table._to_key, self.table._to_value)

    async def complete(self, partitions: set[int]) -> None:
        """Recovery is over."""
        await self.store.on_recovery_completed({TP(self.topic, p) for p in partitions}, set())

    def _event(self, partition: int, offset: int, record: Record) -> Any:
        serializers = self.app.serializers
        key = serializers.loads_key(self.table.key_type, record.key, serializer=self.table.key_serializer)
        value = None
        if record.value is not None:
            value = serializers.loads_value(self.table.value_type, record.value, serializer=self.table.value_serializer)
        tp = TP(self.topic, partition)
        message = SimpleNamespace(key=record.key, value=record.value, partition=partition, offset=offset, tp=tp)
        return SimpleNamespace(key=key, value=value, message=message)

    async def flush(self) -> None:
        """What the store does beside the stream, if it does anything."""
        if hasattr(self.store, "flush"):
            await self.store.flush()
            await self.store.flush()

    async def close(self) -> None:
        """The process ends in order."""
        self.confirm()
        await self.store.on_stop()


@asynccontextmanager
async def workers(store: str, folder: str, count: int = 1, **table: Any) -> AsyncIterator[list[Worker]]:
    """Processes of one app over one changelog."""
    app_id, log = f"app{secrets.token_hex(4)}", Changelog()
    made = [Worker(store, app_id, log, folder, **table) for _ in range(count)]
    yield made
    for worker in made:
        tables = getattr(worker.store, "tables", None)
        if tables is not None:
            for partition in range(PARTITIONS):
                await tables.redis.delete(*tables.keys_of(partition))
        await worker.store.on_stop()


def written_at_random(chance: random.Random, worker: Worker, model: Sequence[dict[str, Any]]) -> None:
    """Some sets and deletions of any values, in the partitions that the worker holds."""
    for _ in range(chance.randrange(1, 30)):
        partition = chance.choice(sorted(worker.owned))
        key = f"p{partition}-{chance.randrange(12)}"
        values = model[partition]
        with worker.at(partition) as table:
            if key in values and chance.random() < 0.4:
                del table[key]
                del values[key]
            else:
                values[key] = table[key] = chance.choice([0, 1, "", "é\x00", [], {"a": [1, None]}, False, 1.5])
