"""The one commit protocol: decide, Postgres, send on, Redis, view, acknowledge.

A crash between any two of these brings the same records again, and what is done
twice changes nothing. The agents differ only in their `Logic`.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg
import structlog
from aiokafka.errors import KafkaError
from faust.types import EventT
from redis.exceptions import RedisError

from agents.abreast import HOLD_SECONDS, Abreast
from agents.alignment import appended_at, is_within, oldest_first
from agents.poison import TRIES, PoisonFinder, UnsureError, is_poison
from agents.step_traces import StepTraces
from agents.work import Batch, Batches, Logic, Outgoing, Part, Partition, Poison, Poisoned, Waiting, Work
from sinks import postgres
from sinks.postgres import Advance, Connection
from streams import metrics
from streams.records import not_after
from streams.redis_tables import FencedError, Mark, TableSet
from streams.tracing import tracer

STEP_BYTES: Final = 4 << 20
"""What one step takes at most: some 10,000 alerts, so that its one statement ends well within its timeout."""
HELD_BYTES: Final = 32 << 20
HELD_STEPS: Final = 8
"""Steps whose records are held: enough that every partition is among them while the worker catches up."""
AHEAD: Final = timedelta(seconds=60)
"""How far a record's own time may be ahead of the broker's; beyond, the broker's counts."""
_RETRY_FIRST: Final = 0.05
_RETRY_CAP: Final = 2.0

_NOTHING: Final[Mapping[int, Poisoned]] = {}

log = structlog.get_logger()


class GapError(UnsureError):
    """Raised when a record is missing between two steps: a bug, so the process stops."""


class AbandonedError(UnsureError):
    """Raised inside a step whose partitions are being taken away; its records come again elsewhere."""


