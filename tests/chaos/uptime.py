"""`make uptime`: a fixed load, one single fault every 30 s, and how many ingest calls were answered all the while.

Variables: SECONDS (1800), RATE (200 events/s, half of them HTTP calls), EVERY (30 s), SEED, FAULTS by name or
family, WORKERS, KAFKA, DOWN of what is held down, REPORT=FILE, KEEP=1. Exit code 0 only if the share of 2xx outside
the gateway's own faults is 99.9 % at least and every law holds.
"""

import argparse
import asyncio
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console

from embedded.process import Child
from loadtests.ledger_file import Entry
from loadtests.pace import quantiles
from loadtests.report import table_of
from loadtests.rolling import longest_pause
from tests.chaos import report
from tests.chaos.caller import Call, CallerPlan, calls_of
from tests.chaos.choice import chosen, drawn
from tests.chaos.faults import FAULTS, Hurt, Scene
from tests.chaos.ledger import known
from tests.chaos.run import Account, Plan, Run, Say, own_process
from tests.chaos.sender import SenderPlan
from tests.chaos.stories import Timing
from tests.chaos.system import ChaosStack

GOAL: Final = 0.999
_WIDTH: Final = 132
_LAST_S: Final = 20.0
# Two services at once are no single fault; a full disk, an fsync that fails and more workers are for `make chaos`.
_NOT_SINGLE: Final = ("down-brokers", "full-", "fsync-", "scale-")


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """The calls of one stretch of time. `gap_s` is the longest time without a good answer that touches it."""

    name: str
    calls: int
    good: int
    gap_s: float
    ms: dict[str, float] = {}
    without: dict[int, int] = {}
    """How often which other status was answered; 0 is no answer."""

    @property
    def share(self) -> float:
        """The part of the calls that was answered 2xx."""
        return self.good / self.calls if self.calls else 1.0


class Uptime(msgspec.Struct, frozen=True, kw_only=True):
    """What the callers saw: after each fault up to the next, in all, and without the gateway's own faults."""

    faults: tuple[Stretch, ...]
    in_all: Stretch
    others: Stretch

    @property
    def hold(self) -> bool:
        """Whether the goal is met."""
        return self.others.calls > 0 and self.others.share >= GOAL


def stretch(name: str, calls: Sequence[Call], since_us: int, until_us: int) -> Stretch:
    """The calls that were due from `since_us` until before `until_us`; `calls` are all, in order."""
    some = [call for call in calls if since_us <= call.due_us < until_us]
    good = [call for call in some if call.good]
    others: dict[int, int] = {}
    for call in some:
        if not call.good:
            others[call.status] = others.get(call.status, 0) + 1
    return Stretch(
        name=name, calls=len(some), good=len(good), without=others,
        gap_s=longest_pause(sorted(call.told_us for call in calls if call.good), since_us, until_us),
        ms=quantiles(call.told_us - call.due_us for call in good) if good else {},
    )  # fmt: skip


def uptime(calls: Sequence[Call], hurts: Sequence[Hurt]) -> Uptime:
    """The account of a run; a fault of the gateway lasts until everything was ready again."""
    end = calls[-1].due_us + 1 if calls else 0
    ends = [*(hurt.began_us for hurt in hurts[1:]), end]
    own = [(hurt.began_us, _over(hurt)) for hurt in hurts if hurt.name.endswith("-gateway")]
    others = [call for call in calls if not any(since <= call.told_us and call.due_us <= until for since, until in own)]
    return Uptime(
        faults=tuple(stretch(hurt.name, calls, hurt.began_us, until) for hurt, until in zip(hurts, ends, strict=False)),
        in_all=stretch("in all", calls, 0, end),
        others=msgspec.structs.replace(
            stretch("without the gateway's own", others, 0, end), gap_s=_longest_between(calls, own)
        ),
    )


def _longest_between(calls: Sequence[Call], own: Sequence[tuple[int, int]]) -> float:
    """The longest time without a good answer that lies outside of the stretches given."""
    times = sorted(call.told_us for call in calls if call.good)
    begins = [0, *(until for _, until in own)]
    ends = [*(since for since, _ in own), times[-1] if times else 0]
    parts = ([at for at in times if since <= at <= until] for since, until in zip(begins, ends, strict=True))
    return max(longest_pause(part, 0, ends[-1]) for part in parts)


def _over(hurt: Hurt) -> int:
    return hurt.mended_us + int((hurt.ready_s or 0) * 1e6)


