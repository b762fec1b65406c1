"""`incidents load`: a measured load on a real system, judged by an account of our own.

Locust runs in a process of its own; this one shows progress, waits for the
drain, and compares the producers' ledger with Postgres.
"""

import argparse
import asyncio
import contextlib
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg
import msgspec

from loadtests.latency import latencies, send_times_differ
from loadtests.ledger import verify_when_flushed
from loadtests.ledger_file import Entry, entries_in
from loadtests.notices import Desk, desk
from loadtests.outside import Honesty, OutsideReader
from loadtests.plan import STATUS_MARK, VARIABLE, Endpoints, LoadPlan, Receivers, Shape, Via
from loadtests.processes import kafka_flavour, usage_by_role
from loadtests.readiness import ReadinessReader
from loadtests.report import (
    GeneratorFigures,
    LoadFigures,
    console,
    lost_and_doubled,
    per_message,
    print_load,
    write_json,
)
from loadtests.rolling import Rolling
from loadtests.sums import Connection, Sums, database_now, read_sums, wait_until
from loadtests.target import NoSystemError, own_system, running_system
from streams.settings import Settings

_DRAIN_S: Final = 120.0
_STALLED_S: Final = 20.0
_FILE: Final = Path(__file__).with_name("locustfile.py")


class GeneratorError(RuntimeError):
    """Raised when the generator ended without its last figures; its own words stand above."""


class _Status(msgspec.Struct, frozen=True):
    """One status line of the generator."""

    finished: bool
    ways: tuple[GeneratorFigures, ...]


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """What was noted while the load ran."""

    ways: tuple[GeneratorFigures, ...]
    honesty: Honesty
    cpu_us: dict[str, float]
    rss_mib: dict[str, float]
    ready_ms: dict[str, dict[str, float]]
    drain_s: float
    drained: bool


async def load(
    plan: LoadPlan, endpoints: Endpoints, *, report: str = "", told: Desk | None = None, rolling: Rolling | None = None
) -> int:
    """Run the plan against a system; 0 only if nothing was lost, doubled or otherwise wrong.

    With `told`, somebody must hear of each incident in time as well; with `rolling`, every role is restarted
    meanwhile. The run gets an id of its own, the plan's `run` and `ledger` are replaced.
    """
    if endpoints.amqp is None and plan.via is not Via.HTTP:
        print("this system has no RabbitMQ: alerts go over HTTP instead", flush=True)
        plan = msgspec.structs.replace(plan, via=Via.HTTP)
    with tempfile.TemporaryDirectory(prefix="incidents-load-") as folder:
        plan = msgspec.structs.replace(
            plan, run=f"l{secrets.token_hex(3)}", ledger=folder, http=endpoints.http, amqp=endpoints.amqp
        )
        connection = await asyncpg.connect(endpoints.postgres)
        try:
            began_at = await database_now(connection)
            measured = await _measure(plan, endpoints, connection, rolling)
            first = await told.first_notices(connection, began_at) if told is not None else None
            entries = await asyncio.to_thread(entries_in, Path(folder))
            figures = await _judge(plan, endpoints, connection, measured, entries)
            rolled = await rolling.figures(connection, entries) if rolling is not None else None
            well = all(one is None or one.hold for one in (first, rolled))
            figures = msgspec.structs.replace(
                figures, first_notices=first, rolling=rolled, passed=figures.passed and well
            )
        finally:
            await connection.close()
    if report:
        await asyncio.to_thread(write_json, figures, report)
    print_load(console(), figures)
    return 0 if figures.passed else 1


