"""Claims due notices, sends them side by side, and commits how each ended.

Postgres says what is due; hints only say when to look. A target that hangs
holds its own few places and no one else's.
"""

import asyncio
import contextlib
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

import asyncpg
import structlog

from agents.admission import Admission
from agents.endings import memories, written
from agents.rules.limits import STALE
from agents.send_traces import FIRST, accepted_at_of, follow, trace_of
from agents.targets import Target, Targets
from sinks import digest_rows, target_rows, task_rows
from sinks.outcome import Failed, Outcome, Reason, RetryLater, Sent
from sinks.postgres import TRANSIENT
from sinks.target_rows import TargetState
from sinks.task_rows import Claimed, Ending, Finished, Retry
from streams import metrics
from streams.observe import Health

PLACES: Final = 256
LEASE: Final = timedelta(seconds=10)
"""So long a task stays with a process that has died; one that lives renews it."""
SWEEP: Final = 0.5
SWEEP_SOON: Final = 0.05
"""Seconds between two looks for whatever is due, and those after places became free."""
MAX_HINTS: Final = 10_000
_KEEP: Final = 2.0
_RETRY_FIRST: Final = 0.1
_RETRY_CAP: Final = 2.0

Send = Callable[[Claimed], Awaitable[Outcome]]

log = structlog.get_logger(__name__)


