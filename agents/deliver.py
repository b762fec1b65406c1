"""The delivery role: sends the notices that Postgres holds, and tells the groups how each ended.

Faust only brings hints. Everything that must be right comes from the rows, so
notices go out while Kafka is away, and no hint is ever missed for good.
"""

import asyncio
import contextlib
import signal
import uuid
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg
import faust
import structlog
from faust.contrib.asgi import bind_to_running_loop

from agents.admission import Admission
from agents.channels import Channels, Versions, all_channels
from agents.dispatch import Dispatcher
from agents.tell import Teller
from sinks import task_rows
from sinks.amqp import Amqp
from sinks.email import Email
from sinks.http import Http
from sinks.postgres import TRANSIENT, open_pool
from sinks.token_bucket import TokenBuckets
from streams import codec, metrics
from streams.app import app_id, options
from streams.kafka_link import KafkaLink
from streams.logs import configure
from streams.observe import Health, Phase, Question, serve
from streams.redis_link import connect
from streams.settings import Settings, new_owner
from streams.topics import INPUTS, TASKS, topic_name
from streams.transport import PositionedApp

_WATCH: Final = 1.0
_COUNT_EVERY: Final = 2
_OUTBOX_OLD_S: Final = 5.0
_STOP: Final = 5.0
_COMMITTED_WITHIN: Final = 2.0

log = structlog.get_logger(__name__)


class HintsStoppedError(RuntimeError):
    """Raised when Faust gave up; the process ends and is started again."""


async def run(settings: Settings) -> None:
    """Deliver until SIGINT or SIGTERM, then finish what is under way."""
    configure(settings, "delivery")
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    await deliver(settings, stopping)


async def deliver(settings: Settings, stopping: asyncio.Event) -> None:
    """Deliver until `stopping` is set; what is under way then is finished and committed."""
    health = Health("delivery")
    health.set("postgres", ok=False, detail="not asked yet")
    health.set("kafka", ok=False, detail="not asked yet", required=False)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(serve(settings, health))
        pool = await open_pool(
            settings.database_url,
            size=settings.database_pool,
            statement_timeout_ms=settings.statement_timeout,
            name=f"delivery-{settings.worker_name}",
        )
        stack.push_async_callback(_closed, pool)
        http = Http(settings.delivery_timeout)
        stack.push_async_callback(http.close)
        amqp = Amqp(settings.delivery_timeout)
        stack.push_async_callback(amqp.close)
        channels = all_channels(http, Email(settings.mail_timeout), amqp)
        link = KafkaLink(settings, topic_name(settings.app_prefix, INPUTS))
        link.start()
        stack.push_async_callback(link.stop)
        teller = Teller(pool, link, settings.partitions)
        redis = connect(settings.redis_url, socket_timeout=0.5, socket_connect_timeout=0.5)
        stack.push_async_callback(redis.aclose)
        owner = new_owner(settings)
        versions = Versions(pool)
        dispatcher = Dispatcher(
            pool,
            Channels(versions, channels).send,
            Admission(pool, owner, versions, TokenBuckets(redis, settings.app_prefix), health),
            health,
            owner=owner,
            process=settings.worker_name,
            max_age=timedelta(seconds=settings.delivery_max_age),
            ended=teller.tell,
        )
        health.phase(Phase.RUNNING)
        jobs = [
            dispatcher.claim_for_ever(),
            dispatcher.commit_for_ever(),
            dispatcher.keep_for_ever(),
            teller.run(),
            _watch(health, link, pool),
            _ask(health, pool),
            _hear(settings, link, dispatcher.hint),
        ]
        async with _together(jobs) as ended:
            await _first(stopping.wait(), ended)
            health.phase(Phase.DRAINING)
            await dispatcher.drain(max(settings.delivery_timeout, settings.mail_timeout) + _COMMITTED_WITHIN)
            await teller.flush()
    log.info("delivery_stopped")


