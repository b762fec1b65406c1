"""`make handover`: how long until a partition's state is usable on another worker.

Faust's memory store with changelog recovery, `redis://` beside a changelog, the
worker's own tables of live alerts from Redis, and the same rebuilt from Postgres
because Redis is empty. Real Apache Kafka, Redis and Postgres of its own; each
measured worker is a process that starts for it.
"""

import argparse
import asyncio
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, TypeVar

import asyncpg
import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from redis.asyncio import Redis as RedisClient
from rich.console import Console

from embedded.account import server_account
from embedded.errors import EmbeddedError
from embedded.jars import kafka_jars
from embedded.kafka import Kafka
from embedded.postgres import Postgres
from embedded.redis import Redis
from embedded.unit import Server
from loadtests import handover_faust, handover_worker
from loadtests.live_state import write_live_alerts
from loadtests.report import console, table_of, write_json
from sinks.migrate import migrate
from streams.redis_changelog import VERSION
from streams.redis_link import connect
from streams.redis_tables import UNWRITTEN, Mark, TableSet, View

SIZES: Final = (10_000, 100_000, 1_000_000)
PARTITIONS: Final = 4
REBUILT_A_SECOND: Final = 10_000

T = TypeVar("T", bound=msgspec.Struct)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One size: seconds of each way, alerts a second of a rebuild, bytes of worker memory for each live alert."""

    keys: int
    memory_s: float
    changelog_s: float
    step_s: float
    rebuild_s: float
    rebuilt_a_second: float
    bytes_an_alert: float
    worker_mib: float


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """All that one run showed."""

    partitions: int
    rows: tuple[Row, ...]


class LostKeysError(RuntimeError):
    """Raised when a worker has not all keys."""


class Stand:
    """The services, and what is written to them before a hand-over."""

    def __init__(self, folder: Path, jars: Path, say: Callable[[str], None]) -> None:
        account, logs = server_account(), folder / "logs"
        self.folder = folder
        self.say = say
        self.kafka = Kafka(folder / "kafka", logs, account, jars)
        self.redis = Redis(folder / "redis", logs, account, secrets.token_hex(8))
        self.postgres = Postgres(folder / "postgres", logs, account, secrets.token_hex(8))

    @property
    def services(self) -> tuple[Server, ...]:
        """All of them."""
        return self.kafka, self.redis, self.postgres

    async def faust(self, count: int) -> tuple[float, float]:
        """Seconds with Faust's memory store, and with `redis://`, over the same changelog."""
        app = f"counts-{count}"
        await self._make_topics(app)
        self.say(f"{count:,} keys: writing the changelog")
        last = await self._write_changelog(app, count)
        found = {}
        for name, store in (("memory", "memory://"), ("redis", self.redis.url)):
            if name == "redis":
                await self._write_redis(app, count, last)
            self.say(f"{count:,} keys: a worker with Faust's {name} store")
            job = handover_faust.Job(
                app=app, broker=self.kafka.address, store=store, partitions=PARTITIONS, folder=str(self.folder / "app")
            )
            taken = await _run("handover_faust", job, handover_faust.Taken)
            _check(name, taken.keys, count)
            found[name] = taken.seconds
        await self._empty_redis()
        return found["memory"], found["redis"]

    async def worker(self, count: int) -> tuple[handover_worker.Taken, handover_worker.Taken]:
        """A rebuild of the worker's own tables from Postgres into an empty Redis, and a hand-over from Redis."""
        database = f"{self.postgres.url.rpartition('/')[0]}/live_{count}"
        self.say(f"{count:,} live alerts: writing their rows")
        await migrate(database, lambda _: None)
        conn = await asyncpg.connect(database)
        try:
            await write_live_alerts(conn, count, PARTITIONS)
        finally:
            await conn.close()
        job = handover_worker.Job(database_url=database, redis_url=self.redis.url, partitions=PARTITIONS)
        found = []
        for what in ("rebuilt from Postgres", "taken over from Redis"):
            self.say(f"{count:,} live alerts: {what}")
            taken = await _run("handover_worker", job, handover_worker.Taken)
            _check(what, taken.alerts, count)
            _check(what, taken.members, count)
            found.append(taken)
        await self._empty_redis()
        return found[0], found[1]

    async def _make_topics(self, app: str) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.kafka.address)
        await admin.start()
        try:
            compacted = {"cleanup.policy": "compact"}
            await admin.create_topics([
                NewTopic(f"{app}-words", PARTITIONS, 1),
                NewTopic(f"{app}-counts-changelog", PARTITIONS, 1, topic_configs=compacted),
            ])  # fmt: skip
        finally:
            await admin.close()

    async def _write_changelog(self, app: str, count: int) -> list[int]:
        """What a Faust table of `count` keys has written; the last offset of each partition."""
        producer = AIOKafkaProducer(bootstrap_servers=self.kafka.address, linger_ms=20, max_batch_size=1 << 19)
        await producer.start()
        last = [-1] * PARTITIONS
        try:
            for first in range(0, count, 10_000):
                sent = [
                    (n % PARTITIONS, await producer.send(f"{app}-counts-changelog", _value(n), _key(n), n % PARTITIONS))
                    for n in range(first, min(first + 10_000, count))
                ]
                for partition, future in sent:
                    last[partition] = (await future).offset
        finally:
            await producer.stop()
        return last

    async def _write_redis(self, app: str, count: int, last: list[int]) -> None:
        """What `redis://` has kept of that changelog."""
        redis = connect(self.redis.url, socket_timeout=10)
        tables = TableSet(redis, app, "counts", ("counts",))
        for partition in range(PARTITIONS):
            epoch = await tables.take(partition)
            mark = Mark(epoch, f"{app}-counts-changelog", last[partition], 0, UNWRITTEN.watermark)
            values = {_key(n).decode(): VERSION + _value(n) for n in range(partition, count, PARTITIONS)}
            await tables.replace(View(partition, mark, {"counts": values}))
        await redis.aclose()

    async def _empty_redis(self) -> None:
        redis = RedisClient.from_url(self.redis.url)
        await redis.flushall()
        await redis.aclose()


