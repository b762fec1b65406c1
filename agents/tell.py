"""Tells each group how its notices ended, again and again until the group has applied it.

Postgres knows what is untold; what is sent at once after the end only saves time.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import asyncpg
import structlog

from sinks import task_rows
from sinks.postgres import TRANSIENT
from sinks.task_rows import Finished
from streams import codec, keys, metrics
from streams.kafka_link import KafkaLink, NotConnectedError
from streams.records import Outcome
from streams.topics import INPUTS

SWEEP: Final = 1.0
GRACE: Final = timedelta(seconds=2)
LONGEST_PAUSE: Final = 60.0
AT_ONCE: Final = 500
_CONFIRM: Final = 5.0

log = structlog.get_logger(__name__)


class Teller:
    """Sends `Outcome` records to `incident-inputs`."""

    def __init__(self, pool: asyncpg.Pool, link: KafkaLink, partitions: int) -> None:
        self._pool = pool
        self._link = link
        self._partitions = partitions
        self._new: list[Finished] = []
        self._some = asyncio.Event()
        self._repeats: dict[object, tuple[float, float]] = {}  # task id -> (monotonic time of the next, pause)

    def tell(self, finished: Sequence[Finished]) -> None:
        """Send these as soon as possible; if that fails, the sweep finds them."""
        self._new += finished[: max(0, 10 * AT_ONCE - len(self._new))]
        self._some.set()

    async def run(self) -> None:
        """Send what is new at once, and what stays untold after a growing pause; until cancelled."""
        sweep_at = 0.0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, sweep_at - time.monotonic())):
                    await self._some.wait()
            await self.flush()
            if time.monotonic() >= sweep_at:
                await self._sweep()
                sweep_at = time.monotonic() + SWEEP

    async def flush(self) -> None:
        """Send what is new."""
        self._some.clear()
        new, self._new = self._new, []
        for start in range(0, len(new), AT_ONCE):
            await self._send(new[start : start + AT_ONCE])

    async def _sweep(self) -> None:
        if not self._link.connected:
            return
        try:
            async with self._pool.acquire(timeout=2) as conn:
                untold = await task_rows.untold(conn, None, GRACE, AT_ONCE)
        except TRANSIENT as error:
            log.debug("untold_unknown", reason=type(error).__name__)
            return
        now = time.monotonic()
        self._repeats = {one.id: self._repeats.get(one.id, (0.0, SWEEP)) for one in untold}
        due = [one for one in untold if self._repeats[one.id][0] <= now]
        for one in due:
            pause = min(2 * self._repeats[one.id][1], LONGEST_PAUSE)
            self._repeats[one.id] = (now + pause, pause)
        await self._send(due)

    async def _send(self, finished: Sequence[Finished]) -> None:
        try:
            async with asyncio.timeout(_CONFIRM):
                sent = [
                    await self._link.send(
                        keys.partition_of(one.group_key, self._partitions), one.group_key.encode(), _record(one)
                    )
                    for one in finished
                ]
                await asyncio.gather(*sent)
        except NotConnectedError:
            return
        except Exception as error:  # noqa: BLE001 - whatever the client raises, the sweep comes again
            metrics.produced_records.labels(INPUTS, "failed").inc()
            log.warning("outcomes_not_sent", outcomes=len(finished), reason=f"{type(error).__name__}: {error}")
            self._link.seen_failing(f"{type(error).__name__}: {error}")
            return
        if finished:
            metrics.produced_records.labels(INPUTS, "confirmed").inc(len(finished))
            self._link.seen_well()


def _record(one: Finished) -> bytes:
    return codec.encode(
        Outcome(
            group=one.group_key,
            task_id=str(one.id),
            receiver=one.receiver,
            integration=one.integration,
            decision=one.decision,
            state="failed" if one.state == "failed" else "sent",  # told by a digest is told
            reason=one.reason,
            finished_at=one.finished_at,
        )
    )