def hint_app(settings: Settings, hint: Callable[[Sequence[uuid.UUID]], None]) -> faust.App:
    """The Faust app that reads `notification-tasks`; a hint that is lost costs half a second."""
    folder = Path(settings.data_dir, f"faust-delivery-{settings.worker_name}")
    folder.mkdir(parents=True, exist_ok=True)  # Faust makes only the last part of it
    app = PositionedApp(
        app_id(settings, "delivery"),
        **{**options(settings), "datadir": str(folder)},
        store="memory://",
    )
    topic = app.topic(
        topic_name(settings.app_prefix, TASKS),
        key_type=bytes,
        value_type=bytes,
        key_serializer="raw",
        value_serializer="raw",
        partitions=settings.partitions,
    )

    @app.agent(topic, name="deliver")
    async def hints(stream: Any) -> None:  # noqa: ANN401 - Faust has no types
        async for value in stream:
            try:
                hint([uuid.UUID(one) for one in codec.decode_hint(value or b"").task_ids])
            except (codec.UndecodableRecordError, ValueError) as error:
                metrics.dead_letters.labels("kafka").inc()
                log.warning("hint_unreadable", reason=str(error))

    return app


async def _hear(settings: Settings, link: KafkaLink, hint: Callable[[Sequence[uuid.UUID]], None]) -> None:
    while not link.connected:  # noqa: ASYNC110 - the link has no event
        await asyncio.sleep(_WATCH / 5)
    app = hint_app(settings, hint)
    bind_to_running_loop(app)
    app.finalize()
    try:
        await app.maybe_start()
        while not app.crashed and not app.should_stop:  # noqa: ASYNC110 - nor has Faust
            await asyncio.sleep(_WATCH)
        raise HintsStoppedError(f"Faust stopped: {app.crash_reason!r}")
    finally:
        # Also when the start itself was cut short: its threads would go on.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP):
                await app.stop()


async def _ask(health: Health, pool: asyncpg.Pool) -> None:
    """Tell within two seconds whether Postgres answers, whatever else waits for it."""

    async def ask() -> object:
        async with pool.acquire(timeout=_WATCH) as conn:
            return await conn.fetchval("SELECT 1", timeout=_WATCH)

    question = Question(ask, _WATCH)
    while True:
        flaw = await question.flaw(*TRANSIENT)
        health.set("postgres", ok=not flaw, detail=flaw)
        await asyncio.sleep(_WATCH / 2)


async def _watch(health: Health, link: KafkaLink, pool: asyncpg.Pool) -> None:
    round_number = 0
    while True:
        health.set("kafka", ok=link.connected, detail=link.detail, required=False)
        if round_number % _COUNT_EVERY == 0:
            with contextlib.suppress(*TRANSIENT):
                async with pool.acquire(timeout=2) as conn:
                    backlog = await task_rows.backlog(conn)
                metrics.notifications_due.set(backlog.due)
                metrics.notifications_oldest_seconds.set(backlog.oldest_seconds)
                late = backlog.oldest_seconds > _OUTBOX_OLD_S
                detail = f"{backlog.due} are due, the oldest for {backlog.oldest_seconds:.0f} s" if late else ""
                health.set("outbox", ok=not late, detail=detail, required=False)
        round_number += 1
        await asyncio.sleep(_WATCH)


@contextlib.asynccontextmanager
async def _together(jobs: Sequence[Any]) -> Any:  # noqa: ANN401
    tasks = [asyncio.create_task(job) for job in jobs]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _first(stopped: Awaitable[Any], jobs: Sequence["asyncio.Task[None]"]) -> None:
    """Return when told to stop; raise what ended a job before that."""
    waiting = asyncio.ensure_future(stopped)
    try:
        done, _ = await asyncio.wait([waiting, *jobs], return_when=asyncio.FIRST_COMPLETED)
        for job in done - {waiting}:
            job.result()
    finally:
        waiting.cancel()


async def _closed(pool: asyncpg.Pool) -> None:
    try:
        async with asyncio.timeout(2):
            await pool.close()
    except (TimeoutError, *TRANSIENT):
        pool.terminate()
