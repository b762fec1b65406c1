"""Puts what intake accepted on Kafka's `alerts`, many callers' items in one record, and says when it is safe there.

Each partition has a lane with one sending at a time: what gathers meanwhile
goes together next, so batches grow with load and nothing waits at rest.
Connecting, and watching the connection, belongs to `streams.kafka_link`.
"""

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import msgspec
import structlog
from aiokafka.errors import KafkaError

from streams import codec, keys, metrics
from streams.kafka_link import KafkaLink, NotConnectedError
from streams.records import Alert, AlertBatch, Rejected, Traced
from streams.settings import Settings
from streams.topics import ALERTS, topic_name
from streams.trace_context import of_items

MAX_ITEMS: Final = 512
MAX_BYTES: Final = 512 * 1024
MAX_HELD: Final = 48 * 1024 * 1024
_ITEM_OVERHEAD: Final = 192  # bytes of an item beside its body
_AT_ONCE: Final = 8  # records of one lane that travel together

log = structlog.get_logger(__name__)

Item = Alert | Rejected


class ProducerError(Exception):
    """Drawn for what could not be put on Kafka."""


class KafkaUnavailableError(ProducerError):
    """Raised when Kafka did not confirm in time or refused; it may have the items all the same."""


class OverloadedError(ProducerError):
    """Raised when too much waits for Kafka already; nothing of the batch was taken."""


@dataclass(slots=True, eq=False)
class _Call:
    """One caller's batch: done when each of its shares is confirmed."""

    future: "asyncio.Future[None]"
    shares: "list[_Share]" = field(default_factory=list)
    left: int = 0

    def confirm(self) -> None:
        self.left -= 1
        if self.left == 0 and not self.future.done():
            self.future.set_result(None)

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


@dataclass(slots=True, eq=False)
class _Share:
    """What one call has for one partition, never more than one record takes."""

    call: _Call
    items: list[Item]
    size: int
    accepted_at: datetime
    via: str
    trace: str
    contexts: dict[int, str]  # by the id() of an item
    sent: bool = False
    withdrawn: bool = False


class _Lane:
    """What waits for one partition."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.waiting: deque[_Share] = deque()
        self.filled = asyncio.Event()

    def add(self, share: _Share) -> None:
        self.waiting.append(share)
        self.filled.set()

    def next_record(self) -> list[_Share]:
        """The shares that fill the next record; empty when nothing waits."""
        taken: list[_Share] = []
        items = size = 0
        while self.waiting:
            share = self.waiting[0]
            full = items + len(share.items) > MAX_ITEMS or size + share.size > MAX_BYTES
            if taken and (full or share.via != taken[0].via):
                break
            self.waiting.popleft()
            if share.withdrawn:
                continue
            share.sent = True
            taken.append(share)
            items += len(share.items)
            size += share.size
        return taken


class EventProducer:
    """Batches of `alerts` on their way to Kafka. `connected` and `detail` are for readiness."""

    def __init__(self, settings: Settings) -> None:
        self._partitions = settings.partitions
        self._topic = topic_name(settings.app_prefix, ALERTS)
        self._confirm_timeout = settings.kafka_confirm_timeout / 1000
        self._link = KafkaLink(settings, self._topic)
        self._lanes: list[_Lane] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._held = 0
        metrics.buffer_fill_ratio.labels("kafka").set_function(lambda: self._held / MAX_HELD)

    @property
    def connected(self) -> bool:
        """Whether Kafka answered when it was last asked."""
        return self._link.connected

    @property
    def detail(self) -> str:
        """Why not connected, in words."""
        return self._link.detail

    @property
    def held_bytes(self) -> int:
        """What is waiting or on its way, of `MAX_HELD`."""
        return self._held

    async def start(self) -> None:
        """Begin to connect; returns at once, whether Kafka is there or not."""
        self._lanes = [_Lane(partition) for partition in range(self._partitions)]
        self._link.start()
        self._tasks = [asyncio.create_task(self._run(lane)) for lane in self._lanes]

    async def stop(self) -> None:
        """Give up what is not confirmed and disconnect; callers that still wait get `KafkaUnavailableError`."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for lane in self._lanes:
            self._finish(list(lane.waiting), KafkaUnavailableError("the producer was stopped"))
            lane.waiting.clear()
        await self._link.stop()

    async def publish(self, batch: AlertBatch, *, within: float | None = None) -> None:
        """Return when Kafka has every item of the batch; `within` seconds, or the setting.

        Raises:
            KafkaUnavailableError: it does not have them, or it is not known whether.
            OverloadedError: too much waits already.
        """
        if not batch.items:
            return
        if not self._link.connected:
            raise KafkaUnavailableError(self._link.detail)
        call = _Call(asyncio.get_running_loop().create_future())
        placed = list(self._shares(batch, call))
        call.shares = [share for _, share in placed]
        call.left = len(placed)
        size = sum(share.size for share in call.shares)
        if self._held + size > MAX_HELD:
            raise OverloadedError(f"{self._held} bytes wait for Kafka already")
        self._held += size
        for partition, share in placed:
            self._lanes[partition].add(share)
        seconds = self._confirm_timeout if within is None else within
        await self._confirmed(call, seconds)

    async def send_on(self, topic: str, partition: int, key: bytes, value: bytes, *, within: float) -> int:
        """Return the offset of a record on any of our topics once Kafka has it.

        Raises:
            KafkaUnavailableError: it does not have it, or it is not known whether.
        """
        try:
            async with asyncio.timeout(within):
                sent: Any = await (await self._link.send(partition, key, value, topic=topic))
        except (NotConnectedError, KafkaError, OSError, TimeoutError) as error:
            raise KafkaUnavailableError(str(error) or f"Kafka did not confirm within {within:g} s") from error
        return int(sent.offset)

    async def _confirmed(self, call: _Call, seconds: float) -> None:
        began = time.perf_counter()
        try:
            async with asyncio.timeout(seconds):
                await call.future
        except TimeoutError as error:
            metrics.produced_records.labels(ALERTS, "timeout").inc()
            raise KafkaUnavailableError(f"Kafka did not confirm within {seconds:g} s") from error
        finally:
            if not call.future.done() or call.future.cancelled():
                self._withdraw(call)
        metrics.produce_seconds.observe(time.perf_counter() - began)

    def _shares(self, batch: AlertBatch, call: _Call) -> Iterator[tuple[int, _Share]]:
        by_partition: dict[int, list[Item]] = {}
        contexts = _contexts(batch)
        for item in batch.items:
            by_partition.setdefault(partition_of(item, self._partitions), []).append(item)
        for partition, items in by_partition.items():
            for some, size in cut(items):
                yield partition, _Share(call, some, size, batch.accepted_at, batch.via, batch.trace, contexts)

    def _withdraw(self, call: _Call) -> None:
        """Nobody waits for it any more: leave out what has not been sent."""
        for share in call.shares:
            if not share.sent:
                share.withdrawn = True
                self._held -= share.size

    async def _run(self, lane: _Lane) -> None:
        while True:
            await lane.filled.wait()
            lane.filled.clear()
            while records := list(_some_records(lane)):
                await self._send(lane.partition, records)

    async def _send(self, partition: int, records: list[list[_Share]]) -> None:
        """Send some records of one partition and see each to its end."""
        ends: list[tuple[list[_Share], asyncio.Future[object] | Exception]] = []
        try:
            for shares in records:
                try:
                    key, value = _record_of(shares)
                    ends.append((shares, await self._link.send(partition, key, value)))
                except Exception as error:  # noqa: BLE001 - whatever the client raises, the callers must hear of it
                    ends.append((shares, error))
            for shares, end in ends:
                self._finish(shares, await self._outcome(end))
        except asyncio.CancelledError:
            for shares in records:
                self._finish(shares, KafkaUnavailableError("the producer was stopped"))
            raise

    async def _outcome(self, end: "asyncio.Future[object] | Exception") -> Exception | None:
        if isinstance(end, Exception):
            return self._failed(end)
        try:
            await end
        except Exception as error:  # noqa: BLE001 - likewise
            return self._failed(error)
        metrics.produced_records.labels(ALERTS, "confirmed").inc()
        self._link.seen_well()
        return None

    def _failed(self, error: Exception) -> Exception:
        metrics.produced_records.labels(ALERTS, "failed").inc()
        detail = f"{type(error).__name__}: {error}"
        self._link.seen_failing(detail)
        return KafkaUnavailableError(detail)

    def _finish(self, shares: list[_Share], error: Exception | None) -> None:
        for share in shares:
            if share.items and not share.withdrawn:
                self._held -= share.size
                share.items = []
                if error is None:
                    share.call.confirm()
                else:
                    share.call.fail(error)