async def _measure(plan: LoadPlan, endpoints: Endpoints, connection: Connection, rolling: Rolling | None) -> _Measured:
    before = await read_sums(connection)
    used = usage_by_role(endpoints.processes)
    looking = await asyncpg.connect(endpoints.postgres)
    reader = OutsideReader(looking)
    outside = asyncio.create_task(reader.run(await database_now(connection)))
    restarting = asyncio.create_task(rolling.run()) if rolling is not None else None
    # A role that is restarted answers nothing meanwhile, and then elsewhere.
    asker = ReadinessReader(endpoints.processes if rolling is None else ())
    asking = asyncio.create_task(asker.run())
    try:
        ways = await generate(plan, connection, before)
        began = time.monotonic()
        confirmed = sum(way.confirmed for way in ways)
        drained = await _drained(connection, before, confirmed)
        drain_s = time.monotonic() - began
    finally:
        if rolling is not None and restarting is not None:
            rolling.over()
            await restarting
        reader.stop()
        asker.stop()
        honesty, ready_ms = await outside, await asking
        await looking.close()
    after = usage_by_role(endpoints.processes)
    return _Measured(
        ways=ways,
        honesty=honesty,
        # A process that was restarted has taken its account with it.
        cpu_us=per_message(used, after, sum(way.sent for way in ways)) if rolling is None else {},
        rss_mib={role: usage.rss_mib for role, usage in after.items()},
        ready_ms=ready_ms,
        drain_s=drain_s,
        drained=drained,
    )


