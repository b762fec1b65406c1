"""The few overrides of Faust's Kafka transport, each small and with its reason.

Written for faust-streaming 0.15.3; `tests/streams/test_transport.py` compares
the overridden methods with what they were when this was written.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, cast

import aiokafka
from faust.app.base import App
from faust.streams import Stream
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport
from faust.types import TP, EventT

from streams.kafka_cut import mend

_DELIVERY: Final = 2
_FULL_S: Final = 0.01


class PositionedApp(App):
    """A Faust app whose partitions start where its own store says, not where Kafka's commit says.

    `positions` maps a source partition to the next offset to read; whoever loads
    state fills it before the flow starts.
    """

    positions: dict[TP, int]
    fetch_wait_ms: int = 500

    def __init__(self, *args: Any, fetch_wait_ms: int = 500, **options: Any) -> None:  # noqa: ANN401 - passed on to Faust as they are
        mend()
        self.positions = {}
        self.fetch_wait_ms = fetch_wait_ms
        super().__init__(*args, **options)

    def _new_transport(self) -> "PositionedTransport":
        return PositionedTransport(self.conf.broker_consumer, self)


class _ConsumerThread(AIOKafkaConsumerThread):
    """Faust asks the broker to hold a fetch for 1.5 s; on a broker that polls, that is latency."""

    def _create_worker_consumer(self, transport: Transport) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        wait_ms = cast("PositionedApp", self.app).fetch_wait_ms
        consumer._fetch_max_wait_ms = wait_ms  # noqa: SLF001 - read when the consumer starts
        return consumer

    async def _fetch_records(self, consumer: aiokafka.AIOKafkaConsumer, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - Faust's signature
        """Let partitions take turns: aiokafka hands out all it has of one, a megabyte, before the next one's first."""
        found = await super()._fetch_records(consumer, *args, **options)
        held = consumer._fetcher._records  # noqa: SLF001 - its order is the order in which they are handed out
        for tp in found:
            if tp in held:
                held.move_to_end(tp)
        return found


class _Consumer(Consumer):
    """Seeks to the store's position, and forgets what a lost partition left unacknowledged."""

    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def wait_first(self, *coros: Any, timeout: Any = None) -> Any:  # noqa: ANN401, ASYNC109 - Faust's signature
        """Hand a message over without four tasks around it, while nothing can hold it up.

        Faust races each delivery against a rebalance, which costs 24 us a message.
        A delivery cannot block while the flow is on and no partition's buffer is
        over 80 % full (Faust's own mark, well over one fetch away from full).
        """
        free = self.flow_active and not self._buffered_partitions and not self.suspend_flow.is_set()
        if free and len(coros) == _DELIVERY and all(map(inspect.iscoroutine, coros)):
            delivery, suspended = coros
            suspended.close()
            await delivery
            return None
        return await super().wait_first(*coros, timeout=timeout)

    async def _wait_next_records(self, timeout: float) -> Any:  # noqa: ANN401, ASYNC109 - Faust's signature
        """Look again soon while every buffer is full: Faust sleeps for a second, in which a step is long done."""
        if self.flow_active and self._buffered_partitions and not self._get_active_partitions():
            await asyncio.sleep(_FULL_S)
            return {}, set()
        return await super()._wait_next_records(timeout)

    def on_buffer_full(self, tp: TP) -> None:
        """Fetch no more of the whole topic: its partitions fill one buffer, and each more would go over its brim.

        Faust would wait there, in the one loop that hands out every topic's messages.
        """
        for one in [tp, *(other for other in self._get_active_partitions() if other.topic == tp.topic)]:
            super().on_buffer_full(one)

    def on_buffer_drop(self, tp: TP) -> None:
        """Fetch the whole topic again."""
        for one in [other for other in self._buffered_partitions if other.topic == tp.topic]:
            super().on_buffer_drop(one)

    async def perform_seek(self) -> None:
        """After Faust's own seek to the committed offsets, go where the state says."""
        await super().perform_seek()
        positions = cast("PositionedApp", self.app).positions
        wanted = {tp: positions[tp] for tp in self.assignment() if tp in positions}
        for tp, offset in wanted.items():
            await self._seek(tp, offset)
            self._read_offset[tp] = offset or None
            self._committed_offset[tp] = offset or None

    async def end_offsets(self, tps: Sequence[TP]) -> dict[TP, int]:
        """The next offset that each partition's log will have, asked of the broker."""
        consumer = self._thread._ensure_consumer()  # noqa: SLF001 - Faust only tells what was fetched last
        found = await self._thread.call_thread(consumer.end_offsets, tps)
        return {TP(tp.topic, tp.partition): offset for tp, offset in found.items()}

    def forget_unacked(self) -> None:
        """Let a rebalance go on although a step that waits for a dependency was given up."""
        self._unacked_messages.clear()


class PositionedTransport(Transport):
    """Faust's aiokafka transport with the consumer above."""

    Consumer = _Consumer


class _Recovery(Recovery):
    async def on_recovery_completed(self, generation_id: int = 0) -> None:
        """Stop the flow first: Faust resumes partitions before it has sought (upstream issue 596)."""
        self.app.flow_control.suspend()
        self.app.consumer.stop_flow()
        await super().on_recovery_completed(generation_id)


class PositionedTables(TableManager):
    """Faust's table manager with the recovery above."""

    @property
    def recovery(self) -> Recovery:
        """The recovery service, made once."""
        if self._recovery is None:
            self._recovery = _Recovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery


async def gathered(stream: Stream[bytes], limit: int) -> AsyncIterator[list[EventT[Any]]]:
    """What has come in on an agent's stream, as many events at a time as there are, for acknowledging by hand.

    Faust's own iteration yields to the loop for every event; under load that
    is where the time goes. Its bookkeeping is kept: an event of an earlier
    generation is dropped, one that is handed out counts as unacknowledged.
    """
    app = stream.app
    queue = aiter(cast("Any", stream.channel)).queue
    while True:
        try:
            events = [await queue.get()]
        except StopAsyncIteration:  # how the queue tells that the app stops
            return
        while len(events) < limit and not queue.empty():
            events.append(queue.get_nowait())
        generation, consumer = app.consumer_generation_id, app.consumer
        current = [event for event in events if event.message.generation_id == generation]
        for event in current:
            if not event.message.tracked:
                event.message.tracked = True
                consumer.track_message(event.message)
        if current:
            yield current


async def settled(futures: list["asyncio.Future[Any]"]) -> None:
    """Wait for every delivery; the first failure is raised after all have ended."""
    for result in await asyncio.gather(*futures, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
