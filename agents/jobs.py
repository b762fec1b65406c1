"""Jobs on a worker: slots that have come become runs, runs are claimed, done in the background, and ended.

Postgres says what is due and who holds a run; any number of workers may ask. A run that its worker does not renew is
taken by another one, as the next attempt, and marked so.
"""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import timedelta
from hashlib import sha256
from typing import Any, Final

import asyncpg
import msgspec
import structlog

from agents.rules import job as rules
from sinks import config_rows, job_rows
from sinks.job_rows import ReadyRun
from sinks.postgres import TRANSIENT, Connection
from streams import codec, metrics
from streams.rules_config import BUILT_IN, ConfigError, RulesConfig, load
from streams.rules_jobs import Action, JobError, arguments_of
from streams.rules_schedule import ScheduleError, due, next_slot

PLACES: Final = 4
"""Runs that one worker does at a time; of those that may take long, one."""
LONG: Final = frozenset({Action.EXPORT, Action.REPLAY, Action.REBUILD})
LEASE: Final = timedelta(seconds=15)
LONGEST: Final = timedelta(hours=6)
_SOME: Final = 50

log = structlog.get_logger()


class LostRunError(Exception):
    """Raised inside an action whose run has passed to another worker: nothing that it writes counts any more."""


class FailedForGoodError(Exception):
    """Raised by an action where trying again is of no use."""


class Work:
    """One attempt at a run, as the action that does it sees it."""

    def __init__(self, pool: "asyncpg.Pool", run: ReadyRun, told: Any) -> None:  # noqa: ANN401 - by the action
        self.pool = pool
        self.run = run
        self.told = told

    async def say(self, line: str) -> None:
        """Write a line into the run's log."""
        async with self.pool.acquire(timeout=5) as conn:
            await job_rows.say(conn, self.run.id, line)

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[Connection]:
        """A transaction that counts only while the run is this attempt's.

        Raises:
            LostRunError: it is not.
        """
        async with self.pool.acquire(timeout=5) as conn, conn.transaction():
            if not await job_rows.hold(conn, self.run):
                raise LostRunError(str(self.run.id))
            yield conn

    async def progress(self, done: int, total: int | None = None, cursor: str = "") -> None:
        """Say how far it is, and where another attempt would go on."""
        async with self.writing() as conn:
            await job_rows.progress(conn, self.run, done, total, cursor)


_Held = tuple[uuid.UUID, int]

Do = Callable[[Work], Awaitable[Mapping[str, Any]]]
"""Does a run; what it returns is the run's result."""