def partition_of(item: Item, partitions: int) -> int:
    """Where an item belongs: by the alert's identity, or by the event id of what was refused."""
    if type(item) is Alert:
        return keys.partition_of(item.identity, partitions)
    return keys.partition_of(keys.hashed(item.event_id.encode()), partitions)


def _some_records(lane: _Lane) -> Iterator[list[_Share]]:
    for _ in range(_AT_ONCE):
        shares = lane.next_record()
        if not shares:
            return
        yield shares


def _record_of(shares: list[_Share]) -> tuple[bytes, bytes]:
    items = tuple(shares[0].items) if len(shares) == 1 else tuple(item for share in shares for item in share.items)
    batch = AlertBatch(
        accepted_at=max(share.accepted_at for share in shares),
        items=items,
        via=shares[0].via,
        trace=next((share.trace for share in shares if share.trace), ""),
        traced=_traced(shares) if any(share.contexts for share in shares) else (),
    )
    first = items[0]
    return (first.identity if isinstance(first, Alert) else first.event_id).encode(), codec.encode(batch)


def _traced(shares: list[_Share]) -> tuple[Traced, ...]:
    return of_items([share.contexts.get(id(item), "") for share in shares for item in share.items])


def pieces(batch: AlertBatch) -> Iterator[AlertBatch]:
    """The batch in pieces that fit one record."""
    contexts = _contexts(batch)
    for items, _ in cut(list(batch.items)):
        traced = of_items([contexts.get(id(item), "") for item in items]) if contexts else ()
        yield msgspec.structs.replace(batch, items=tuple(items), traced=traced)


def _contexts(batch: AlertBatch) -> dict[int, str]:
    return {id(batch.items[index]): one.context for one in batch.traced for index in one.items}


def cut(items: list[Item]) -> Iterable[tuple[list[Item], int]]:
    """One partition's items in pieces that fit one record, each with its size."""
    size = sum(len(item.body) for item in items) + _ITEM_OVERHEAD * len(items)
    if len(items) <= MAX_ITEMS and size <= MAX_BYTES:
        return [(items, size)]
    return _cut_small(items)


def _cut_small(items: list[Item]) -> Iterator[tuple[list[Item], int]]:
    some: list[Item] = []
    size = 0
    for item in items:
        own = len(item.body) + _ITEM_OVERHEAD
        if some and (len(some) >= MAX_ITEMS or size + own > MAX_BYTES):
            yield some, size
            some, size = [], 0
        some.append(item)
        size += own
    yield some, size