@dataclass(kw_only=True)
class StepRunner:
    """Runs one agent's steps over what its stream put down."""

    name: str
    logic: Logic
    tables: TableSet
    partitions: dict[int, Partition]
    pool: "asyncpg.Pool"
    send: Callable[[Sequence[Outgoing]], Awaitable[None]]
    log_id: str
    limit: int
    interval: float
    lost: Callable[[], bool]
    forget: Callable[[], None]
    waiting_for: Waiting
    abreast: Abreast | None = None

    def __post_init__(self) -> None:
        self._buffer: deque[EventT[Any]] = deque()
        self._held = 0
        self._some = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self.last_step_at = time.monotonic()
        self.waiting = ""
        self.oldest: float | None = None
        self._is_stepping = False
        metrics.buffer_fill_ratio.labels(self.name).set_function(self._fill)
        self._commit_seconds = metrics.commit_seconds.labels(self.name)
        self._traces: StepTraces | None = None
        self._is_written = False
        self._finder = PoisonFinder(
            logic=self.logic,
            pool=self.pool,
            decide=lambda number, batch, poisoned: self._decided(number, batch, poisoned, replaying=False),
            begin=lambda number, left_out: self.logic.begin(
                self.partitions[number], poisoned=left_out, replaying=False
            ),
            patiently=self._patiently,
            alive=self._move,
        )

    def _move(self) -> None:
        self.last_step_at = time.monotonic()

    @property
    def is_busy(self) -> bool:
        """Whether it has records that have no effect yet."""
        return bool(self._buffer) or self._is_stepping

    def _fill(self) -> float:
        return max(len(self._buffer) / (4 * self.limit), self._held / HELD_BYTES)

    async def put(self, events: Sequence[EventT[Any]]) -> None:
        """Hand over events; waits while the buffer is full."""
        self._buffer.extend(events)
        self._held += sum(map(_size, events))
        self._some.set()
        if len(self._buffer) >= HELD_STEPS * self.limit or self._held >= HELD_BYTES:
            self._room.clear()
            await self._room.wait()

    async def run(self) -> None:
        """Step for ever. What escapes from here ends the process."""
        began = ended = 0.0
        while True:
            await self._some.wait()
            # Steps that follow each other closely gather more each, for as long as the last one took;
            # a record after a pause waits for nothing.
            await asyncio.sleep(min(began + self.interval, ended + (ended - began)) - time.monotonic())
            began = time.monotonic()
            events = self._taken(await self._order())
            if not events:  # other workers go first
                self._move()
                await asyncio.sleep(HOLD_SECONDS)
                continue
            if not self._buffer:
                self._some.clear()
            self._room.set()
            self._is_stepping = True
            try:
                await self._step(events)
            except AbandonedError:
                log.warning("step given up", topic=self.logic.topic, records=len(events))
                self._buffer.clear()
                self._held = 0
                self._some.clear()
                self._room.set()
                self.oldest = None
                self.forget()
                continue
            finally:
                self._is_stepping = False
            acking = time.perf_counter()
            for event in events:
                event.ack()
            self._observe("ack", acking)
            ended = self.last_step_at = time.monotonic()
            metrics.step_seconds.labels(self.name, "whole").observe(ended - began)

    async def _order(self) -> float:
        """Put the oldest records first while they are old, and find until when the next step may take them."""
        now = time.time()
        ordered, until = oldest_first(self._buffer, now)
        if ordered is not self._buffer:
            self._buffer = deque(ordered)
        self.oldest = appended_at(self._buffer[0])
        if self.lost():  # whoever takes the partitions over waits for what is held here
            return math.inf
        return until if self.abreast is None else min(until, await self.abreast.until(self.oldest, now))

    def _taken(self, until: float) -> list[EventT[Any]]:
        """The next step's records, no more than one statement can hold."""
        events: list[EventT[Any]] = []
        size = 0
        while self._buffer and len(events) < self.limit and size < STEP_BYTES and is_within(self._buffer[0], until):
            events.append(self._buffer.popleft())
            size += _size(events[-1])
        self._held -= size
        return events

    async def _step(self, events: Sequence[EventT[Any]]) -> None:
        batches: dict[int, list[tuple[int, Any]]] = {}
        decoding = time.perf_counter()
        for number, batch in self._unapplied(events).items():
            batches[number] = self._decoded(number, batch)
        self._observe("decode", decoding)
        if not batches:
            return
        metrics.step_batch_records.labels(self.name).observe(len(events))
        mine = tracer()
        if mine is None:
            await self._apply(batches)
            self._committed(batches)
            return
        traces = self._traces = StepTraces(mine, self.logic.topic)
        for number, records in batches.items():
            traces.find(number, records)
        with traces.logging():
            await self._apply(batches)
            self._committed(batches)
        traces.record()
        self._traces = None

    def _committed(self, batches: Mapping[int, Batch]) -> None:
        """Measure the step from outside: how much it took, and how long its records have been under way."""
        now = time.time()
        items = 0
        for batch in batches.values():
            for _, record in batch:
                items += self.logic.size(record)
                if (accepted_at := getattr(record, "accepted_at", None)) is not None and accepted_at.year > 1:
                    metrics.observe(self._commit_seconds, max(0.0, now - accepted_at.timestamp()))
        metrics.step_batch_items.labels(self.name).observe(items)

    async def _apply(self, batches: Mapping[int, Batch]) -> None:
        records = [record for batch in batches.values() for _, record in batch]
        await self._patiently("postgres", lambda: self.logic.prepare(records))
        # What Postgres has already is replayed on its own: it changes tables and view, and writes no rows.
        replayed = {
            n: [item for item in batch if item[0] <= self.partitions[n].pg_applied] for n, batch in batches.items()
        }
        fresh = {n: rest for n, batch in batches.items() if (rest := batch[len(replayed[n]) :])}
        await self._replay({n: batch for n, batch in replayed.items() if batch})
        if await self._went(fresh):
            return
        for number, batch in fresh.items():
            if len(fresh) == 1 or not await self._went({number: batch}):
                await self._apart(number, batch)

    async def _replay(self, batches: Batches) -> None:
        if not batches:
            return
        refused: Mapping[int, Poisoned] = {}
        since = min(self.partitions[number].watermark for number in batches)

        async def ask() -> None:
            nonlocal refused
            async with self.pool.acquire(timeout=2) as conn:
                refused = await self.logic.refused(conn, batches, since)

        await self._patiently("postgres", ask)
        await self._round(batches, replaying=True, poisoned=refused)

    def _unapplied(self, events: Sequence[EventT[Any]]) -> dict[int, list[tuple[int, bytes, float | None]]]:
        batches: dict[int, list[tuple[int, bytes, float | None]]] = {}
        for event in events:
            message = event.message
            partition = self.partitions.get(message.partition)
            if partition is not None and message.offset > partition.view.offset:
                said = (message.offset, message.value or b"", message.timestamp)
                batches.setdefault(message.partition, []).append(said)
        return batches

    def _decoded(self, number: int, batch: Sequence[tuple[int, bytes, float | None]]) -> list[tuple[int, Any]]:
        expected = self.partitions[number].next_offset
        records = []
        for offset, data, written_at in batch:
            if offset != expected:
                raise GapError(f"{self.logic.topic}/{number}: expected offset {expected}, got {offset}")
            expected += 1
            try:
                records.append((offset, _bounded(self.logic.decode(data), written_at)))
            except Exception as error:  # noqa: BLE001 - whatever bytes do to a decoder, they are no record
                metrics.dead_letters.labels("kafka").inc()
                records.append((offset, self.logic.undecodable(data, offset, number, str(error))))
        return records

    async def _round(
        self, batches: Batches, *, replaying: bool = False, poisoned: Mapping[int, Poisoned] = _NOTHING
    ) -> None:
        """Decide and commit one batch of each partition."""
        self._is_written = False
        started = time.perf_counter()
        works: list[tuple[Work, int]] = []
        found: dict[int, Poisoned] = {}
        try:
            for number, batch in batches.items():
                if batch:
                    left_out = found[number] = dict(poisoned.get(number, {}))
                    works.append((self._decided(number, batch, left_out, replaying=replaying), batch[-1][0]))
            self._observe("decide", started)
            if works:
                await self._commit(works)
        except BaseException:
            for work, _ in works:
                work.abort()
            raise
        for number, left_out in found.items():
            if left_out and not replaying:
                self._given_up(number, left_out)

    def _decided(self, number: int, batch: Batch, poisoned: Poisoned, *, replaying: bool) -> Work:
        tries: dict[tuple[int, Part], int] = {}
        while True:
            work = self.logic.begin(self.partitions[number], poisoned=poisoned, replaying=replaying)
            try:
                for offset, record in batch:
                    work.apply(offset, record)
                work.finish()
            except Poison as poison:
                work.abort()
                tries[poison.at] = tries.get(poison.at, 0) + 1
                log.warning("event could not be handled", partition=number, offset=poison.at[0], reason=str(poison))
                if tries[poison.at] >= TRIES:
                    poisoned[poison.at] = str(poison)
            except BaseException:
                work.abort()
                raise
            else:
                return work

    async def _went(self, batches: Batches) -> bool:
        """Take a step; False, with nothing done, where something in it cannot be handled."""
        try:
            await self._round(batches)
        except Exception as error:
            if self._is_written or not is_poison(error):
                raise
            log.warning("a step could not be taken", topic=self.logic.topic, reason=repr(error))
            return False
        return True

    async def _apart(self, number: int, batch: Batch) -> None:
        """Take the step of a batch that failed in halves, down to the records that it comes from."""
        if len(batch) == 1:
            await self._alone(number, *batch[0])
            return
        half = len(batch) // 2
        for some in (batch[:half], batch[half:]):
            if not await self._went({number: some}):
                await self._apart(number, some)
            self.last_step_at = time.monotonic()

    async def _alone(self, number: int, offset: int, record: Any) -> None:  # noqa: ANN401 - the topic's record type
        """Take the step of one record without the parts that cannot be handled; these become dead letters."""
        item = (offset, record)
        parts = self._finder.parts(number, offset, record)
        found = await self._finder.find(number, item, parts, [])
        try:
            await self._round({number: [item]}, poisoned={number: found})
        except Exception as error:
            if self._is_written or not is_poison(error):
                raise
            # Each part goes by itself, and not all of them together.
            found = {(offset, part): found.get((offset, part), repr(error)) for part in parts}
            await self._round({number: [item]}, poisoned={number: found})

    def _given_up(self, number: int, found: Poisoned) -> None:
        for (offset, part), reason in found.items():
            metrics.dead_letters.labels("agent").inc()
            log.error("dead letter", topic=self.logic.topic, partition=number, offset=offset, part=part, reason=reason)
            if self._traces is not None:
                self._traces.failed(number, offset, reason)

    async def _commit(self, works: Sequence[tuple[Work, int]]) -> None:
        # What is sent is made first: where that fails, nothing is written yet.
        outgoing = [record for work, _ in works for record in work.outgoing()]
        if not works[0][0].replaying:
            await self._patiently("postgres", lambda: self._write(works))
        self._is_written = True
        if outgoing:
            started = time.perf_counter()
            await self._patiently("kafka", lambda: self.send(outgoing))
            self._observe("produce", started)
        started = time.perf_counter()
        writes = [(work.overlay, self._mark(work, offset)) for work, offset in works]
        await self._patiently("redis", lambda: self.tables.flush(writes))
        self._observe("redis", started)
        if self._traces is not None:
            self._traces.tell(told for work, _ in works for told in work.told)
        for (work, offset), (overlay, mark) in zip(works, writes, strict=True):
            overlay.commit(mark)
            work.partition.pg_applied = max(work.partition.pg_applied, offset)
            work.committed()

    def _mark(self, work: Work, offset: int) -> Mark:
        after = work.advance(offset)
        return Mark(after.epoch, self.log_id, offset, after.config_version, after.watermark)

    async def _write(self, works: Sequence[tuple[Work, int]]) -> None:
        started = time.perf_counter()
        steps = [work.advance(offset) for work, offset in works]
        one = self.logic.at_once([work for work, _ in works])
        async with self.pool.acquire(timeout=2) as conn:
            topic = self.logic.topic
            if one is None or not await postgres.write_at_once(conn, one[0], self.log_id, topic, steps, one[1]):
                await self._transact(conn, works, steps)
        self._observe("postgres", started)

    async def _transact(self, conn: Connection, works: Sequence[tuple[Work, int]], steps: Sequence[Advance]) -> None:
        """The long way: a transaction of several statements, which also tells a fence from a repeat."""
        async with conn.transaction():
            moved = await postgres.advance(conn, self.log_id, self.logic.topic, steps)
            if len(moved) < len(steps):
                await self._refuse_fenced(conn, [step for step in steps if step.partition not in moved])
            await self.logic.write(conn, [work for work, _ in works if work.partition.view.partition in moved])

    async def _refuse_fenced(self, conn: Connection, left: Sequence[Advance]) -> None:
        """What did not move is fenced, or was committed before although the answer was lost."""
        numbers = [step.partition for step in left]
        current = await postgres.current_epochs(conn, self.log_id, self.logic.topic, numbers)
        fenced = [step.partition for step in left if current.get(step.partition, (-1, -1))[0] != step.epoch]
        if fenced:
            metrics.fenced.inc()
            raise FencedError(f"{self.logic.topic}/{fenced}: a newer owner has these partitions")

    async def _patiently(self, dependency: str, action: Callable[[], Awaitable[None]]) -> None:
        """Do it until it is done, waiting by name for a dependency that is away.

        Raises:
            AbandonedError: the partitions are being taken away meanwhile.
        """
        delay = _RETRY_FIRST
        while True:
            try:
                await action()
            except (*postgres.TRANSIENT, KafkaError, RedisError) as error:
                if not self.waiting:
                    metrics.step_waits.labels(self.name, dependency).inc()
                    log.warning("waiting", dependency=dependency, topic=self.logic.topic, reason=repr(error))
                self.waiting = dependency
                self.waiting_for(dependency, ok=False)
            else:
                if self.waiting:
                    log.info("back", dependency=self.waiting, topic=self.logic.topic)
                    self.waiting_for(self.waiting, ok=True)
                    self.waiting = ""
                return
            if self.lost():
                self.waiting = ""
                raise AbandonedError
            await asyncio.sleep(delay)
            delay = min(delay * 2, _RETRY_CAP)

    def _observe(self, part: str, started: float) -> None:
        metrics.step_seconds.labels(self.name, part).observe(time.perf_counter() - started)
        if self._traces is not None:
            self._traces.part(part, started)


def _size(event: EventT[Any]) -> int:
    return len(event.message.value or b"")


def _bounded(record: Any, written_at: float | None) -> Any:  # noqa: ANN401 - the topic's record type
    """The record, its time no further ahead than `AHEAD` of when the broker wrote it down."""
    if not written_at or written_at < 0:
        return record
    return not_after(record, datetime.fromtimestamp(written_at, UTC) + AHEAD)