class Jobs:
    """The jobs of one worker. `tick` is called every second, `stop` once."""

    def __init__(
        self, pool: "asyncpg.Pool", actions: Mapping[Action, Do], owner: str, *, lease: timedelta = LEASE,
        without: frozenset[str] = frozenset(),
    ) -> None:  # fmt: skip
        self._pool = pool
        self._actions = actions
        self._owner = owner
        self._lease = lease
        self._without = without
        self._running: dict[_Held, tuple[ReadyRun, asyncio.Task[None]]] = {}
        self._cancelled: dict[uuid.UUID, str] = {}
        self._applied: tuple[int, str] | None = None
        self._renewed_at = 0.0
        self._looks = True
        self._stopping = False

    async def tick(self) -> None:
        """Look once for what is due; what goes wrong with Postgres is tried again at the next call."""
        if self._stopping:
            return
        try:
            await self._tick()
        except TRANSIENT as error:
            log.debug("jobs_wait", reason=repr(error))
        except asyncpg.PostgresError as error:
            log.warning("jobs_refused", reason=repr(error))
        except Exception:
            log.exception("jobs_failed")  # the streams beside them go on

    async def _tick(self) -> None:
        now = time.monotonic()
        async with self._pool.acquire(timeout=2) as conn:
            if self._looks:
                await self.follow_rules(conn)
                self._looks = False
            if self._running and now - self._renewed_at >= self._lease.total_seconds() / 5:
                await self._renew(conn)
                self._renewed_at = now
            await self._place(conn)
            started = await self._claim(conn)
        for run in started:
            task = asyncio.create_task(self._do(run))
            self._running[run.id, run.token] = (run, task)
        metrics.jobs_running.set(len(self._running))

    def look_anew(self) -> None:
        """Read at the next call whether there are other rules."""
        self._looks = True

    async def settled(self) -> None:
        """Wait until nothing runs here."""
        await asyncio.gather(*(task for _, task in self._running.values()), return_exceptions=True)

    async def stop(self) -> None:
        """Give runs back, to be gone on with by another worker."""
        self._stopping = True
        for _, task in self._running.values():
            task.cancel()
        await self.settled()
        for run, _ in list(self._running.values()):  # their tasks had not begun
            with contextlib.suppress(*TRANSIENT):
                await self._given_up(run)

    async def follow_rules(self, conn: Connection) -> None:
        """Make the rows agree with the newest rules file, once for each version of it and of this program."""
        version = await config_rows.newest_version(conn)
        wanted = (version, self._program())
        if self._applied == wanted:
            return
        if await job_rows.applied(conn, lock=False) == wanted:
            self._applied = wanted
            return
        config = _read(await config_rows.newest(conn))
        if config is None or config.version != version:
            return
        async with conn.transaction():
            before = await job_rows.applied(conn, lock=True)
            if before != wanted and before[0] <= version:
                now = await job_rows.clock(conn)
                placed = [
                    (rule, next_slot(rule.schedule, rule.zone, now) if rule.schedule else None)
                    for rule in config.ours.jobs
                    if rule.name not in self._without
                ]
                taken = await job_rows.apply(conn, version, self._program(), placed)
                log.info("jobs_applied", version=version, jobs=len(placed) - len(taken))
                for name in taken:
                    remedy = f"rename it in the rules file, or drop the other: incidents jobs delete {name}"
                    log.warning("job_name_taken", job=name, by="a job that was made over the API", remedy=remedy)
        self._applied = wanted

    def _program(self) -> str:
        said = codec.to_json(BUILT_IN.ours.jobs) + ",".join(sorted(self._without))
        return sha256(said.encode()).hexdigest()[:16]

    async def _place(self, conn: Connection) -> None:
        async with conn.transaction():
            for job in await job_rows.due(conn, _SOME):
                try:
                    judged = due(job.schedule, job.zone, job.next_at, job.now, job.missed)
                except ScheduleError as error:
                    await job_rows.stop(conn, job.name, f"schedule: {error}")
                    continue
                if judged.run is not None:
                    await job_rows.place(conn, job, judged.run, judged.missed)
                elif judged.skipped is not None:
                    await job_rows.skip(conn, job, judged.skipped, judged.missed)
                metrics.job_slots_missed.inc(judged.missed)
                await job_rows.move_on(conn, job.name, judged.next_at)

    async def _claim(self, conn: Connection) -> list[ReadyRun]:
        free = PLACES - len(self._running)
        if free <= 0:
            return []
        started: list[ReadyRun] = []
        async with conn.transaction():
            busy = any(run.action in LONG for run, _ in self._running.values())
            for run in await job_rows.ready(conn, free, without=sorted(LONG) if busy else ()):
                if run.action in LONG and any(one.action in LONG for one in started):
                    continue
                judged = rules.taken(
                    running=run.state == "running", attempt=run.attempt, max_attempts=run.max_attempts,
                    deaths=run.deaths, owner=run.owner, cancel_by=run.cancel_by,
                )  # fmt: skip
                if run.state == "running":
                    metrics.job_deaths.labels(run.action).inc()
                if isinstance(judged, rules.End):
                    await job_rows.say(conn, run.id, judged.why)
                    await job_rows.close(conn, run, judged.state, judged.why, judged.deaths)
                    metrics.job_runs.labels(run.action, judged.state).inc()
                    continue
                if judged.note:
                    await job_rows.say(conn, run.id, judged.note)
                started.append(await job_rows.start(conn, run, self._owner, self._lease, judged.deaths))
        return started

    async def _renew(self, conn: Connection) -> None:
        held = [run for run, _ in self._running.values()]
        mine = await job_rows.renew(conn, held, self._lease)
        for run, task in list(self._running.values()):
            cancel_by = mine.get(run.id)
            if cancel_by:
                self._cancelled[run.id] = cancel_by
            if cancel_by != "" and not task.done():
                task.cancel()

    async def _do(self, run: ReadyRun) -> None:
        began = time.monotonic()
        try:
            outcome = await self._ended(run)
        except TRANSIENT as error:
            # It stays claimed; when the lease has ended somebody tries it again.
            log.warning("job_not_ended", run=str(run.id), reason=repr(error))
            outcome = "unknown"
        except Exception:
            log.exception("job_not_ended", run=str(run.id))
            outcome = "unknown"
        finally:
            self._running.pop((run.id, run.token), None)
            self._cancelled.pop(run.id, None)
        metrics.job_runs.labels(run.action, outcome).inc()
        metrics.job_seconds.labels(run.action).observe(time.monotonic() - began)
        log.info(
            "job", job=run.job, action=run.action, run=str(run.id), attempt=run.attempt, outcome=outcome,
            seconds=round(time.monotonic() - began, 3),
        )  # fmt: skip

    async def _ended(self, run: ReadyRun) -> str:
        try:
            async with asyncio.timeout(LONGEST.total_seconds()):
                result = await self._result(run)
        except LostRunError:
            return "lost"
        except asyncio.CancelledError:
            return await asyncio.shield(self._given_up(run))
        except Exception as error:  # noqa: BLE001 - whatever an action raises is its run's outcome
            return await self._failed(run, error)
        async with self._pool.acquire(timeout=5) as conn:
            return "succeeded" if await job_rows.finish(conn, run, "succeeded", dict(result)) else "lost"

    async def _result(self, run: ReadyRun) -> Mapping[str, Any]:
        try:
            action = Action(run.action)
            told = arguments_of(action, msgspec.json.decode(run.arguments))
        except (ValueError, JobError) as error:
            raise FailedForGoodError(f"this program cannot do it: {error}") from error
        if action not in self._actions:
            raise FailedForGoodError(f"this worker cannot do {action}")
        return await self._actions[action](Work(self._pool, run, told))

    async def _failed(self, run: ReadyRun, error: Exception) -> str:
        why = str(error) or type(error).__name__
        if not isinstance(error, FailedForGoodError):
            why = f"{type(error).__name__}: {why}" if not isinstance(error, JobError) else why
        last = isinstance(error, FailedForGoodError) or run.attempt >= run.max_attempts
        async with self._pool.acquire(timeout=5) as conn, conn.transaction():
            if not await job_rows.hold(conn, run):
                return "lost"
            await job_rows.say(conn, run.id, f"attempt {run.attempt} failed: {why}")
            if last:
                await job_rows.finish(conn, run, "failed", None, why)
                return "failed"
            await job_rows.again(conn, run, why, rules.pause_after(run.attempt))
        return "retried"

    async def _given_up(self, run: ReadyRun) -> str:
        by = self._cancelled.get(run.id, "")
        async with self._pool.acquire(timeout=5) as conn, conn.transaction():
            if not await job_rows.hold(conn, run):
                return "lost"
            if by:
                await job_rows.say(conn, run.id, f"cancelled by {by}")
                await job_rows.finish(conn, run, "cancelled", None, f"cancelled by {by}")
                return "cancelled"
            await job_rows.say(conn, run.id, f"attempt {run.attempt}: the worker {self._owner} was stopped")
            await job_rows.again(conn, run, "the worker was stopped", timedelta(0), counts=False)
        return "given_back"


def _read(stored: config_rows.StoredConfig | None) -> RulesConfig | None:
    if stored is None:
        return BUILT_IN
    try:
        return load(stored.text, stored.version, stored.files)
    except ConfigError as error:
        log.error("rules_unreadable", version=stored.version, reason=str(error))  # noqa: TRY400 - no traceback needed
        return None
