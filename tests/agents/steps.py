"""One agent on real Postgres and Redis, with a list for Kafka's log, that can die at any point of a step."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from types import SimpleNamespace
from typing import Any, cast

import asyncpg
import msgspec
from redis.asyncio import Redis

from agents.alert_partition import ALERT_TABLE, PULSES, RECENT, decode_chunk, event_hashes
from agents.dedup import DedupLogic
from agents.incidents import IncidentsLogic
from agents.loading import Loader
from agents.rules.dedup import Pulse
from agents.step import StepRunner
from agents.work import Outgoing, Partition
from sinks import postgres
from streams import codec, keys
from streams.records import Alert, AlertBody, InputBatch, Kind, MemberChange, Severity
from streams.redis_tables import TableSet
from streams.rules_config import BUILT_IN, RulesConfig, load
from streams.settings import Settings
from streams.tables import TABLES_OF
from streams.topics import ALERTS, INPUTS

T0 = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
POINTS = ("decided", "before commit", "after commit", "after send", "after redis", "after view")
BY_SEVERITY = load("route: {receiver: all, group_by: [alertname, severity]}\nreceivers: [{name: all}]\n", version=2)

_pulse = msgspec.msgpack.Decoder(Pulse)


class Crash(BaseException):
    """The process dies here."""


def at(seconds: float) -> datetime:
    """A time of the story."""
    return T0 + timedelta(seconds=seconds)


def identity_of(name: str) -> str:
    """The identity of an alert in a story."""
    return keys.hashed(keys.identity_of_labels("default", {"alertname": name}))


def alert(event_id: str, name: str, seconds: float, **changes: Any) -> Alert:
    """One event about the alert `name`; `labels` and `summary` go into its body."""
    body = AlertBody(
        source="story",
        severity=changes.pop("severity", Severity.ERROR),
        kind=Kind.LATENCY,
        summary=changes.pop("summary", f"{name} is slow"),
        description=changes.pop("description", ""),
        labels={"alertname": name, "service": "chat", "severity": "error", **changes.pop("labels", {})},
    )
    packed = codec.encode(body)
    made: dict[str, Any] = {
        "event_id": event_id,
        "team": "default",
        "identity": identity_of(name),
        "content": blake2b(packed, digest_size=8).digest(),
        "firing": True,
        "event_at": at(seconds),
        "starts_at": at(seconds),
        "body": packed,
    }
    return Alert(**{**made, **changes})


@dataclass
class Event:
    """What Faust hands over."""

    message: SimpleNamespace
    acked: bool = False

    def ack(self) -> None:
        self.acked = True


@dataclass
class World:
    """What outlives a process: services, the log, and what was sent on."""

    settings: Settings
    database_url: str
    redis: Redis
    log: dict[int, list[bytes]]
    topic: str = ALERTS
    log_id: str = "log-1"
    first: int = 0
    forgets: bool = False
    written_at: float | None = None
    sent: list[Outgoing] = field(default_factory=list)
    configs: dict[int, RulesConfig] = field(default_factory=lambda: {0: BUILT_IN, 2: BY_SEVERITY})

    async def start(self) -> "Owner":
        """A new process that owns every partition of the log."""
        pool = await postgres.open_pool(self.database_url, size=3, statement_timeout_ms=4000, name="story")
        owner = Owner(self, pool)
        try:
            async with pool.acquire() as conn:
                await postgres.register_log(conn, self.log_id, forgets=self.forgets)
            await owner.loader.load(set(self.log))
        except BaseException:
            pool.terminate()
            raise
        return owner

    def tables(self) -> TableSet:
        """The tables as any process names them."""
        return TableSet(self.redis, self.settings.app_prefix, self.topic, TABLES_OF[self.topic])

    async def offsets(self, topic: str, partitions: Sequence[int]) -> Mapping[int, tuple[int, int]]:
        return {number: (self.first, len(self.log[number])) for number in partitions}

    async def stored(self, *, exact: bool = False) -> dict[int, Any]:
        """Tables and marks in Redis."""
        tables, found = self.tables(), {}
        for number in self.log:
            view = await tables.load(number, 0)
            found[number] = (view.offset, view.tables if exact else plain(view.tables))
        return found

    async def rows(self) -> dict[str, list[Any]]:
        """Every row that steps write, but the clock's columns and what only says how far a row is behind."""
        conn = await asyncpg.connect(self.database_url)
        try:
            alerts = [dict(row) for row in await conn.fetch("SELECT * FROM alerts ORDER BY identity, occurrence")]
            for row in alerts:
                del row["committed_at"]
                row["pulse"] = settled(_pulse.decode(row["pulse"]))
            verdicts = await conn.fetch(
                'SELECT partition, "offset", verdict, identity, occurrence, events, event_ids, reason, via '
                'FROM verdicts ORDER BY partition, "offset", verdict, identity, occurrence, reason'
            )
            dead = await conn.fetch("SELECT event_id, reason, body, via FROM dead_letters ORDER BY event_id")
            progress = await conn.fetch(
                "SELECT partition, applied, config_version, watermark, received, new, changed, resolved, duplicate, "
                "late, rejected, redelivered FROM stream_progress ORDER BY log_id, partition"
            )
        finally:
            await conn.close()
        return {
            "alerts": alerts,
            "verdicts": [tuple(row) for row in verdicts],
            "dead": [tuple(row) for row in dead],
            "progress": [tuple(row) for row in progress],
        }

    def told(self) -> set[tuple[Any, ...]]:
        """What the groups were told, each thing once."""
        batches = [codec.decode_inputs(record.value) for record in self.sent if record.topic.endswith(INPUTS)]
        items = [item for batch in batches if isinstance(batch, InputBatch) for item in batch.items]
        return {_said(item) for item in items}

    async def wipe(self) -> None:
        """Forget everything that was written."""
        self.sent.clear()
        conn = await asyncpg.connect(self.database_url)
        try:
            await conn.execute("TRUNCATE alerts, verdicts, dead_letters, stream_progress")
        finally:
            await conn.close()
        await self.lose_redis()

    async def lose_redis(self) -> None:
        """Redis forgets the tables."""
        for number in self.log:
            await self.redis.delete(*self.tables().keys_of(number))


