"""One run: a system, senders, a receiver, faults, a bounded drain, and the laws."""

import asyncio
import os
import random
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx
import msgspec

from embedded.process import Child, Command
from embedded.roles import RoleProcess
from embedded.unit import Role
from loadtests.ledger import verify_when_flushed
from loadtests.ledger_file import Entry, Outcome
from tests.chaos import laws, stories, tables
from tests.chaos.choice import chosen, disks_of, drawn
from tests.chaos.disks import Disks
from tests.chaos.faults import FAULTS, Hurt, Scene
from tests.chaos.figures import Backlog, Gap, Memory, answers_of, backlogs_of, gaps_of
from tests.chaos.hot import count_writes, hot_key
from tests.chaos.laws import Finding, found
from tests.chaos.ledger import known
from tests.chaos.receiver import notices_of
from tests.chaos.sender import SenderPlan
from tests.chaos.stories import Partition, Timing
from tests.chaos.system import ChaosStack

RULES: Final = """\
route:
  receiver: desk
  group_by: [alertname, service]
  group_wait: 200ms
  group_interval: 3s
  repeat_interval: 4h
receivers:
  - name: desk
    webhook_configs:
      - url: http://127.0.0.1:{port}/desk
"""
MEMORY_MIB: Final = 400
_READY_S: Final = 90.0
_POLL_S: Final = 0.5
_API_PAGES: Final = 5
# What is known of a run's events, and how many notices are not told yet.
_STILL: Final = """
    SELECT (SELECT count(DISTINCT id) FROM verdicts, unnest(event_ids) AS id WHERE starts_with(id, $1)) AS known,
        (SELECT count(*) FROM notification_tasks WHERE state IN ('due', 'sending') OR NOT told_group) AS open
"""

Say = Callable[[str], None]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One run. `faults` are names or families, empty for all; `limit` bounds how many are done."""

    seed: int
    seconds: float = 120
    rate: float = 300
    workers: int = 2
    partitions: int = 4
    kafka: str = "apache"
    faults: str = ""
    limit: int = 1000
    calm: float = 4.0
    down: float = 8.0
    timing: Timing = Timing(window=90, near=10, margin=60)
    hot: int = 0
    plant: str = ""
    settings: dict[str, str] = {}
    patience: float = 180
    """How long the drain may take, in seconds."""
    rebuild: bool = True


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """What a run came to. `stories` is its partition of alerts into incidents, `void` are those not told whole."""

    plan: Plan
    events: int
    hurts: tuple[Hurt, ...]
    gaps: tuple[Gap, ...]
    backlogs: tuple[Backlog, ...]
    findings: tuple[Finding, ...]
    not_shown: tuple[str, ...]
    memory: dict[str, float]
    drain_s: float
    stories: Partition
    void: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether every law holds."""
        return all(finding.holds for finding in self.findings)


