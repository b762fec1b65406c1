"""What is done to a running system, one thing at a time: drawn by seed, done, undone.

Each fault is a coroutine that hurts, waits, and mends what does not mend
itself. A kill is mended by the supervisor; what is held down is released here.
"""

import asyncio
import os
import random
import shutil
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg
import msgspec
import redis.asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from embedded.account import hand_over, server_account
from embedded.errors import EmbeddedError
from embedded.redis import Redis
from embedded.roles import RoleProcess
from embedded.unit import Role, Unit
from tests.chaos.disks import Disks
from tests.chaos.system import ChaosStack, family, signal_to
from tests.chaos.zombie import outlived, stopped

_SERVICES: Final = (Role.RABBITMQ, Role.REDIS, Role.POSTGRES, Role.KAFKA)
_ROLES: Final = (Role.WORKER, Role.GATEWAY, Role.BRIDGE, Role.DELIVERY)
_REPEATED: Final = 0.5
_NEWEST: Final = 60
_SPARE: Final = 128 << 20
"""Bytes left on a disk that is nearly full: half of what RabbitMQ wants."""
_ALARM_S: Final = 60.0
_GARBAGE: Final = (b"\xc1 no record", b"", None)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What faults work on. `down` is how long something is kept down, in seconds."""

    stack: ChaosStack
    chance: random.Random
    disks: Disks
    receiver_pid: int
    down: float

    def one_of(self, role: Role) -> Unit:
        """A unit of a role, by chance."""
        return self.chance.choice(self.stack.of(role))


Doing = Callable[[Scene], Awaitable[str]]
"""Does a fault and mends it; what was done, in words."""


class Hurt(msgspec.Struct, frozen=True, kw_only=True):
    """One fault that was done. Times in microseconds since 1970; `mended_us` is when nothing was held any more."""

    name: str
    what: str
    began_us: int
    mended_us: int
    ready_s: float | None = None


def _kill(role: Role) -> Doing:
    async def do(scene: Scene) -> str:
        unit = scene.one_of(role)
        return f"kill -9 {unit.name} ({signal_to(unit, signal.SIGKILL)})"

    return do


def _stop(role: Role) -> Doing:
    async def do(scene: Scene) -> str:
        unit, seconds = scene.one_of(role), scene.chance.uniform(2, 4)
        if unit.child is None:
            return f"{unit.name} did not run"
        with stopped(unit):
            await asyncio.sleep(seconds)
        return f"kill -STOP {unit.name}, -CONT after {seconds:.1f} s"

    return do


async def _zombie(scene: Scene) -> str:
    unit = scene.one_of(Role.WORKER)
    if not isinstance(unit, RoleProcess):
        raise TypeError("a worker is no process of ours")
    return await outlived(scene.stack, unit)


def _restart(role: Role) -> Doing:
    async def do(scene: Scene) -> str:
        unit = scene.one_of(role)
        await scene.stack.restart(unit)
        return f"{unit.name} stopped and started"

    return do


async def _rolling(scene: Scene) -> str:
    for unit in scene.stack.of(Role.WORKER):
        await scene.stack.restart(unit)
        await scene.stack.ready(30)
    return "each worker stopped and started in turn"


async def _scale(scene: Scene) -> str:
    more = [await scene.stack.add_worker() for _ in range(2)]
    await scene.stack.ready(40)
    await asyncio.sleep(scene.chance.uniform(1, 3))
    for unit in more:
        await scene.stack.drop_worker(unit)
    return "two workers more, and fewer again"


def _down(*roles: Role) -> Doing:
    async def do(scene: Scene) -> str:
        units = [scene.one_of(role) for role in roles]
        for unit in units:
            await scene.stack.hold(unit)
        await asyncio.sleep(scene.down)
        await asyncio.gather(*(_released(scene.stack, unit) for unit in units))
        return f"{' and '.join(unit.name for unit in units)} down for {scene.down:.0f} s"

    return do


async def _released(stack: ChaosStack, unit: Unit) -> None:
    for _ in range(3):
        try:
            await stack.release(unit)
        except EmbeddedError:
            continue
        return
    raise EmbeddedError(f"{unit.name} does not start again")


async def _flush_redis(scene: Scene) -> str:
    client: redis.asyncio.Redis = redis.asyncio.Redis.from_url(scene.stack.endpoints["redis"])
    try:
        await client.flushall()
    finally:
        await client.aclose()
    return "FLUSHALL"


async def _lose_redis(scene: Scene) -> str:
    unit = _redis(scene)
    await scene.stack.hold(unit)
    unit.forget()
    await _released(scene.stack, unit)
    return "redis killed, its data deleted"


async def _old_redis(scene: Scene) -> str:
    unit, age = _redis(scene), scene.chance.uniform(2, 5)
    kept = scene.stack.data_dir / "redis-old"
    shutil.rmtree(kept, ignore_errors=True)
    await asyncio.to_thread(shutil.copytree, unit.home, kept)
    await asyncio.sleep(age)
    await scene.stack.hold(unit)
    unit.forget()
    await asyncio.to_thread(shutil.copytree, kept, unit.home, dirs_exist_ok=True)
    hand_over(unit.home, server_account())
    await _released(scene.stack, unit)
    return f"redis killed, a dump {age:.1f} s old put in its place"


def _redis(scene: Scene) -> Redis:
    unit = scene.one_of(Role.REDIS)
    if not isinstance(unit, Redis):
        raise TypeError("redis is not embedded")
    return unit


async def _end_sessions(scene: Scene) -> str:
    connection = await asyncpg.connect(scene.stack.endpoints["postgres"])
    try:
        ended = await connection.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND application_name LIKE 'incidents%'"
        )
    finally:
        await connection.close()
    return f"{ended} sessions of Postgres ended"


def _cut(role: Role) -> Doing:
    async def do(scene: Scene) -> str:
        unit = scene.one_of(role)
        port = unit.address.rpartition(":")[2]
        code = await _run("ss", "-K", "dst", "127.0.0.1", "dport", "=", f":{port}")
        return f"every connection to {unit.name} cut (ss -K, exit code {code})"

    return do


def _fill(role: Role) -> Doing:
    async def do(scene: Scene) -> str:
        async with scene.disks.full(role):
            await asyncio.sleep(scene.down)
        if role is Role.RABBITMQ:  # whose quorum queues refuse for a minute after that, unless it is started again
            await scene.stack.restart(scene.one_of(role))
        return f"the disk of {role} full for {scene.down:.0f} s"

    return do


async def _alarm_rabbitmq(scene: Scene) -> str:
    """A RabbitMQ with a limit blocks publishers while it still has room for what it holds."""
    log = scene.one_of(Role.RABBITMQ).log
    async with scene.disks.full(Role.RABBITMQ, spare=_SPARE):
        after = await _until_alarm(log, raised=True)
        await asyncio.sleep(scene.down)
    await _until_alarm(log, raised=False)
    return f"the disk of rabbitmq nearly full: publishers blocked after {after:.1f} s, for {scene.down:.0f} s"


async def _until_alarm(log: Path, *, raised: bool) -> float:
    """Seconds until RabbitMQ says so of its disk: it looks every ten."""
    began = time.monotonic()
    while _has_alarm(log) is not raised:
        if time.monotonic() - began > _ALARM_S:
            raise EmbeddedError(f"RabbitMQ says nothing of its disk: {log}")
        await asyncio.sleep(0.2)
    return time.monotonic() - began


def _has_alarm(log: Path) -> bool:
    said = log.read_text(encoding="utf-8", errors="replace")
    return said.count("disk resource limit alarm set on node") > said.count("disk resource limit alarm cleared on node")


async def _failing_fsync(scene: Scene) -> str:
    unit = scene.one_of(Role.POSTGRES)
    if unit.child is None:
        return "postgres did not run"
    pids = [word for pid in family(unit.child.pid)[1:] for word in ("-p", str(pid))]
    calls = "fsync,fdatasync"
    tracer = await asyncio.create_subprocess_exec(
        "strace", "-f", "-qq", "-o", "/dev/null", *pids, "-e", f"trace={calls}", "-e", f"inject={calls}:error=EIO",
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    await asyncio.sleep(2)
    if tracer.returncode is None:
        tracer.terminate()
    await tracer.wait()
    return "fsync of Postgres failed with EIO for 2 s"


async def _stop_receiver(scene: Scene) -> str:
    seconds = scene.chance.uniform(5, 8)
    os.kill(scene.receiver_pid, signal.SIGSTOP)
    await asyncio.sleep(seconds)
    os.kill(scene.receiver_pid, signal.SIGCONT)
    return f"the receiver hung for {seconds:.1f} s"


async def _poison(scene: Scene) -> str:
    producer = AIOKafkaProducer(bootstrap_servers=scene.stack.endpoints["kafka"])
    await producer.start()
    try:
        for topic in scene.stack.topics:
            for partition in sorted(await producer.partitions_for(topic)):
                for data in _GARBAGE:
                    await producer.send_and_wait(topic, data, key=b"poison", partition=partition)
    finally:
        await producer.stop()
    return "bytes that are no record, on every partition"


async def _repeat(scene: Scene) -> str:
    """What an at-least-once producer may do: some of the newest records of both topics once more."""
    kafka, sent = scene.stack.endpoints["kafka"], 0
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, enable_auto_commit=False)
    await producer.start()
    await consumer.start()
    try:
        for topic in scene.stack.topics:
            places = [TopicPartition(topic, number) for number in sorted(await producer.partitions_for(topic))]
            consumer.assign(places)
            ends = {place.partition: end for place, end in (await consumer.end_offsets(places)).items()}
            for place in places:
                consumer.seek(place, max(0, ends[place.partition] - _NEWEST))
            while left := await consumer.getmany(timeout_ms=300):
                newest = [record for records in left.values() for record in records]
                for record in (one for one in newest if one.offset < ends[one.partition]):
                    if scene.chance.random() < _REPEATED:
                        await producer.send(topic, record.value, key=record.key, partition=record.partition)
                        sent += 1
                if all(one.offset >= ends[one.partition] for one in newest):
                    break
            await producer.flush()
    finally:
        await consumer.stop()
        await producer.stop()
    return f"{sent} records came again"


async def _run(*command: str) -> int:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    return await process.wait()


FAULTS: Final[dict[str, Doing]] = {
    **{f"kill-{role}": _kill(role) for role in (*_ROLES, *_SERVICES)},
    **{f"stop-{role}": _stop(role) for role in (*_ROLES, *_SERVICES)},
    **{f"restart-{role}": _restart(role) for role in (*_ROLES, *_SERVICES)},
    **{f"down-{role}": _down(role) for role in _SERVICES},
    **{f"cut-{role}": _cut(role) for role in _SERVICES},
    **{f"full-{role}": _fill(role) for role in (Role.REDIS, Role.POSTGRES, Role.KAFKA)},
    "full-rabbitmq": _alarm_rabbitmq,
    "brimful-rabbitmq": _fill(Role.RABBITMQ),
    "down-brokers": _down(Role.KAFKA, Role.RABBITMQ),
    "zombie-worker": _zombie,
    "rolling-workers": _rolling,
    "scale-workers": _scale,
    "flush-redis": _flush_redis,
    "lose-redis": _lose_redis,
    "old-redis": _old_redis,
    "end-sessions": _end_sessions,
    "fsync-postgres": _failing_fsync,
    "stop-receiver": _stop_receiver,
    "poison-records": _poison,
    "repeat-records": _repeat,
}
"""By name; the first word is the family."""
