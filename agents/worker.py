"""The worker role: puts stores, agents and timers together and runs them in one Faust app."""

import asyncio
import contextlib
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import Any, Final, cast

import asyncpg
import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from faust.contrib.asgi import faust_app_running
from faust.streams import Stream
from faust.types import TP, StreamT
from redis.exceptions import RedisError

from agents.abreast import BEAT_SECONDS, Abreast
from agents.dedup import DedupLogic
from agents.incidents import IncidentsLogic
from agents.loading import Loader, LogLostError
from agents.log_watch import LogWatch, Owned
from agents.periodic import Periodic
from agents.sending import send
from agents.standstill import Standstill
from agents.step import StepRunner
from agents.timers import Clock, Timers
from agents.work import Logic, Outgoing, Partition
from sinks import config_rows, migrate, postgres
from streams import metrics
from streams.app import PipelineApp, app_id, build_pipeline
from streams.backlog import Backlog
from streams.log_ends import LogEnds
from streams.logs import configure
from streams.observe import Health, Question, serve
from streams.redis_link import connect, refuse_eviction
from streams.redis_tables import FencedError, TableSet
from streams.rules_config import BUILT_IN, RulesConfig, UnreadableRulesError, load
from streams.rules_yaml import ConfigError
from streams.settings import Settings, new_owner
from streams.tables import TABLES_OF
from streams.topic_admin import flaws as flaws_of_topics
from streams.topic_admin import log_id as current_log
from streams.topics import ALERTS, INPUTS, topic_name
from streams.transport import gathered

SWITCH_SECONDS: Final = 0.0005
TOPICS_LOOK_SECONDS: Final = 1.0
JOIN_SECONDS: Final = 5.0
STALL_SECONDS: Final = 15.0
REBALANCE_SECONDS: Final = 30.0
LOG_LOOK_SECONDS: Final = 2.0
SAMPLE: Final = 50
LOOK_SECONDS: Final = 0.5
PATIENCE_SECONDS: Final = 1.0
BEHIND_SECONDS: Final = 30.0
"""A record that waits longer degrades the worker."""
NAMES: Final = {ALERTS: "dedup", INPUTS: "incidents"}
_AWAY: Final = (*postgres.TRANSIENT, KafkaError, RedisError, asyncpg.PostgresError)

log = structlog.get_logger()


class StalledError(RuntimeError):
    """Raised when records wait and nothing is done about them, for no reason that has a name."""