async def generate(plan: LoadPlan, connection: Connection, before: Sums) -> tuple[GeneratorFigures, ...]:
    """Run the generator in a process of its own, with a line each second; its figures of each way.

    Raises:
        GeneratorError: it ended early.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "locust", "-f", str(_FILE), "--headless", "--only-summary", "--skip-log-setup",
        "--stop-timeout", "30",
        env={**os.environ, VARIABLE: msgspec.json.encode(plan).decode()},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        status = await _followed(process, plan, connection, before)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
    if status is None or not status.finished:
        raise GeneratorError(f"the load generator ended early with exit code {process.returncode}")
    return status.ways


async def _followed(
    process: asyncio.subprocess.Process, plan: LoadPlan, connection: Connection, before: Sums
) -> _Status | None:
    if process.stdout is None:
        return None
    status: _Status | None = None
    began, mark = 0.0, STATUS_MARK.encode()
    sent_before = 0
    async for line in process.stdout:
        if not line.startswith(mark):
            continue
        status = msgspec.json.decode(line[len(mark) :], type=_Status)
        if not began:
            began = time.monotonic()
            print("the generator is ready", flush=True)
            continue
        sums = (await read_sums(connection)).since(before)
        sent, confirmed = sum(way.sent for way in status.ways), sum(way.confirmed for way in status.ways)
        late = max((way.late_worst_ms for way in status.ways), default=0.0)
        print(
            f"{time.monotonic() - began:6.1f} s of {plan.seconds:g}  sent {sent:,} (+{sent - sent_before:,})  "
            f"confirmed {confirmed:,}  in Postgres {sums.settled:,}  generator late by {late:.1f} ms at worst",
            flush=True,
        )
        sent_before = sent
        if status.finished:
            break
    return status


async def _drained(connection: Connection, before: Sums, confirmed: int) -> bool:
    async def settled() -> int:
        return (await read_sums(connection)).since(before).settled

    next_at = 0.0

    def show(value: int) -> None:
        nonlocal next_at
        if time.monotonic() >= next_at or value >= confirmed:
            print(f"waiting for the drain: {value:,} of {confirmed:,} in Postgres", flush=True)
            next_at = time.monotonic() + 1

    return await wait_until(settled, confirmed, within=_DRAIN_S, stalled=_STALLED_S, seen=show)


async def _judge(
    plan: LoadPlan, endpoints: Endpoints, connection: Connection, measured: _Measured, entries: list[Entry]
) -> LoadFigures:
    verification = await verify_when_flushed(connection, entries, plan.run)
    took = await latencies(connection, plan.warm_after)
    differ = await send_times_differ(connection)
    lost, doubled = lost_and_doubled(verification)
    return LoadFigures(
        run=plan.run,
        via=plan.via,
        shape=plan.shape,
        batch=plan.batch,
        rate_wanted=plan.rate,
        seconds=plan.seconds,
        warmup=plan.warm_after,
        kafka=kafka_flavour(endpoints.processes),
        sent=sum(way.sent for way in measured.ways),
        confirmed=verification.confirmed,
        refused=sum(way.refused for way in measured.ways),
        unknown=verification.unknown,
        in_postgres=verification.in_postgres,
        lost=lost,
        doubled=doubled,
        rate=_rate(entries),
        drain_s=measured.drain_s,
        drained=measured.drained,
        send_times_differ=differ,
        latency_ms=took,
        honesty=measured.honesty,
        laws=verification.findings,
        generator=measured.ways,
        cpu_us_per_message=measured.cpu_us,
        rss_mib=measured.rss_mib,
        ready_ms=measured.ready_ms,
        passed=verification.holds and measured.drained and differ == 0 and verification.confirmed > 0,
    )


def _rate(entries: list[Entry]) -> float:
    if not entries:
        return 0.0
    first = min(entry.sent_us for entry in entries)
    last = max(entry.told_us for entry in entries)
    return len(entries) / max(1, last - first) * 1e6


async def load_somewhere(plan: LoadPlan, settings: Settings, *, named: str | None = None, report: str = "") -> int:
    """Run the plan on the running system (`named`: its endpoints.json), or on one started for it."""
    try:
        async with contextlib.AsyncExitStack() as stack:
            told = None
            if plan.receivers is not Receivers.NONE:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="incidents-sink-"))
                told = await stack.enter_async_context(desk(plan.receivers, Path(folder)))
            rules = told.rules if told is not None else None
            if plan.rolling:
                own = await stack.enter_async_context(own_system(settings, rules))
                endpoints = msgspec.convert(own.endpoints, Endpoints)
                return await load(plan, endpoints, report=report, told=told, rolling=Rolling(own))
            endpoints = await stack.enter_async_context(running_system(settings, named, rules))
            return await load(plan, endpoints, report=report, told=told)
    except (NoSystemError, GeneratorError) as error:
        print(error, file=sys.stderr)
        return 2


def plan_of(chosen: Mapping[str, Any]) -> LoadPlan:
    """The standard plan with what was chosen."""
    return msgspec.convert(dict(chosen), LoadPlan)


def main(arguments: list[str] | None = None) -> int:
    """Read the command line; every option has a variable of the same name in `make load`."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.load", description="Load a system and judge it.")
    standard = LoadPlan()
    parser.add_argument("--rate", type=float, default=standard.rate, help="alerts a second (%(default)s)")
    parser.add_argument("--seconds", type=float, default=standard.seconds, help="length of the run (%(default)s)")
    parser.add_argument(
        "--warmup", type=float, default=standard.warmup, help="first seconds whose latencies do not count (%(default)s)"
    )
    parser.add_argument("--via", choices=list(Via), default=standard.via, help="amqp, http or both")
    parser.add_argument("--batch", type=int, default=standard.batch, help="alerts a message or request (%(default)s)")
    parser.add_argument("--shape", choices=list(Shape), default=standard.shape, help="spread of arrivals")
    parser.add_argument("--receivers", choices=list(Receivers), default=standard.receivers, help="who is told")
    parser.add_argument("--rolling", action="store_true", help="restart every role meanwhile, on a system of its own")
    parser.add_argument("--seed", type=int, default=standard.seed, help="seed of mix and arrivals (%(default)s)")
    parser.add_argument(
        "--endpoints", default="", help="endpoints.json of a running system (default: the data folder's)"
    )
    parser.add_argument("--report", default="", help="write the figures to this file as JSON")
    given = parser.parse_args(arguments)
    plan = plan_of({name: value for name, value in vars(given).items() if name in LoadPlan.__struct_fields__})
    settings = Settings.from_environ(os.environ)
    return asyncio.run(load_somewhere(plan, settings, named=given.endpoints or None, report=given.report))


if __name__ == "__main__":
    raise SystemExit(main())
