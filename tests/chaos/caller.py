"""Calls of the ingest API at a fixed rate, as a process of its own: each made once, when it is due, and written down.

A call that is not answered within its time counts as one without an answer; nothing is tried again.
"""

import asyncio
import sys
import time
from collections.abc import Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec

from loadtests.ledger_file import Outcome
from loadtests.mixes import Event, Mix, Shares, body
from tests.chaos.ledger import LedgerFile

SHARES: Final = Shares(new=0.12, resolve=0.115, change=0.04, copy=0.02, bad=0, refire=0.3, cells=2)
ANSWER_S: Final = 5.0
_PATH: Final = "/api/v1/alerts"
_SYNC_S: Final = 0.5


class CallerPlan(msgspec.Struct, frozen=True, kw_only=True):
    """So many calls a second for so many seconds, and the folder that the accounts go to."""

    run: str
    seed: int
    rate: float
    seconds: float
    folder: str
    http: str


class Call(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One call: when it was due, when it was answered or given up, and the status; 0 is no answer."""

    due_us: int
    told_us: int
    status: int

    @property
    def good(self) -> bool:
        """Whether the event was taken."""
        return 200 <= self.status < 300


def calls_of(path: Path) -> list[Call]:
    """Every call in the order in which they were due."""
    calls = msgspec.json.Decoder(Call).decode_lines(path.read_bytes())
    return sorted(calls, key=lambda call: call.due_us)


class Caller:
    """Makes the calls; one that hangs holds no other up."""

    def __init__(self, plan: CallerPlan, session: aiohttp.ClientSession) -> None:
        self._plan = plan
        self._session = session
        self._ledger = LedgerFile(Path(plan.folder) / "callers.tsv")
        self._calls = (Path(plan.folder) / "calls.jsonl").open("ab")
        self._under_way: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Call until the time is over, and wait for the answers."""
        plan, mix = self._plan, Mix(self._plan.run, self._plan.seed, SHARES)
        began, began_us, synced = time.monotonic(), time.time_ns() // 1000, 0.0
        for number in range(int(plan.rate * plan.seconds)):
            due = number / plan.rate
            if (wait := due - (time.monotonic() - began)) > 0:
                await asyncio.sleep(wait)
            self._begin(self._call(mix.next(), began_us + round(due * 1e6)))
            if due - synced > _SYNC_S:
                synced = due
                await asyncio.to_thread(self._ledger.sync)
        await asyncio.gather(*self._under_way)
        self._ledger.close()
        self._calls.close()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _call(self, event: Event, due_us: int) -> None:
        data = body(event, datetime.fromtimestamp(due_us / 1e6, UTC))
        headers = {"content-type": "application/json", "idempotency-key": event.event_id}
        try:
            async with self._session.post(self._plan.http + _PATH, data=data, headers=headers) as answer:
                await answer.read()
                status = answer.status
        except (aiohttp.ClientError, OSError, TimeoutError):
            status = 0
        call = Call(due_us=due_us, told_us=time.time_ns() // 1000, status=status)
        self._calls.write(msgspec.json.encode(call) + b"\n")
        # Neither no answer nor "come again" says what became of the event.
        unless_good = Outcome.UNKNOWN if status in {0, 429, 503} else Outcome.REFUSED
        self._ledger.told(event.event_id, due_us, Outcome.CONFIRMED if call.good else unless_good)


async def _main(plan: CallerPlan) -> None:
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=ANSWER_S)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        await Caller(plan, session).run()


if __name__ == "__main__":
    asyncio.run(_main(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=CallerPlan)))
