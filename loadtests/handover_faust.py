"""A process of `make handover`: anybody's Faust app whose one table's partitions come to it.

Prints one line of JSON: seconds from the assignment until recovery is over, and
the keys that are there.
"""

import asyncio
import sys
import time
from typing import Any, Final

import faust
import msgspec
from faust.contrib.asgi import faust_app_running

_WITHIN: Final = 900.0


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One worker of the app `app` with the table `counts`."""

    app: str
    broker: str
    store: str
    partitions: int
    folder: str


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """How it went."""

    seconds: float
    keys: int


class TimedApp(faust.App):
    """An app that remembers when its first assignment came."""

    assigned_at: float = 0.0

    async def _on_partitions_assigned(self, assigned: Any, generation_id: int = 0) -> None:  # noqa: ANN401 - Faust's
        self.assigned_at = self.assigned_at or time.perf_counter()
        await super()._on_partitions_assigned(assigned, generation_id)


async def take(job: Job) -> Taken:
    """Join the group, get every partition, and wait until the table may be used."""
    app: Any = TimedApp(
        job.app,
        broker=f"kafka://{job.broker}",
        store=job.store,
        datadir=job.folder,
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        stream_buffer_maxsize=65_536,  # at Faust's default of 4,096 its recovery is slower
        broker_max_poll_records=2000,
        broker_request_timeout=_WITHIN,
        broker_session_timeout=10,
        broker_heartbeat_interval=3,
        worker_redirect_stdouts=False,
        consumer_auto_offset_reset="earliest",
    )
    table = app.Table("counts", partitions=job.partitions)
    source = app.topic(f"{job.app}-words", partitions=job.partitions, value_type=bytes)

    async def agent(words: Any) -> None:  # noqa: ANN401 - a stream
        async for word in words:
            table[word] = 1

    app.agent(source, name="count")(agent)
    async with asyncio.timeout(_WITHIN), faust_app_running(app, stop_timeout=10):
        while not (app.assigned_at and app.tables.recovery.completed.is_set()):  # noqa: ASYNC110 - made anew each time
            await asyncio.sleep(0.005)
        seconds = time.perf_counter() - app.assigned_at
        return Taken(seconds=seconds, keys=len(table))


if __name__ == "__main__":
    result = asyncio.run(take(msgspec.json.decode(sys.argv[1], type=Job)))
    print(msgspec.json.encode(result).decode())
