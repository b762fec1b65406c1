"""The real stages of the bench, each on real services: RabbitMQ to Kafka, Kafka to Postgres, both at once, HTTP."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import asyncpg
import httpx
import msgspec

from embedded.stack import Stack
from embedded.unit import Role
from loadtests.bench_alertmanager import alertmanager
from loadtests.http_blast import ALERTMANAGER, OWN, BlastPlan, blasted
from loadtests.ledger import Law, verify
from loadtests.ledger_file import Entry, Outcome, entries_in
from loadtests.load import generate
from loadtests.plan import Endpoints, LoadPlan
from loadtests.processes import Usage, usage_by_role
from loadtests.report import per_message
from loadtests.sums import read_sums, wait_until

_LEAST_S: Final = 0.2
_WITHIN_S: Final = 900.0
_STALLED_S: Final = 60.0
_CARRIED: Final = (
    'incidents_intake_items_total{result="accepted",via="amqp"}',
    'incidents_intake_items_total{result="rejected",via="amqp"}',
)


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One stage's figures: alerts a second, CPU microseconds an alert by role, and how long an answer took."""

    name: str
    short: str = ""
    alerts: int
    per_second: float
    cpu_us: dict[str, float]
    p50_ms: float | None = None
    p99_ms: float | None = None
    wrong: int = 0


class BenchPlan(msgspec.Struct, frozen=True, kw_only=True):
    """`messages` are filled into RabbitMQ for each drain; HTTP is posted to for `seconds`.

    From the stage with everything at once on there are `workers`; before, one stands for itself.
    """

    messages: int = 100_000
    seconds: float = 10
    batch: int = 64
    workers: int = 1