class Run:
    """The parts of one run that live together."""

    def __init__(self, plan: Plan, folder: Path, say: Say) -> None:
        self.plan = plan
        self.folder = folder
        self.say = say
        self.disks = Disks()
        self.memory = Memory()
        self.hurts: list[Hurt] = []
        self.not_shown: list[str] = []
        self.written = stories.written(plan.seed, 12, plan.seconds, plan.timing) if plan.seconds >= 15 else []
        self.run = f"c{plan.seed}"

    async def account(self) -> Account:
        """Do all of it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        port = _free_port()
        rules = self.folder / "rules.yml"
        rules.write_text(RULES.format(port=port), encoding="utf-8")
        # What flaps may rest until the run is over: every end is to be told within it.
        overrides = {
            "config": rules, "partitions": self.plan.partitions, "reopen_window": int(self.plan.timing.window),
            "row_interval": 2, "flap_window": 0, **self.plan.settings,
        }  # fmt: skip
        data = self.folder / "data"
        data.mkdir(mode=0o755)
        names, _ = chosen(self.plan.faults, workers=1, durable_log=True, disks=True)
        stack = ChaosStack(
            data, dict(overrides), workers=self.plan.workers, kafka=self.plan.kafka,
            say=lambda text, *_: self._log(text), plant=self.plan.plant,
        )  # fmt: skip
        with self.disks.mounted(data, disks_of(names)):
            async with self._receiver(port) as receiver, stack:
                await stack.informed()
                return await self._live(stack, receiver)

    async def _live(self, stack: ChaosStack, receiver: Child) -> Account:
        workers = _pids(stack)
        if self.plan.hot:
            await self._with_connection(stack, count_writes)
        watching = asyncio.create_task(self.memory.watch(stack))
        sender = self._sender(stack)
        try:
            await self._faults(stack, receiver, sender)
            code = await asyncio.wait_for(sender.wait(), self.plan.seconds + 120)
            if code:
                said = (self.folder / "sender.log").read_text(encoding="utf-8")
                raise RuntimeError(f"the senders ended with {code}: {said[-2000:]}")
        finally:
            watching.cancel()
            await sender.kill()
        entries = await self._known()
        void = json_of(self.folder / "sender.log")["untold"]
        began = time.monotonic()
        drained = await self._drained(stack, entries)
        drain_s = time.monotonic() - began
        self.say(f"drained after {drain_s:.1f} s" if drained else f"NOT drained after {drain_s:.0f} s")
        findings = [found("drain", [] if drained else [f"not within {self.plan.patience:.0f} s"])]
        lived = workers == _pids(stack) and not any(hurt.name == "scale-workers" for hurt in self.hurts)
        findings += await self._judged(stack, entries, lived=lived, void=void)
        partition = await self._with_connection(stack, laws.stories_of)
        gaps = await self._with_connection(stack, lambda connection: gaps_of(connection, self.hurts))
        backlogs = await self._with_connection(stack, lambda connection: backlogs_of(connection, self.hurts))
        self.memory.look(stack)
        findings.append(found("memory", self.memory.above(MEMORY_MIB), f"at most {MEMORY_MIB} MiB a role process"))
        if self.plan.rebuild:
            findings.append(await self._rebuilt(stack))
        return Account(
            plan=self.plan, events=len(entries), hurts=tuple(self.hurts), gaps=tuple(gaps), backlogs=tuple(backlogs),
            findings=tuple(findings), not_shown=tuple(self.not_shown), memory=self.memory.peaks, drain_s=drain_s,
            stories=partition, void=tuple(void),
        )  # fmt: skip

    # Faults.

    async def _faults(self, stack: ChaosStack, receiver: Child, sender: Child) -> None:
        plan = self.plan
        names, self.not_shown = chosen(
            plan.faults, workers=plan.workers, durable_log=plan.kafka != "tansu", disks=self.disks.any
        )
        chance = random.Random(f"faults {plan.seed}")
        scene = Scene(stack=stack, chance=chance, disks=self.disks, receiver_pid=receiver.pid, down=plan.down)
        began = time.monotonic()
        await asyncio.sleep(min(5.0, plan.seconds / 4))
        waiting: list[str] = []
        while names and len(self.hurts) < plan.limit and sender.exit_code is None:
            left = plan.seconds - (time.monotonic() - began)
            if left < plan.calm + 2:
                return
            waiting = waiting or drawn(names, chance)
            await self._hurt(scene, waiting.pop(0))
            await asyncio.sleep(plan.calm * chance.uniform(0.5, 1.5))

    async def _hurt(self, scene: Scene, name: str) -> None:
        began_us = _now_us()
        what = await FAULTS[name](scene)
        mended_us = _now_us()
        ready = await scene.stack.ready(_READY_S)
        self.hurts.append(Hurt(name=name, what=what, began_us=began_us, mended_us=mended_us, ready_s=ready))
        after = f"all ready {ready:.1f} s later" if ready is not None else f"NOT ready after {_READY_S:.0f} s"
        self.say(f"fault {len(self.hurts):3}  {name}: {what}; {after}")

    # Senders and receiver, each a process of its own.

    def _sender(self, stack: ChaosStack) -> Child:
        amqp = stack.endpoints["amqp"]
        plan = SenderPlan(
            run=self.run, seed=self.plan.seed, rate=self.plan.rate, seconds=self.plan.seconds,
            folder=str(self.folder), http=stack.endpoints["http"], amqp=amqp["url"], exchange=amqp["exchange"],
            stories=tuple(self.written), window=self.plan.timing.window, hot=self.plan.hot,
        )  # fmt: skip
        file = self.folder / "sender.json"
        file.write_bytes(msgspec.json.encode(self._sent(plan)))
        return own_process("tests.chaos.sender", [str(file)], self.folder / "sender.log")

    def _sent(self, plan: SenderPlan) -> SenderPlan:
        """What the senders do."""
        return plan

    async def _known(self) -> list[Entry]:
        """What became known of each event."""
        return await asyncio.to_thread(known, self.folder / "senders.tsv")

    @asynccontextmanager
    async def _receiver(self, port: int) -> AsyncIterator[Child]:
        arguments = [str(port), str(self.folder / "receiver.jsonl"), str(self.plan.seed), "0.02"]
        child = own_process("tests.chaos.receiver", arguments, self.folder / "receiver.log")
        try:
            yield child
        finally:
            await child.kill()

    # Afterwards.

    async def _drained(self, stack: ChaosStack, entries: Sequence[Entry]) -> bool:
        wanted = len({entry.event_id for entry in entries if entry.outcome is Outcome.CONFIRMED})
        deadline = time.monotonic() + self.plan.patience
        calm = 0
        while time.monotonic() < deadline:
            try:
                rows = await stack.sql(
                    _STILL,
                    f"{self.run}-",
                )
                still = rows[0]["open"] or rows[0]["known"] < wanted or await stack.lag() != 0
                calm = 0 if still else calm + 1
            except (OSError, asyncpg.PostgresError, TimeoutError):
                calm = 0
            if calm >= 10:
                return True
            await asyncio.sleep(_POLL_S)
        return False

    async def _judged(
        self, stack: ChaosStack, entries: list[Entry], *, lived: bool, void: Sequence[str]
    ) -> list[Finding]:
        metrics = await self._metrics(stack) if lived else None
        said = await _said(stack)
        notices = notices_of(self.folder / "receiver.jsonl")

        async def judge(connection: Any) -> list[Finding]:
            verification = await verify_when_flushed(
                connection, entries, f"{self.run}-", within=min(40, self.plan.patience)
            )
            told = await connection.fetchval("SELECT coalesce(sum(events), 0)::bigint FROM verdicts")
            different = stories.differences(stories.told(self.written), await laws.stories_of(connection), void)
            found_so_far = [
                *laws.of_intake(verification),
                laws.of_incidents(await laws.counted(connection), said),
                *laws.of_notices(notices, await laws.tasks_of(connection), await laws.firing_now(connection)),
                found(laws.TOGETHER, different, f"{len(self.written)} stories, {len(void)} not told whole"),
                laws.of_ingest(answers_of(self.folder / "http.tsv"), self.hurts, self.plan.down),
                laws.of_counters(await laws.sums_of(connection), told, metrics),
            ]
            if self.plan.hot:
                found_so_far.append(await hot_key(connection, self.plan.hot, notices))
            return found_so_far

        findings: list[Finding] = await self._with_connection(stack, judge)
        return findings

    async def _rebuilt(self, stack: ChaosStack) -> Finding:
        """L9: stop what writes, look, forget, let a fresh worker rebuild, look again."""
        for role in (Role.BRIDGE, Role.GATEWAY, Role.DELIVERY):
            for unit in stack.of(role):
                await stack._keeper.let_go(unit)
                await unit.stop(10)
        for unit in stack.of(Role.WORKER):
            await stack._keeper.let_go(unit)
            await unit.stop(15)
        # A worker that was stopped may have left its last step to its successor: that comes first.
        await _loaded(stack)
        before = await tables.dump(stack.endpoints["redis"])
        await FAULTS["flush-redis"](
            Scene(stack=stack, chance=random.Random(0), disks=self.disks, receiver_pid=0, down=0)
        )
        await _loaded(stack)
        after = await tables.dump(stack.endpoints["redis"])
        entries = sum(map(len, before.values()))
        return found(laws.TABLES, tables.differences(before, after), f"{len(before)} tables, {entries:,} entries")

    async def _metrics(self, stack: ChaosStack) -> dict[str, int]:
        sums: dict[str, int] = {}
        for unit in stack.of(Role.WORKER):
            if isinstance(unit, RoleProcess):
                for verdict, value in (await stack.metric(unit, "incidents_events_total", "verdict")).items():
                    sums[verdict] = sums.get(verdict, 0) + value
        return sums

    async def _with_connection(self, stack: ChaosStack, ask: Callable[[Any], Any]) -> Any:
        connection = await asyncpg.connect(stack.endpoints["postgres"], command_timeout=300)
        try:
            return await ask(connection)
        finally:
            await connection.close()

    def _log(self, text: str) -> None:
        with (self.folder / "system.log").open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%H:%M:%S')} {text}\n")


async def _loaded(stack: ChaosStack) -> None:
    """Let a worker for which time stands still load everything, and replay what was left to be done."""
    worker = stack.worker_without_ticks()
    await worker.start_again()
    try:
        async with asyncio.timeout(60):
            calm = 0
            while calm < 5:
                await asyncio.sleep(0.2)
                calm = calm + 1 if await worker.lag() == 0 else 0
    finally:
        await worker.stop(15)


async def _said(stack: ChaosStack) -> list[dict[str, Any]]:
    """Incidents as the API lists them."""
    said: list[dict[str, Any]] = []
    after: str | None = None
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        for _ in range(_API_PAGES):
            parameters = {"limit": "200", **({"after": after} if after else {})}
            answer = await client.get(f"{stack.endpoints['http']}/api/v1/incidents", params=parameters)
            page = answer.raise_for_status().json()
            said += page["items"]
            after = page.get("next")
            if not after:
                break
    return said


def json_of(path: Path) -> dict[str, Any]:
    """The last line of a process's output."""
    lines = path.read_text(encoding="utf-8").strip().splitlines()
    answer: dict[str, Any] = msgspec.json.decode(lines[-1])
    return answer


def own_process(module: str, arguments: Sequence[str], log: Path) -> Child:
    """A module of ours, run by itself."""
    argv = [sys.executable, "-m", module, *arguments]
    return Child(Command(argv=argv, cwd=Path.cwd(), env=dict(os.environ), log=log))


def _pids(stack: ChaosStack) -> set[int]:
    return {unit.child.pid for unit in stack.units if unit.role is Role.WORKER and unit.child}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _now_us() -> int:
    return time.time_ns() // 1000
