"""RabbitMQ -> intake -> Kafka. A message is acknowledged only after Kafka has what it said.

Messages are taken as they gather, a batch at a time and one batch after the
other, so that what concerns one alert keeps its order.
"""

import asyncio
import contextlib
import signal
import time
from collections import deque
from typing import Final

import structlog
from aio_pika.abc import AbstractConnection, AbstractExchange
from aiormq.abc import AbstractChannel

from streams import metrics
from streams.amqp import CONNECTION_ERRORS, Topology, confirming, connected
from streams.amqp_bursts import Delivery
from streams.bridge_batch import DeadLetter, Gathered, dead_message, gathered
from streams.bridge_traces import Following, Stage
from streams.capacity import Capacity
from streams.observe import Health, Phase, Question, serve
from streams.producer import EventProducer, ProducerError
from streams.records import AlertBatch
from streams.redis_link import connect
from streams.settings import Settings

MAX_MESSAGES: Final = 1000
MAX_BYTES: Final = 8 * 1024 * 1024
_PUBLISH_S: Final = 5.0
_FLUSH_S: Final = 3.0
_PAUSES_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0)
_CHECK_S: Final = 0.5
_COUNT_S: Final = 0.9

log = structlog.get_logger(__name__)


class LostError(ConnectionError):
    """Raised when the connection, the channel or the queue went away; what was not acknowledged comes again."""


class _Session:
    """One consumer on one connection. `wake` is set by every delivery and by every reason to look up."""

    def __init__(self, stop: asyncio.Event) -> None:
        self.stop = stop
        self.wake = asyncio.Event()
        self.inbox: deque[Delivery] = deque()
        self.lost = ""

    def deliver(self, messages: list[Delivery]) -> None:
        self.inbox += messages
        self.wake.set()

    def lose(self, *reason: object) -> None:
        self.lost = self.lost or " ".join(str(part) for part in reason if part is not None) or "closed"
        self.wake.set()

    def take(self) -> list[Delivery]:
        taken: list[Delivery] = []
        size = 0
        while self.inbox and len(taken) < MAX_MESSAGES and size < MAX_BYTES:
            message = self.inbox.popleft()
            size += len(message.body)
            taken.append(message)
        return taken

    def check(self) -> None:
        if self.lost:
            raise LostError(self.lost)


