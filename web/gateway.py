"""The gateway role: ingest, API, page and probes on one server, stopped gracefully."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Final, cast

import structlog
import uvicorn
from redis.asyncio import Redis
from redis.exceptions import RedisError

from streams.capacity import Capacity
from streams.fallback import Fallback
from streams.observe import App, Health, Phase, Receive, Scope, Send, Server, listen, probes, watched
from streams.producer import EventProducer
from streams.redis_link import connect
from streams.settings import Settings
from streams.tracing import tracer
from web import api
from web.action_sender import ActionSender
from web.announcing import SilenceAnnouncer
from web.audit import Audit, audited
from web.configuration import Announcer, read_rules
from web.connection import Connection, in_time
from web.credentials import Credentials
from web.database import Database
from web.foreign import known_host
from web.guard import Guard
from web.idempotency import idempotent
from web.ingest import ROUTES, ingest_app
from web.live import Live
from web.measures import Measures
from web.reloading import Reloader, loaded
from web.room import Room
from web.table_views import TableViews
from web.traces import followed

_CHECK: Final = 0.9
_GRACE: Final = 5
_DOORS: Final = 2
PROBES: Final = {"/-/healthy": "/healthz", "/-/ready": "/readyz"}

log = structlog.get_logger(__name__)


async def run(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM, then finish what is under way.

    Raises:
        OSError: the port is in use.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    async with serving(settings) as url:
        log.info("gateway_started", url=url, signing_in=settings.signing_in)
        await stopping.wait()
        log.info("gateway_stopping")


@contextlib.asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[str]:
    """The whole gateway inside the block; gives its address, with the port that was taken."""
    rules, health = read_rules(settings), Health("gateway")
    loaded()
    redis = connect(settings.redis_url, socket_timeout=2, socket_connect_timeout=2)
    # Searches may take all of `database`; who asks is known, and written down, all the same.
    database, doors = Database(settings), Database(settings, _DOORS)
    credentials, audit = Credentials(doors), Audit(doors)
    live = Live(doors, health)
    async with contextlib.AsyncExitStack() as stack:
        if (mine := tracer()) is not None:
            stack.enter_context(mine.instrumented())
        listener = stack.enter_context(contextlib.closing(listen(settings.http_host, settings.http_port)))
        stack.push_async_callback(redis.aclose)
        producer, fallback = EventProducer(settings), Fallback(settings)
        for pool in (database, doors):
            await pool.open()
            stack.push_async_callback(pool.close)
        for link in (producer, fallback):
            await link.start()
            stack.push_async_callback(link.stop)
        capacity = Capacity(redis, settings)
        announcer, rules_announcer = SilenceAnnouncer(settings, database), Announcer(settings, rules)
        reloader = Reloader(settings, rules_announcer)
        sender = ActionSender(settings, database)
        sender.start()
        stack.push_async_callback(sender.stop)
        reads = api.build(
            settings, database, live, TableViews(redis, settings), announcer, reloader, sender, credentials
        )  # fmt: skip
        reads.state.update({"producer": producer, "replaying": asyncio.Semaphore(1)})
        acting = audited(idempotent(followed(cast("App", reads)), doors, settings.max_message_bytes), audit)
        app = composed(health, ingest_app(settings, producer, fallback, capacity), acting)
        if settings.signing_in:
            app = Guard(settings, credentials, audit, app)
            await reads.state.passwords.warm()
            await stack.enter_async_context(_kept_going(credentials.run))
        else:
            app = known_host(settings, app)
        await stack.enter_async_context(watched(health))
        checking = partial(_check, settings, health, producer, fallback, redis)
        jobs = (live.run, audit.run, capacity.run, rules_announcer.run, announcer.run, checking)
        for job in (*jobs, Measures(settings, database, health).run):
            await stack.enter_async_context(_kept_going(job))
        stack.enter_context(_on_hangup(reloader))
        server = _server(settings, app)
        server_task = asyncio.create_task(server.serve(sockets=[listener]))
        health.any_of("kafka", "rabbitmq")
        health.phase(Phase.RUNNING)
        try:
            yield f"http://{settings.http_host}:{listener.getsockname()[1]}"
        finally:
            health.phase(Phase.DRAINING)
            live.close()
            server.should_exit = True
            await server_task


def _server(settings: Settings, app: App) -> Server:
    config = uvicorn.Config(
        in_time(app),
        loop="none",
        http=cast("type[asyncio.Protocol]", partial(Connection, Room(settings.http_connections))),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies or None,
        backlog=2048,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=_GRACE,
    )
    return Server(config)


def composed(health: Health, ingest: App, reads: App) -> App:
    """Probes first, by our names or Alertmanager's, then the two hot ingest routes, then everything that reads."""

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        is_ingest = scope["type"] == "http" and (scope["method"], scope["path"]) in ROUTES
        await (ingest if is_ingest else reads)(scope, receive, send)

    known = probes(health, route)

    async def named(scope: Scope, receive: Receive, send: Send) -> None:
        other = PROBES.get(scope["path"]) if scope["type"] == "http" else None
        await known({**scope, "path": other} if other else scope, receive, send)

    return named


async def _check(settings: Settings, health: Health, producer: EventProducer, fallback: Fallback, redis: Redis) -> None:
    health.set("kafka", producer.connected, producer.detail, required=False)
    if settings.amqp_url:
        health.set("rabbitmq", fallback.connected, fallback.detail, required=False)
    try:
        async with asyncio.timeout(_CHECK):
            await redis.ping()
    except (RedisError, OSError, TimeoutError) as error:
        health.set("redis", ok=False, detail=type(error).__name__, required=False)
    else:
        health.set("redis", ok=True, required=False)


@contextlib.contextmanager
def _on_hangup(reloader: Reloader) -> Iterator[None]:
    """SIGHUP reads the rules file anew inside the block."""
    loop = asyncio.get_running_loop()
    under_way: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = loop.create_task(reloader.on_signal())
        under_way.add(task)
        task.add_done_callback(under_way.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


@contextlib.asynccontextmanager
async def _kept_going(job: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Keep a job going inside the block; doing it again does no harm, so after an unforeseen error it starts anew."""

    async def go() -> None:
        while True:
            try:
                await job()
            except Exception:
                log.exception("job_failed")
            await asyncio.sleep(_CHECK)

    task = asyncio.create_task(go())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