def _key(number: int) -> bytes:
    return msgspec.json.encode(f"word-{number}")


def _value(number: int) -> bytes:
    return msgspec.json.encode({"count": number, "last": "2026-03-01T12:00:00Z", "labels": {"service": "chat" * 20}})


def _check(way: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise LostKeysError(f"{way}: {found:,} of {wanted:,} keys arrived")


async def _run(module: str, job: msgspec.Struct, kind: type[T]) -> T:
    """Run one measured worker and read its line."""
    argument = msgspec.json.encode(job).decode()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"loadtests.{module}", argument, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    if process.returncode:
        raise LostKeysError(f"{module} ended with code {process.returncode}")
    return msgspec.json.decode(out.splitlines()[-1], type=kind)


async def measured(sizes: Iterable[int], out: Console) -> Figures:
    """Every way at every size, one after the other."""
    folder = Path(tempfile.mkdtemp(prefix="handover-"))
    rows = []
    try:
        stand = Stand(folder, await kafka_jars(folder / "logs"), lambda text: out.print(text, style="dim"))
        try:
            for service in stand.services:
                await service.start()
            for count in sizes:
                memory, changelog = await stand.faust(count)
                rebuilt, step = await stand.worker(count)
                rows.append(Row(
                    keys=count, memory_s=memory, changelog_s=changelog, step_s=step.seconds,
                    rebuild_s=rebuilt.seconds, rebuilt_a_second=count / rebuilt.seconds,
                    bytes_an_alert=step.grown / count, worker_mib=step.grown / (1 << 20),
                ))  # fmt: skip
        finally:
            for service in reversed(stand.services):
                await service.stop(15)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Figures(partitions=PARTITIONS, rows=tuple(rows))


def print_figures(out: Console, figures: Figures) -> None:
    """The one table."""
    columns = ("keys", "Faust memory, s", "redis://, s", "alerts, Redis, s", "rebuilt, s", "rebuilt/s", "B an alert",
               "worker MiB")  # fmt: skip
    out.print(table_of(f"until usable on another worker, {figures.partitions} partitions", columns, (
        (f"{row.keys:,}", f"{row.memory_s:.2f}", f"{row.changelog_s:.2f}", f"{row.step_s:.2f}", f"{row.rebuild_s:.2f}",
         f"{row.rebuilt_a_second:,.0f}", f"{row.bytes_an_alert:,.0f}", f"{row.worker_mib:,.0f}")
        for row in figures.rows
    )))  # fmt: skip


def main() -> int:
    """0 only if all keys arrived everywhere, and a rebuild was as quick as is promised."""
    parser = argparse.ArgumentParser(description="Measure hand-over of state between workers.")
    parser.add_argument("keys", nargs="*", type=int, default=list(SIZES))
    parser.add_argument("--report", default=os.environ.get("REPORT", ""))
    chosen: Any = parser.parse_args()
    out = console()
    try:
        figures = asyncio.run(measured(chosen.keys or SIZES, out))
    except (LostKeysError, EmbeddedError) as error:
        out.print(str(error), style="bold red")
        return 1
    print_figures(out, figures)
    if chosen.report:
        write_json(figures, chosen.report)
    slow = [row.keys for row in figures.rows if row.rebuilt_a_second < REBUILT_A_SECOND]
    if slow:
        out.print(f"rebuilt slower than {REBUILT_A_SECOND:,} alerts/s at {slow}", style="bold red")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