class FlowBench:
    """Runs the stages one after the other on one system; each is checked for what was lost or doubled."""

    def __init__(self, stack: Stack, plan: BenchPlan, folder: Path) -> None:
        self._stack = stack
        self._plan = plan
        self._folder = folder
        self._entries: list[Entry] = []
        self._run = ""

    async def run(self) -> list[Stage]:
        """All stages, in an order in which each finds what the one before left."""
        stages = [await self._filled()]
        stages.append(await self._bridge_alone())
        stages.append(await self._worker_alone())
        for _ in range(self._plan.workers - 1):
            await self._stack.start_role(Role.WORKER)
        await self._filled()
        stages.append(await self._whole())
        await self._stack.stop_role(Role.BRIDGE)
        stages += await self._over_http()
        return stages

    @property
    def _endpoints(self) -> Endpoints:
        return msgspec.convert(self._stack.endpoints, Endpoints)

    async def _filled(self) -> Stage:
        """Messages into RabbitMQ, confirmed, while nobody takes them out."""
        run = f"b{secrets.token_hex(3)}"
        folder = self._folder / run
        folder.mkdir()
        count = self._plan.messages
        plan = LoadPlan(rate=50_000, seconds=count / 50_000, run=run, ledger=str(folder), amqp=self._endpoints.amqp)
        _say(f"filling {count:,} messages into RabbitMQ")
        before, began = self._used(), time.monotonic()
        connection = await asyncpg.connect(self._endpoints.postgres)
        try:
            await generate(plan, connection, await read_sums(connection))
        finally:
            await connection.close()
        seconds = time.monotonic() - began
        self._entries = await asyncio.to_thread(entries_in, folder)
        self._run = run
        wrong = sum(entry.outcome is not Outcome.CONFIRMED for entry in self._entries)
        return self._stage("fill", "RabbitMQ confirms, one alert a message", count, seconds, before, wrong=wrong)

    async def _bridge_alone(self) -> Stage:
        before = self._used()
        await self._stack.start_role(Role.BRIDGE)
        unit = next(unit for unit in self._stack.units if unit.role is Role.BRIDGE)

        async def carried() -> int:
            async with httpx.AsyncClient(trust_env=False) as client:
                text = (await client.get(f"{unit.address}/metrics")).text
            return int(sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(_CARRIED)))

        rate = await _timed(carried, len(self._entries), "RabbitMQ to Kafka")
        stage = self._stage("bridge", "RabbitMQ to Kafka", len(self._entries), 0.0, before, rate=rate)
        await self._stack.stop_role(Role.BRIDGE)
        return stage

    async def _worker_alone(self) -> Stage:
        before = self._used()
        rate = await self._settled(Role.WORKER, "Kafka to Postgres")
        return await self._judged("worker", "Kafka to committed", before, rate)

    async def _whole(self) -> Stage:
        before = self._used()
        rate = await self._settled(Role.BRIDGE, "RabbitMQ to Postgres")
        return await self._judged("drain", "RabbitMQ to committed, all of it at once", before, rate)

    async def _settled(self, role: Role, what: str) -> float:
        """Start what was missing, and wait until every event is committed."""
        connection = await asyncpg.connect(self._endpoints.postgres)
        try:
            began = (await read_sums(connection)).settled
            await self._stack.start_role(role)

            async def settled() -> int:
                return (await read_sums(connection)).settled - began

            return await _timed(settled, len({entry.event_id for entry in self._entries}), what)
        finally:
            await connection.close()

    async def _judged(self, short: str, name: str, before: dict[str, Usage], rate: float) -> Stage:
        stage = self._stage(short, name, len(self._entries), 0.0, before, rate=rate)
        connection = await asyncpg.connect(self._endpoints.postgres)
        try:
            _say("comparing the ledger with Postgres")
            found = await verify(connection, self._entries, self._run)
        finally:
            await connection.close()
        wrong = sum(found.of(law).violations for law in (Law.LOST, Law.DOUBLED, Law.INVENTED))
        return msgspec.structs.replace(stage, wrong=wrong)

    async def _over_http(self) -> list[Stage]:
        stages = []
        for path, name in ((OWN, "own"), (ALERTMANAGER, "v2")):
            plan = BlastPlan(
                url=self._endpoints.http or "", path=path, seconds=self._plan.seconds, batch=self._plan.batch,
                run=f"h{secrets.token_hex(3)}",
            )  # fmt: skip
            stages += await self._posted(plan, name)
        return [*stages, *await self._alertmanager_itself()]

    async def _alertmanager_itself(self) -> list[Stage]:
        plan = BlastPlan(url="", seconds=self._plan.seconds, batch=self._plan.batch)
        found = await alertmanager(plan, self._folder)
        if found is None:
            _say("Alertmanager is not installed: nothing to compare with")
            return []
        figures, cpu_us = found
        return [
            Stage(
                name=f"Alertmanager's own, {plan.batch} alerts a request: accepted, in memory",
                short="alertmanager",
                alerts=figures.accepted,
                per_second=figures.accepted / figures.seconds,
                cpu_us={"alertmanager": cpu_us, "generator": figures.cpu_us_per_alert},
                p50_ms=figures.answer_ms["p50"],
                p99_ms=figures.answer_ms["p99"],
            )
        ]

    async def _posted(self, plan: BlastPlan, name: str) -> list[Stage]:
        connection = await asyncpg.connect(self._endpoints.postgres)
        try:
            before, sums, began = self._used(), await read_sums(connection), time.monotonic()
            figures = await blasted(plan)

            async def settled() -> int:
                return (await read_sums(connection)).since(sums).received

            done = await wait_until(settled, figures.accepted, within=120, stalled=20, seen=lambda _: None)
            seen = await settled()
            folded = seen / (time.monotonic() - began)
        finally:
            await connection.close()
        wrong = abs(seen - figures.accepted) if not done or seen != figures.accepted else 0
        title = f"POST {plan.path}, {plan.batch} alerts a request"
        accepted = self._stage(
            f"http {name}", f"{title}: accepted", figures.accepted, figures.seconds, before, wrong=wrong
        )
        accepted = msgspec.structs.replace(
            accepted, p50_ms=figures.answer_ms["p50"], p99_ms=figures.answer_ms["p99"],
            cpu_us={**accepted.cpu_us, "generator": figures.cpu_us_per_alert},
        )  # fmt: skip
        return [
            accepted,
            Stage(name=f"{title}: committed", alerts=seen, per_second=folded, cpu_us={}, wrong=wrong),
        ]

    def _used(self) -> dict[str, Usage]:
        return usage_by_role(self._endpoints.processes)

    def _stage(
        self,
        short: str,
        name: str,
        alerts: int,
        seconds: float,
        before: dict[str, Usage],
        *,
        rate: float = 0.0,
        wrong: int = 0,
    ) -> Stage:
        cpu = {role: us for role, us in per_message(before, self._used(), alerts).items() if us >= 0.05}  # noqa: PLR2004
        return Stage(
            name=name,
            short=short,
            alerts=alerts,
            per_second=rate or alerts / max(seconds, _LEAST_S),
            cpu_us=cpu,
            wrong=wrong,
        )


async def _timed(ask: Callable[[], Awaitable[int]], wanted: int, what: str) -> float:
    """Wait for a count; its rate from its first move to its end, with a line each second."""
    began = time.monotonic()
    first: tuple[float, int] | None = None
    last = (0.0, 0)
    shown_at = 0.0

    def see(value: int) -> None:
        nonlocal first, last, shown_at
        now = time.monotonic()
        if value and first is None:
            first = (now, value)
        if value != last[1]:
            last = (now, value)
        if now - shown_at >= 1 or value >= wanted:
            shown_at = now
            _say(f"{what}: {value:,} of {wanted:,}")

    await wait_until(ask, wanted, within=_WITHIN_S, stalled=_STALLED_S, seen=see)
    if first is None or last[0] <= first[0]:
        return last[1] / (time.monotonic() - began)  # it was over between two looks
    return (last[1] - first[1]) / (last[0] - first[0])


def _say(text: str) -> None:
    print(text, flush=True)