class Dispatcher:
    """Sends what is due. `admit` says which of the claimed tasks go now and takes care of the others."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        send: Send,
        admission: Admission,
        health: Health,
        *,
        owner: str,
        process: str,
        max_age: timedelta,
        ended: Callable[[Sequence[Finished]], None],
    ) -> None:
        self._pool = pool
        self._send = send
        self._admission = admission
        self._health = health
        self._owner = owner
        self._process = process
        self._max_age = max_age
        self._ended = ended
        self._targets = Targets()
        self._sending: set[asyncio.Task[None]] = set()
        self._held: dict[uuid.UUID, Claimed] = {}  # claimed by this process and not committed
        self._done: list[tuple[Claimed, Outcome | None]] = []  # None: never tried
        self._some_done = asyncio.Event()
        self._hints: set[uuid.UUID] = set()
        self._woken = asyncio.Event()
        self._sweep_at = 0.0
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = False
        metrics.buffer_fill_ratio.labels("notices").set_function(lambda: len(self._held) / PLACES)

    def hint(self, ids: Iterable[uuid.UUID]) -> None:
        """These may be due now. What does not fit is found by the sweep."""
        if len(self._hints) < MAX_HINTS:
            self._hints.update(ids)
            self._woken.set()

    def _sweep_soon(self) -> None:
        """Look for what may have waited for places, after others that become free at the same time."""
        soon = time.monotonic() + SWEEP_SOON
        if self._sweep_at > soon:
            self._sweep_at = soon
            self._woken.set()

    async def claim_for_ever(self) -> None:
        """Claim and start what is due, until told to stop."""
        while not self._stopping:
            try:
                await self._claim_once()
            except TRANSIENT as error:
                self._health.set("postgres", ok=False, detail=type(error).__name__)
                await asyncio.sleep(SWEEP)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self._sweep_at - time.monotonic())):
                    await self._woken.wait()

    async def commit_for_ever(self) -> None:
        """Write down how sends ended, many in one transaction; until cancelled."""
        delay = _RETRY_FIRST
        while True:
            await self._some_done.wait()
            try:
                await self._commit()
            except TRANSIENT as error:
                # What was sent stays claimed here; if this process dies, the lease ends
                # and the notice goes out again under the same key.
                self._health.set("postgres", ok=False, detail=type(error).__name__)
                await asyncio.sleep(delay)
                delay = min(delay * 2, _RETRY_CAP)
            else:
                delay = _RETRY_FIRST

    async def keep_for_ever(self) -> None:
        """Renew the leases of what is being sent, and write down how targets answer; until cancelled."""
        untold: dict[str, TargetState] = {}
        while True:
            failing = self._targets.failing()
            detail = f"failing: {', '.join(failing)}" if failing else ""
            self._health.set("targets", ok=not failing, detail=detail, required=False)
            untold |= {state.target: state for state in self._targets.news(time.monotonic())}
            try:
                async with self._pool.acquire(timeout=2) as conn:
                    await task_rows.renew(conn, self._owner, LEASE, list(self._held))
                    await target_rows.write(conn, self._process, list(untold.values()))
                untold.clear()
            except TRANSIENT as error:
                self._health.set("postgres", ok=False, detail=type(error).__name__)
            await asyncio.sleep(_KEEP)

    async def drain(self, patience: float) -> None:
        """Start nothing more, and wait until what is under way is committed."""
        self._stopping = True
        self._woken.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._idle.wait()
        for sending in self._sending:
            sending.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)
        if self._held:
            log.warning("notices_left_behind", notices=len(self._held))

    async def _claim_once(self) -> None:
        self._woken.clear()
        sweeping = time.monotonic() >= self._sweep_at
        if sweeping:
            self._sweep_at = time.monotonic() + SWEEP
        free = PLACES - len(self._held)
        ids = None if sweeping else list(self._hints)
        if free <= 0 or ids == []:
            return
        self._hints.clear()
        async with self._pool.acquire(timeout=2) as conn:
            # Of what is held the lease may be over while Postgres was away: how it ended is known here, or will be.
            claimed = await task_rows.claim(
                conn, self._owner, None, LEASE, free, ids,
                targets=self._targets.room(), hosts=self._targets.host_room(), held=list(self._held),
            )  # fmt: skip
        self._health.set("postgres", ok=True)
        for task in await self._admitted(claimed):
            self._start(task)

    async def _admitted(self, claimed: Sequence[Claimed]) -> list[Claimed]:
        """Those to be sent now; while that is decided, their leases are renewed."""
        if not claimed:
            return []
        self._held |= {task.id: task for task in claimed}
        self._idle.clear()
        going: list[Claimed] = []
        try:
            going = await self._admission.admitted(claimed)
        finally:
            for one in {task.id for task in claimed} - {task.id for task in going}:
                self._let_go(one)
        return going

    def _let_go(self, task: uuid.UUID) -> None:
        self._held.pop(task, None)
        if not self._held:
            self._idle.set()

    def _start(self, task: Claimed) -> None:
        target = self._targets.of(task.target, task.channel)
        self._targets.hold(target)
        sending = asyncio.create_task(self._deliver(task, target))
        self._sending.add(sending)
        sending.add_done_callback(self._sending.discard)

    async def _deliver(self, task: Claimed, target: Target) -> None:
        outcome = None if self._stopping else await self._tried(task, target)
        self._done.append((task, outcome))
        self._some_done.set()

    async def _tried(self, task: Claimed, target: Target) -> Outcome:
        """How it ended. Nothing of what is only watched may keep that from being written down."""
        began = time.perf_counter()
        following = None
        with _watching(task):
            following = follow(task)
        outcome = await self._sent(task)
        with _watching(task):
            self._targets.heard(target, outcome)
            metrics.observe(metrics.notification_seconds.labels(task.channel), time.perf_counter() - began)
            if following is not None:
                following.ended(began, outcome)
            if isinstance(outcome, Sent):
                _measure(task, time.perf_counter() - began)
        return outcome

    async def _sent(self, task: Claimed) -> Outcome:
        if task.age > self._max_age:
            return Failed(Reason.EXPIRED, f"made {task.age} ago")
        try:
            return await self._send(task)
        except Exception as error:
            log.exception("channel_failed", task=str(task.id), channel=task.channel)
            return RetryLater(Reason.INTERNAL, f"{type(error).__name__}: {error}")

    async def _commit(self) -> None:
        self._some_done.clear()
        done = self._done[:]
        endings, retries, untried = self._sorted(done)
        try:
            async with self._pool.acquire(timeout=2) as conn, conn.transaction():
                finished = await task_rows.finish(conn, self._owner, endings)
                members = await digest_rows.ended(conn, [one for one in finished if not one.group_key])
                await task_rows.retry_later(conn, self._owner, retries)
                await task_rows.release(conn, self._owner, untried)
                await task_rows.remember(conn, memories(done))
        except BaseException:
            self._some_done.set()
            raise
        self._health.set("postgres", ok=True)
        del self._done[: len(done)]
        if self._done:
            self._some_done.set()
        for task, _ in done:
            self._let_go(task.id)
            self._targets.release(task.target)
        self._report(done, endings, retries)
        self._ended([*(one for one in finished if one.group_key), *members])
        self._count_digested(members, done)
        await self._fold_stale(done)
        self._sweep_soon()

    async def _fold_stale(self, done: Sequence[tuple[Claimed, Outcome | None]]) -> None:
        late = [task for task, end in done if isinstance(end, Sent) and task.age > STALE and task.incident_id]
        for task in {(task.receiver, task.integration, task.target): task for task in late}.values():
            await self._admission.fold_stale(task)

    def _sorted(
        self, done: Sequence[tuple[Claimed, Outcome | None]]
    ) -> tuple[list[Ending], list[Retry], list[Claimed]]:
        rows = [written(task, outcome, self._max_age) for task, outcome in done]
        return (
            [row for row in rows if isinstance(row, Ending)],
            [row for row in rows if isinstance(row, Retry)],
            [row for row in rows if isinstance(row, Claimed)],
        )

    def _report(
        self, done: Sequence[tuple[Claimed, Outcome | None]], endings: Sequence[Ending], retries: Sequence[Retry]
    ) -> None:
        tasks = {task.id: task for task, _ in done}
        rows: list[Ending | Retry] = [*endings, *retries]
        for row in rows:
            task = tasks[row.id]
            outcome = row.state if isinstance(row, Ending) else "retry"
            metrics.notifications.labels(task.channel, outcome).inc()
            log.info(
                "notice",
                outcome=outcome,
                reason=row.reason,
                detail=row.detail,
                task=str(task.id),
                incident=str(task.incident_id),
                receiver=task.receiver,
                host=urlsplit(task.target).hostname,
                attempt=task.attempt,
                **trace_of(task),
            )

    def _count_digested(self, members: Sequence[Finished], done: Sequence[tuple[Claimed, Outcome | None]]) -> None:
        channels = {(task.receiver, task.integration): task.channel for task, _ in done}
        for one in members:
            metrics.notifications.labels(channels[one.receiver, one.integration], "digested").inc()


@contextlib.contextmanager
def _watching(task: Claimed) -> Iterator[None]:
    try:
        yield
    except Exception:
        log.exception("notice_not_watched", task=str(task.id), channel=task.channel)


def _measure(task: Claimed, seconds: float) -> None:
    """How long the target had to wait for it; of the first notice of an alert, since that was accepted."""
    metrics.observe(metrics.notice_seconds, task.age.total_seconds() + seconds)
    if FIRST in task.body and (accepted_at := accepted_at_of(task)) is not None:
        waited = datetime.now(UTC) - accepted_at
        metrics.observe(metrics.first_notice_seconds, max(0.0, waited.total_seconds()))