class UptimeRun(Run):
    """A chaos run whose faults keep a beat, with callers beside the senders."""

    def __init__(self, plan: Plan, folder: Path, say: Say, every: float) -> None:
        super().__init__(plan, folder, say)
        self._every = every

    @property
    def calls(self) -> list[Call]:
        """What the callers wrote down."""
        return calls_of(self.folder / "calls.jsonl")

    def _sender(self, stack: ChaosStack) -> Child:
        plan = CallerPlan(
            run=f"{self.run}-h", seed=self.plan.seed + 1, rate=self.plan.rate / 2, seconds=self.plan.seconds,
            folder=str(self.folder), http=stack.endpoints["http"],
        )  # fmt: skip
        file = self.folder / "caller.json"
        file.write_bytes(msgspec.json.encode(plan))
        # Its calls are over before the senders are, whose stories are told to their end.
        self._caller = own_process("tests.chaos.caller", [str(file)], self.folder / "caller.log")
        return super()._sender(stack)

    def _sent(self, plan: SenderPlan) -> SenderPlan:
        return msgspec.structs.replace(plan, rate=plan.rate / 2, http_share=0)

    async def _known(self) -> list[Entry]:
        if code := await asyncio.wait_for(self._caller.wait(), 30):
            said = (self.folder / "caller.log").read_text(encoding="utf-8")
            raise RuntimeError(f"the callers ended with {code}: {said[-2000:]}")
        return [*await super()._known(), *await asyncio.to_thread(known, self.folder / "callers.tsv")]

    async def _faults(self, stack: ChaosStack, receiver: Child, sender: Child) -> None:
        plan = self.plan
        names, self.not_shown = chosen(
            plan.faults or _single(), workers=plan.workers, durable_log=plan.kafka != "tansu", disks=False
        )
        chance = random.Random(f"faults {plan.seed}")
        scene = Scene(stack=stack, chance=chance, disks=self.disks, receiver_pid=receiver.pid, down=plan.down)
        began = time.monotonic()
        waiting: list[str] = []
        at = self._every
        while names and at + _LAST_S <= plan.seconds and sender.exit_code is None:
            await asyncio.sleep(max(0, at - (time.monotonic() - began)))
            waiting = waiting or drawn(names, chance)
            await self._hurt(scene, waiting.pop(0))
            at = max(at + self._every, time.monotonic() - began)


def _single() -> str:
    return " ".join(name for name in FAULTS if not name.startswith(_NOT_SINGLE))


def show(found: Uptime, hurts: Sequence[Hurt]) -> None:
    """Print a line a fault, and the sums."""
    console = Console(width=None if Console().is_terminal else _WIDTH, highlight=False)
    rows = [*zip(found.faults, hurts, strict=True), (found.in_all, None), (found.others, None)]
    console.print(table_of("ingest calls, after each fault up to the next", (
        "", "calls", "2xx %", "longest gap s", "p50 ms", "p99", "worst", "ready after s", "not 2xx",
    ), (
        (one.name, one.calls, f"{100 * one.share:.3f}", one.gap_s, one.ms.get("p50", 0), one.ms.get("p99", 0),
         one.ms.get("max", 0), _ready(hurt), _without(one))
        for one, hurt in rows
    )))  # fmt: skip
    verdict = "met" if found.hold else "MISSED"
    console.print(f"goal of {100 * GOAL:g} % answered 2xx outside of the gateway's own faults: {verdict}")


def _ready(hurt: Hurt | None) -> str:
    if hurt is None:
        return ""
    return "not" if hurt.ready_s is None else f"{hurt.ready_s:.1f}"


def _without(one: Stretch) -> str:
    return ", ".join(f"{times} x {status or 'no answer'}" for status, times in sorted(one.without.items()))


def _plan() -> Plan:
    said = os.environ.get
    return Plan(
        seed=int(said("SEED") or int.from_bytes(os.urandom(3), "big")),
        seconds=float(said("SECONDS") or 1800),
        rate=float(said("RATE") or 200),
        workers=int(said("WORKERS") or 2),
        kafka=said("KAFKA") or "apache",
        faults=said("FAULTS") or "",
        down=float(said("DOWN") or 8),
        # Longer than a broker is away and its backlog lasts: what went the other way meanwhile may be overtaken.
        timing=Timing(window=90, dwell=30, near=20, margin=60),
    )


def _folder(seed: int) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=f"uptime-{seed}-"))
    folder.chmod(0o755)  # the servers run as another user
    return folder


async def _main() -> int:
    began = time.monotonic()

    def say(text: str) -> None:
        sys.stdout.write(f"{time.monotonic() - began:7.1f} s  {text}\n")
        sys.stdout.flush()

    plan, every = _plan(), float(os.environ.get("EVERY") or 30)
    folder = _folder(plan.seed)
    say(f"seed {plan.seed}: {plan.rate:g} events/s for {plan.seconds:g} s, a fault every {every:g} s")
    run = UptimeRun(plan, folder, say, every)
    try:
        account = await run.account()
    except BaseException:
        say(f"what there is lies in {folder}")
        raise
    found = uptime(run.calls, account.hurts)
    show(found, account.hurts)
    report.show(account)
    if name := os.environ.get("REPORT"):
        _write(found, account, Path(name))
    well = found.hold and account.holds
    if well and not os.environ.get("KEEP"):
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    else:
        say(f"ledgers, data and logs lie in {folder}")
    return 0 if well else 1


def _write(found: Uptime, account: Account, path: Path) -> None:
    plain = {
        "uptime": found, "hurts": account.hurts, "laws": account.findings, "memory_mib": account.memory,
        "gaps": account.gaps, "plan": account.plan, "holds": found.hold and account.holds,
    }  # fmt: skip
    path.write_bytes(msgspec.json.format(msgspec.json.encode(plain), indent=2))


if __name__ == "__main__":
    argparse.ArgumentParser(
        prog="make uptime", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what is mounted is let go on the way out
    sys.exit(asyncio.run(_main()))