class Bridge:
    """Carries messages from the queue to Kafka until `stop` is set."""

    def __init__(
        self,
        settings: Settings,
        producer: EventProducer,
        health: Health,
        stop: asyncio.Event,
        capacity: Capacity | None = None,
    ) -> None:
        self._capacity = capacity
        self._settings = settings
        self._producer = producer
        self._health = health
        self._stop = stop
        self._topology = Topology.of(settings)

    async def run(self) -> None:
        """Consume, and again after every loss, until told to stop; then finish what is at hand and return."""
        attempt = 0
        while not self._stop.is_set():
            began = time.monotonic()
            session = _Session(self._stop)
            _measure(session, self._settings.amqp_prefetch)
            try:
                async with connected(self._settings, session.deliver) as connection:
                    await self._consume(connection, session)
            except CONNECTION_ERRORS as error:
                detail = f"{type(error).__name__}: {error}"
                self._health.set("rabbitmq", ok=False, detail=detail, required=False)
                attempt = 0 if time.monotonic() - began > _PAUSES_S[-1] else attempt + 1
                await self._pause(attempt)

    async def _consume(self, connection: AbstractConnection, session: _Session) -> None:
        channel = await connection.channel(publisher_confirms=False)
        await channel.set_qos(prefetch_count=self._settings.amqp_prefetch)
        _, dead = await confirming(connection, self._topology.dead)
        underlay = await channel.get_underlay_channel()
        underlay.on_consumer_cancel_callbacks.add(lambda _frame: session.lose("the queue was deleted"))
        channel.close_callbacks.add(lambda _sender, reason: session.lose("channel:", reason))
        connection.close_callbacks.add(lambda _sender, reason: session.lose("connection:", reason))
        consuming = await underlay.basic_consume(self._topology.queue, _passed_by)
        self._health.set("rabbitmq", ok=True, detail=f"reading {self._topology.queue}", required=False)
        waker = asyncio.create_task(_wake_at(self._stop, session.wake))
        counter = asyncio.create_task(self._count_waiting(underlay))
        try:
            carried = await self._carry(session, underlay, dead)
            await underlay.basic_cancel(consuming.consumer_tag or "")
            if carried:
                await self._flush(session, underlay, dead)
        finally:
            waker.cancel()
            counter.cancel()

    async def _carry(self, session: _Session, channel: AbstractChannel, dead: AbstractExchange) -> bool:
        """Until told to stop; False when a batch was left: no later one may be acknowledged, as that acks it too."""
        while not self._stop.is_set():
            await session.wake.wait()
            session.wake.clear()
            while session.inbox and not self._stop.is_set():
                session.check()
                if not await self._pass_on(session, channel, dead, session.take()):
                    return False
            session.check()
        return True

    async def _flush(self, session: _Session, channel: AbstractChannel, dead: AbstractExchange) -> None:
        """What was delivered already still goes through if that takes no longer than `_FLUSH_S`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FLUSH_S):
                while session.inbox and self._producer.connected:
                    if not await self._pass_on(session, channel, dead, session.take()):
                        return

    async def _pass_on(
        self, session: _Session, channel: AbstractChannel, dead: AbstractExchange, messages: list[Delivery]
    ) -> bool:
        """Judge, Kafka, dead letters, acknowledge; False when Kafka has not all of it, and nothing was acknowledged."""
        began = time.perf_counter()
        following = Following(messages)
        found = gathered(messages, self._settings, following.contexts)
        judged = time.perf_counter()
        if not await self._published(session, found):
            return False
        published = time.perf_counter()
        if found.dead:
            await self._bury(dead, found.dead)
        await channel.basic_ack(messages[-1].tag, multiple=True, wait=False)
        ended = time.perf_counter()
        self._count(found, len(messages), ended - began)
        following.record(self._topology.queue, found, Stage(began, judged, published, ended))
        return True

    async def _published(self, session: _Session, found: Gathered) -> bool:
        """Whether Kafka has all of it; tried until it has, or until there is no use in trying."""
        waiting = list(found.batches)
        attempt = 0
        if not await self._room(session, waiting):
            return False
        while waiting:
            session.check()
            waiting = await self._try(waiting, is_first=attempt == 0)
            if waiting:
                if self._stop.is_set():
                    return False
                await self._pause(attempt)
                attempt += 1
        return True

    async def _room(self, session: _Session, batches: list[AlertBatch]) -> bool:
        """Hold what is new to a full partition, and with it all that follows, until there is room; False at the end."""
        held = False
        while self._capacity is not None and await self._crowded(self._capacity, batches):
            session.check()
            if not held:
                log.warning("bridge_holds", reason="a partition holds as many alerts as it may")
                self._health.set("rabbitmq", ok=True, detail="held: no room for new alerts", required=False)
            held = True
            if self._stop.is_set():
                return False
            await self._pause(len(_PAUSES_S))
        if held:
            log.info("bridge_goes_on")
            self._health.set("rabbitmq", ok=True, detail=f"reading {self._topology.queue}", required=False)
        return True

    async def _crowded(self, capacity: Capacity, batches: list[AlertBatch]) -> bool:
        for batch in batches if capacity.full else ():
            if await capacity.without_room(batch.items):
                return True
        return False

    async def _try(self, batches: list[AlertBatch], *, is_first: bool) -> list[AlertBatch]:
        """Publish; returns those that Kafka did not confirm."""
        sending = (self._producer.publish(batch, within=_PUBLISH_S) for batch in batches)
        ends = await asyncio.gather(*sending, return_exceptions=True)
        left = []
        for batch, end in zip(batches, ends, strict=True):
            if isinstance(end, ProducerError):
                left.append(batch)
                if is_first:
                    log.warning("kafka_not_confirmed", items=len(batch.items), reason=str(end))
            elif isinstance(end, BaseException):
                raise end
        return left

    async def _bury(self, dead: AbstractExchange, letters: list[DeadLetter]) -> None:
        async with asyncio.timeout(_PUBLISH_S):
            await asyncio.gather(
                *(dead.publish(dead_message(letter), letter.routing_key, mandatory=True) for letter in letters)
            )
        for letter in letters:
            log.info("dead_lettered", event_id=letter.rejected.event_id, reason=letter.rejected.reason)

    async def _count_waiting(self, channel: AbstractChannel) -> None:
        """Ask now and then how many messages wait in RabbitMQ; whoever reads them hears of a lost connection."""
        queue, well = self._topology.queue, True

        async def ask() -> None:
            declared = await channel.queue_declare(queue, passive=True)
            metrics.amqp_waiting_messages.set(declared.message_count or 0)

        question = Question(ask, _COUNT_S)
        while True:
            flaw = await question.flaw(*CONNECTION_ERRORS)
            if bool(flaw) == well:
                well = not flaw
                self._health.set("rabbitmq", ok=well, detail=flaw or f"reading {queue}", required=False)
            await asyncio.sleep(_COUNT_S)

    def _count(self, found: Gathered, messages: int, seconds: float) -> None:
        metrics.amqp_messages.labels("acked").inc(messages)
        metrics.amqp_messages.labels("dead_lettered").inc(len(found.dead))
        metrics.dead_letters.labels("amqp").inc(len(found.dead))
        metrics.intake_items.labels("amqp", "accepted").inc(found.accepted)
        metrics.intake_items.labels("amqp", "rejected").inc(len(found.dead))
        metrics.amqp_batch_messages.observe(messages)
        metrics.amqp_seconds.observe(seconds)

    async def _pause(self, attempt: int) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PAUSES_S[min(attempt, len(_PAUSES_S) - 1)]):
                await self._stop.wait()


def _measure(session: _Session, prefetch: int) -> None:
    metrics.buffer_fill_ratio.labels("amqp").set_function(lambda: len(session.inbox) / max(1, prefetch))


async def _passed_by(message: object) -> None:
    """The library's own way of delivering, which no message takes here.

    Raises:
        TypeError: one did.
    """
    raise TypeError(f"a delivery passed the burst reader: {message!r}")


async def _wake_at(stop: asyncio.Event, wake: asyncio.Event) -> None:
    await stop.wait()
    wake.set()


async def _watch(producer: EventProducer, health: Health) -> None:
    while True:
        health.set("kafka", ok=producer.connected, detail=producer.detail, required=False)
        await asyncio.sleep(_CHECK_S)


async def run(settings: Settings) -> None:
    """The bridge role: runs until SIGINT or SIGTERM, then flushes and returns within 5 s."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    health = Health("bridge")
    health.set("rabbitmq", ok=False, detail="not connected yet", required=False)
    health.any_of("kafka", "rabbitmq")
    producer = EventProducer(settings)
    redis = connect(settings.redis_url, socket_timeout=2, socket_connect_timeout=2)
    capacity = Capacity(redis, settings)
    async with serve(settings, health):
        await producer.start()
        watch = asyncio.create_task(_watch(producer, health))
        sizes = asyncio.create_task(capacity.run())
        health.phase(Phase.RUNNING)
        try:
            if settings.amqp_url:
                await Bridge(settings, producer, health, stop, capacity).run()
            else:
                health.set("rabbitmq", ok=False, detail="AMQP is off: no address is set", required=False)
                await stop.wait()
        finally:
            health.phase(Phase.DRAINING)
            watch.cancel()
            sizes.cancel()
            await redis.aclose()
            await producer.stop()
    log.info("stopped")