class Owner:
    """One process, which may be told where to die."""

    def __init__(self, world: World, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        self.world = world
        self.pool = pool
        self.tables = world.tables()
        self.partitions: dict[int, Partition] = {}
        self.waits: list[tuple[str, bool]] = []
        self.abandoned = False
        logic = DedupLogic if world.topic == ALERTS else IncidentsLogic
        self.logic = logic(world.settings, world.log_id, world.configs, self._fetch)
        self.runner = StepRunner(
            name="dedup",
            logic=cast("Any", self.logic),
            tables=self.tables,
            partitions=self.partitions,
            pool=pool,
            send=self.send,
            log_id=world.log_id,
            limit=500,
            interval=0.0,
            lost=lambda: self.abandoned,
            forget=lambda: None,
            waiting_for=self._waiting_for,
        )
        self.loader = Loader(
            settings=world.settings,
            topic=world.topic,
            tables=self.tables,
            partitions=self.partitions,
            pool=pool,
            log_id=world.log_id,
            offsets=world.offsets,
            prepare=self._prepare,
            waiting_for=self._waiting_for,
        )

    def events(self, upto: int | None = None) -> list[Event]:
        """What Kafka would bring from here on, up to an offset (not included)."""
        written_at = self.world.written_at
        return [
            Event(
                SimpleNamespace(
                    partition=number, offset=offset, value=self.world.log[number][offset], timestamp=written_at
                )
            )
            for number, partition in self.partitions.items()
            for offset in range(partition.next_offset, min(upto or 1 << 40, len(self.world.log[number])))
        ]

    async def step(self, upto: int | None = None) -> None:
        """One step over everything up to an offset."""
        await self.runner._step(self.events(upto))  # type: ignore[arg-type]

    async def send(self, records: Sequence[Outgoing]) -> None:
        self.world.sent += records

    def die(self, point: str) -> None:
        """Raise `Crash` at this point of the next step, once."""
        steps: dict[str, Callable[[], None]] = {
            "decided": lambda: _wrap(self.runner, "_commit", before=True),
            "before commit": self._die_before_commit,
            "after commit": lambda: _wrap(self.runner, "_write", before=False),
            "after send": lambda: _wrap(self.tables, "flush", before=True),
            "after redis": lambda: _wrap(self.tables, "flush", before=False),
            "after view": lambda: _wrap(self.runner, "_step", before=False),
        }
        steps[point]()

    def _die_before_commit(self) -> None:
        self.take_the_long_way()
        _wrap(self.logic, "write", before=False)

    def take_the_long_way(self) -> None:
        """Commit by a transaction of several statements, so that something can happen in between."""
        self.logic.at_once = lambda works: None  # type: ignore[method-assign]  # noqa: ARG005 - its signature

    async def close(self) -> None:
        self.pool.terminate()

    async def _fetch(self, version: int) -> None:
        raise AssertionError(version)

    async def _prepare(self, version: int) -> None:
        assert version in self.world.configs

    def _waiting_for(self, dependency: str, ok: bool) -> None:
        self.waits.append((dependency, ok))


async def run_through(world: World, bounds: Sequence[int], crashes: Sequence[tuple[int, str]] = (), **how: Any) -> None:
    """Apply the whole log in steps that end at `bounds`.

    `crashes` are (bound, point), the next only after the one before; after each
    a new process takes over. `at_once`: what a new process finds is one step.
    `lost_redis`: each crash takes Redis along.
    """
    pending = list(crashes)
    armed, died = False, 0
    owner = await world.start()
    try:
        while True:
            done = min(partition.view.offset for partition in owner.partitions.values())
            left = [bound for bound in bounds if bound - 1 > done]
            if not left:
                break
            bound = left[-1] if how.get("at_once") and died == len(crashes) else left[0]
            if not armed and pending and pending[0][0] <= bound:
                owner.die(pending.pop(0)[1])
                armed = True
            try:
                await owner.step(bound)
            except Crash:
                armed, died = False, died + 1
                await owner.close()
                if how.get("lost_redis"):
                    await world.lose_redis()
                owner = await world.start()
    finally:
        await owner.close()
    assert died == len(crashes)


def plain(tables: Mapping[str, Mapping[str, bytes]]) -> dict[str, Any]:
    """Tables without what depends on how steps were cut: when a count reached its row."""
    return {
        ALERT_TABLE: dict(tables[ALERT_TABLE]),
        PULSES: {key: settled(_pulse.decode(value)) for key, value in tables[PULSES].items()},
        RECENT: sorted(number for value in tables[RECENT].values() for number in event_hashes(decode_chunk(value).ids)),
    }


def settled(pulse: Pulse) -> Pulse:
    """A pulse without how far its row is behind."""
    return msgspec.structs.replace(pulse, row_count=0, row_at=T0, dirty_from=-1)


def _said(item: MemberChange) -> tuple[Any, ...]:
    place = -1 if item.by_timeout else item.index  # a tick opens no incident, so nothing is named after the place in it
    return (item.group, item.identity, item.occurrence, item.revision, item.change, item.starts_at, item.ends_at,
            item.cause, place, item.body, item.accepted_at)  # fmt: skip


def _wrap(target: object, name: str, *, before: bool) -> None:
    original: Callable[..., Awaitable[Any]] = getattr(target, name)

    async def dying(*args: Any, **kwargs: Any) -> None:
        if not before:
            await original(*args, **kwargs)
        raise Crash

    setattr(target, name, dying)


async def settle(task: "asyncio.Task[Any]") -> None:
    """Cancel a task and wait for its end."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
