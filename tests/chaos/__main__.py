"""`make chaos`: long runs of everything that can go wrong, by seed. Exit code 0 only if every law holds.

Variables: SECONDS and RATE of a run; SEED, or SEEDS of several in a row; FAULTS
by name or family; LIMIT on how many; WORKERS; CALM between two faults and DOWN
of what is held down, in seconds; HOT copies of one alert; BASELINE=1 runs each
seed before with one worker and no fault and compares; PLANTED=1 shows that the
five planted bugs are found; KEEP=1 keeps the folder; REPORT=FILE writes JSON.
"""

import argparse
import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from tests.chaos import report, stories
from tests.chaos.laws import TOGETHER, found
from tests.chaos.planted_runs import every_plant
from tests.chaos.run import Account, Plan, Run
from tests.chaos.stories import Timing


def _said(name: str, default: str) -> str:
    return os.environ.get(name) or default


def _plan(seed: int) -> Plan:
    seconds = float(_said("SECONDS", "240"))
    # Short runs have no room for the minute that separates clear cases in long ones.
    timing = Timing(window=90, near=10, margin=60) if seconds >= 200 else Timing(window=25, near=2, margin=20)
    return Plan(
        seed=seed,
        seconds=seconds,
        rate=float(_said("RATE", "300")),
        workers=int(_said("WORKERS", "3")),
        kafka=_said("KAFKA", "apache"),
        faults=_said("FAULTS", ""),
        limit=int(_said("LIMIT", "1000")),
        calm=float(_said("CALM", "4")),
        down=float(_said("DOWN", "8")),
        hot=int(_said("HOT", "0")),
        timing=timing,
    )


def _seeds() -> list[int]:
    named = _said("SEEDS", _said("SEED", ""))
    if named:
        return [int(word) for word in named.replace(",", " ").split()]
    return [int.from_bytes(os.urandom(3), "big")]


def _folder(seed: int) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=f"chaos-{seed}-"))
    folder.chmod(0o755)  # the servers run as another user
    return folder


async def _account(plan: Plan, say: Callable[[str], None]) -> Account:
    folder = _folder(plan.seed)
    try:
        account = await Run(plan, folder, say).account()
    except BaseException:
        say(f"what there is lies in {folder}")
        raise
    if account.holds and not os.environ.get("KEEP"):
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    else:
        say(f"ledgers, data and logs lie in {folder}")
    return account


async def _compared(plan: Plan, say: Callable[[str], None]) -> Account:
    """The run, and the same input with one worker and without any fault before it where that is wanted."""
    if not os.environ.get("BASELINE"):
        return await _account(plan, say)
    say("first the same input with one worker and no fault")
    calm = msgspec.structs.replace(plan, workers=1, limit=0, hot=0)
    plain = await _account(calm, say)
    account = await _account(plan, say)
    different = stories.differences(plain.stories, account.stories, (*plain.void, *account.void))
    note = f"{len(plain.stories)} stories, 1 worker and {plan.workers}"
    both = found(f"{TOGETHER} as without faults", different, note)
    return msgspec.structs.replace(account, findings=(*plain.findings, *account.findings, both))


async def _main() -> int:
    began = time.monotonic()

    def say(text: str) -> None:
        sys.stdout.write(f"{time.monotonic() - began:7.1f} s  {text}\n")
        sys.stdout.flush()

    if os.environ.get("PLANTED"):
        return 0 if await every_plant(say) else 1
    accounts = []
    for seed in _seeds():
        plan = _plan(seed)
        say(f"seed {seed}: {plan.rate:g} events/s for {plan.seconds:g} s, {plan.workers} workers")
        accounts.append(await _compared(plan, say))
        report.show(accounts[-1])
    if len(accounts) > 1:
        say(report.total(accounts))
    if name := os.environ.get("REPORT"):
        report.write(accounts, Path(name))
    return 0 if all(account.holds for account in accounts) else 1


if __name__ == "__main__":
    argparse.ArgumentParser(
        prog="make chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what is mounted is let go on the way out
    sys.exit(asyncio.run(_main()))