class Worker:
    """One worker process."""

    def __init__(self, settings: Settings, health: Health) -> None:
        self.settings = settings
        self.health = health
        self.configs: dict[int, RulesConfig] = {BUILT_IN.version: BUILT_IN}
        self.runners: dict[str, StepRunner] = {}
        self.loaders: dict[str, Loader] = {}
        self.fatal: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._rebalancing_since: float | None = None
        self._standstill = Standstill(time.monotonic())
        self._log_ends = LogEnds(settings, NAMES)
        self._kafka_away = ""
        self._behind: dict[str, int] = {}
        self._backlogs: defaultdict[TP, Backlog] = defaultdict(Backlog)

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set or something is fatal."""
        settings = self.settings
        self.health.phase("starting")
        self.pool = await postgres.open_pool(
            settings.database_url,
            size=settings.database_pool,
            statement_timeout_ms=settings.statement_timeout,
            name=f"incidents-{settings.worker_name}",
        )
        self.redis = connect(settings.redis_url, socket_timeout=2, socket_connect_timeout=1, health_check_interval=5)
        self.producer = AIOKafkaProducer(
            bootstrap_servers=settings.kafka_url, acks="all", max_request_size=2 << 20, request_timeout_ms=10_000
        )
        try:
            await self._prepare()
            if await self._has_topics(stop):
                await self.producer.start()
                await self._serve(stop)
        finally:
            await self.producer.stop()
            await self.redis.aclose()
            self.pool.terminate()

    async def _prepare(self) -> None:
        await refuse_eviction(self.redis)
        async with self.pool.acquire() as conn:
            await migrate.check(conn)
            cluster = await current_log(self.settings)
            self.log_id = next(iter(await postgres.lives_of(conn, cluster)), cluster)
            forgets = bool(self.settings.log_generation)
            await postgres.register_log(conn, self.log_id, forgets=forgets)

    async def _has_topics(self, stop: asyncio.Event) -> bool:
        """Wait for the topics, and say which are missing or other than they should be; False when stopped first."""
        while flaw := await flaws_of_topics(self.settings):
            self.health.set("topics", ok=False, detail=flaw)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), TOPICS_LOOK_SECONDS)
                return False
        self.health.set("topics", ok=True)
        return True

    async def _serve(self, stop: asyncio.Event) -> None:
        tables = {
            topic: TableSet(self.redis, app_id(self.settings, "pipeline"), topic, names)
            for topic, names in TABLES_OF.items()
        }
        self.app = build_pipeline(self.settings, tables)
        self.app.load_partitions = self._load
        clock = Clock()
        timers = []
        logics: dict[str, Any] = {
            ALERTS: DedupLogic(self.settings, self.log_id, self.configs, self._fetch_config),
            INPUTS: IncidentsLogic(self.settings, self.log_id, self.configs, self._fetch_config),
        }
        abreast = Abreast(self.redis, app_id(self.settings, "pipeline"), ALERTS, new_owner(self.settings))
        for topic, logic in logics.items():
            runner = self._runner(topic, logic, tables[topic])
            timers.append(
                Timers(topic_name(self.settings.app_prefix, topic), runner.partitions, self._send, clock, topic)
            )
        loops = [
            *(runner.run() for runner in self.runners.values()),
            *(timer.run() for timer in timers),
            self._watch(),
            self._watch_log(),
            self._watch_ends(),
            self._beat(abreast),
        ]
        self.runners[ALERTS].abreast = abreast
        periodic = await Periodic.open(self.settings, self._send)
        periodic.drive(self.app)
        tasks = [asyncio.create_task(loop) for loop in loops]
        for task in tasks:
            task.add_done_callback(self._ended)
        stopping = asyncio.create_task(stop.wait())
        try:
            async with faust_app_running(self.app, stop_timeout=10):
                waiting: list[asyncio.Future[Any]] = [stopping, self.fatal]
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if self.fatal.done():
                    log.critical("stopping", reason=repr(self.fatal.exception()))
                    # What a step that raised left unacknowledged will never be; nobody must wait for it.
                    self.app.conf.stream_wait_empty = False
                    self.app.consumer.forget_unacked()  # type: ignore[attr-defined]
                self.health.phase("draining")
                await abreast.leave()
                await periodic.stop()
        finally:
            await periodic.stop()
            stopping.cancel()
            for task in tasks:
                task.cancel()
        if self.fatal.done():
            self.fatal.result()

    def _runner(self, topic: str, logic: Logic, tables: TableSet) -> StepRunner:
        partitions: dict[int, Partition] = {}
        runner = self.runners[topic] = StepRunner(
            name=NAMES[topic],
            logic=logic,
            tables=tables,
            partitions=partitions,
            pool=self.pool,
            send=self._send,
            log_id=self.log_id,
            limit=self.settings.step_records,
            interval=self.settings.batch_interval / 1000,
            lost=lambda: self.app.rebalancing,
            forget=lambda: self.app.consumer.forget_unacked(),  # type: ignore[attr-defined]  # noqa: PLW0108 - the consumer is made later
            waiting_for=self._waiting_for,
        )
        self.loaders[topic] = Loader(
            settings=self.settings,
            topic=topic,
            tables=tables,
            partitions=partitions,
            pool=self.pool,
            log_id=self.log_id,
            offsets=self._offsets,
            prepare=self._need_config,
            waiting_for=self._waiting_for,
        )
        name = topic_name(self.settings.app_prefix, topic)
        source = self.app.topic(
            name,
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
            partitions=self.settings.partitions,
        )

        async def agent(stream: StreamT[bytes]) -> None:
            async for events in gathered(cast("Stream[bytes]", stream), self.settings.step_records):
                await runner.put(events)

        self.app.agent(source, name=NAMES[topic])(agent)
        return runner

    async def _load(self, topic: str, partitions: AbstractSet[int]) -> None:
        """Called by each table's store once partitions are assigned; the first call does the work."""
        self.health.phase("loading")
        generation = self.app.consumer_generation_id
        try:
            positions = await self.loaders[topic].load(partitions)
            self.runners[topic].oldest = None
        except FencedError as error:
            if not self.app.rebalancing and generation == self.app.consumer_generation_id:
                self._fail(error)
            return  # a newer assignment overtook this one, and loads what it brings
        except Exception as error:  # noqa: BLE001 - Faust would swallow it: it must end the process
            self._fail(error)
            return
        name = topic_name(self.settings.app_prefix, topic)
        self.app.positions.update({TP(name, number): offset for number, offset in positions.items()})
        self._tell_owned()

    async def _offsets(self, topic: str, partitions: Sequence[int]) -> Mapping[int, tuple[int, int]]:
        name = topic_name(self.settings.app_prefix, topic)
        tps = [TP(name, number) for number in partitions]
        first = await self.app.consumer.earliest_offsets(*tps)
        end = await self._ends(tps)
        return {tp.partition: (first[tp], end[tp]) for tp in tps}

    async def _ends(self, tps: Sequence[TP]) -> dict[TP, int]:
        found: dict[TP, int] = await self.app.consumer.end_offsets(tps)  # type: ignore[attr-defined]
        return found

    async def _send(self, records: Sequence[Outgoing]) -> None:
        await send(self.producer, records, in_turn=topic_name(self.settings.app_prefix, INPUTS))

    async def _fetch_config(self, version: int) -> None:
        async with self.pool.acquire(timeout=2) as conn:
            stored = await config_rows.by_version(conn, version)
        if stored is None:
            raise UnreadableRulesError(version, "it is not in Postgres")
        try:
            self.configs[version] = load(stored.text, version, stored.files)
        except ConfigError as error:
            raise UnreadableRulesError(version, str(error)) from error

    async def _need_config(self, version: int) -> None:
        if version not in self.configs:
            await self._fetch_config(version)

    def _waiting_for(self, dependency: str, *, ok: bool) -> None:
        self.health.set(dependency, ok=ok, detail="" if ok else "a step waits for it")

    def _fail(self, error: BaseException) -> None:
        if not self.fatal.done():
            self.fatal.set_exception(error)

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        if not task.cancelled() and task.exception() is not None:
            self._fail(task.exception() or RuntimeError("a loop ended"))

    async def _watch(self) -> None:
        """Tell the truth about health within two seconds, and end a process that stands still."""
        pings = (self._ping_redis, self._ping_postgres, self._ping_kafka)
        questions = [Question(ping, PATIENCE_SECONDS) for ping in pings]
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            redis, pg, self._kafka_away = await asyncio.gather(*(asking.flaw(*_AWAY) for asking in questions))
            self.health.set("redis", ok=not redis, detail=redis)
            self.health.set("postgres", ok=not pg, detail=pg)
            self._look_at_rebalance()
            self._look_at_lag()
            self._tell_owned()
            for runner in self.runners.values():
                measure_tables(runner.tables)

    def _tell_owned(self) -> None:
        metrics.partition_epoch.clear()
        for topic, runner in self.runners.items():
            metrics.partitions_owned.labels(topic).set(len(runner.partitions))
            for number, partition in runner.partitions.items():
                metrics.partition_epoch.labels(topic, str(number)).set(partition.view.epoch)

    async def _watch_log(self) -> None:
        """End where Kafka no longer has what was applied. A broker that forgets is watched by its supervisor."""
        watch = LogWatch()
        while not self.settings.log_generation:
            await asyncio.sleep(LOG_LOOK_SECONDS)
            try:
                async with asyncio.timeout(LOG_LOOK_SECONDS):
                    cluster = await self.producer.client.fetch_all_metadata()
            except (KafkaError, OSError, TimeoutError):
                continue
            names = {topic: topic_name(self.settings.app_prefix, topic) for topic in self.runners}
            shown = {topic: len(cluster.partitions_for_topic(name) or ()) for topic, name in names.items()}
            if flaw := watch.look(shown, self._owned(names)):
                self._fail(LogLostError(flaw))

    async def _watch_ends(self) -> None:
        """A consumer that has stopped reading never hears how far the logs go."""
        try:
            while True:
                await asyncio.sleep(LOG_LOOK_SECONDS)
                await self._log_ends.ask(LOG_LOOK_SECONDS)
        finally:
            await self._log_ends.close()

    async def _beat(self, abreast: Abreast) -> None:
        """Tell the other workers of what waits here while a step takes long or waits itself."""
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            waits = self.runners[ALERTS].is_busy or self._behind.get(ALERTS)
            await abreast.beat(self.runners[ALERTS].oldest if waits else None, time.time())

    def _owned(self, names: Mapping[str, str]) -> list[Owned]:
        assigned = self.app.consumer.assignment()
        return [
            Owned(topic, number, partition.view.offset, self.app.consumer.highwater(source))
            for topic, runner in self.runners.items()
            for number, partition in runner.partitions.items()
            if (source := TP(names[topic], number)) in assigned
        ]

    async def _ping_redis(self) -> object:
        return await self.redis.ping()

    async def _ping_postgres(self) -> object:
        async with self.pool.acquire(timeout=1) as conn:
            return await conn.fetchval("SELECT 1", timeout=1)

    async def _ping_kafka(self) -> object:
        return await self.producer.client.fetch_all_metadata()

    def _look_at_rebalance(self) -> None:
        app: PipelineApp = self.app
        busy = app.rebalancing or not app.tables.recovery.completed.is_set()  # type: ignore[attr-defined]
        if not busy:
            self._rebalancing_since = None
            self.health.set("kafka", ok=not self._kafka_away, detail=self._kafka_away)
            self.health.phase("running")
            return
        if self._rebalancing_since is None:
            metrics.rebalances.inc()
        since = self._rebalancing_since = self._rebalancing_since or time.monotonic()
        if time.monotonic() - since > JOIN_SECONDS:
            self.health.set("kafka", ok=False, detail="joining the consumer group")
        waiting = any(runner.waiting for runner in self.runners.values()) or not self.health.is_ok("postgres")
        if time.monotonic() - since > REBALANCE_SECONDS and not waiting and self.health.is_ok("redis"):
            self._fail(StalledError(f"a rebalance has taken over {REBALANCE_SECONDS:.0f} s"))

    def _look_at_lag(self) -> None:
        if self.app.rebalancing:
            return
        assigned = self.app.consumer.assignment()
        self._standstill.look(time.monotonic())
        total = 0
        for topic, runner in self.runners.items():
            name = topic_name(self.settings.app_prefix, topic)
            behind, oldest, now = 0, 0.0, time.monotonic()
            for number, partition in runner.partitions.items():
                source = TP(name, number)
                end = 0
                if source in assigned:
                    end = max(self.app.consumer.highwater(source) or 0, self._log_ends.known.get((topic, number), 0))
                behind += max(0, end - partition.next_offset)
                oldest = max(oldest, self._backlogs[source].age(end, partition.next_offset, now))
            total += behind
            self._behind[topic] = behind
            metrics.lag_records.labels(topic).set(behind)
            metrics.lag_seconds.labels(topic).set(oldest)
            late = oldest > BEHIND_SECONDS
            detail = f"{behind} records wait, the oldest for {oldest:.0f} s" if late else ""
            self.health.set(f"backlog of {topic}", ok=not late, detail=detail, required=False)
            excused = bool(runner.waiting or self._kafka_away)
            idle = self._standstill.idle(topic, behind=behind, excused=excused, last_step_at=runner.last_step_at)
            if idle > STALL_SECONDS:
                self._fail(StalledError(f"{topic}: {behind} records wait and no step has ended for {idle:.0f} s"))
        self.health.lag(total)


def measure_tables(tables: TableSet) -> None:
    """Entries of each table, and their bytes by a sample: looking at all of a million would hold the loop up."""
    for table in tables.tables:
        views = [view.tables[table] for view in tables.views.values()]
        entries = sum(map(len, views))
        sample = [len(value) for view in views for value in islice(view.values(), SAMPLE)]
        metrics.table_entries.labels(table).set(entries)
        metrics.table_bytes.labels(table).set(entries * sum(sample) / len(sample) if sample else 0)


async def run(settings: Settings) -> None:
    """Run a worker until SIGINT or SIGTERM."""
    configure(settings, "worker")
    # Faust fetches in a second thread: at Python's 5 ms each answer to a step would wait that long for the interpreter.
    sys.setswitchinterval(SWITCH_SECONDS)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    health = Health("worker")
    async with serve(settings, health):
        worker = Worker(settings, health)
        try:
            await worker.run(stop)
        except (LogLostError, postgres.UnknownLogError) as error:
            # Restarting would not help, and going on would hide it: say so until a person has looked.
            log.critical("kafka's log does not fit", reason=str(error))
            health.set("kafka log", ok=False, detail=str(error))
            await stop.wait()
