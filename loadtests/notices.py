"""How soon somebody is told: receivers of a load run, and the time from an incident's opening to its first notice."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec

from loadtests.plan import Receivers
from loadtests.sink_server import notices_of
from loadtests.sums import Connection

GROUP_WAIT_S: Final = 1.0
GOALS_S: Final = {Receivers.HEALTHY: 2.0, Receivers.HANGING: 5.0}
_DESK: Final = "desk"
_HANGS: Final = "hangs"
_PATIENCE_S: Final = 60.0
# Finer groups than usual, so that many are told of; long intervals, so that each is told once.
_RULES: Final = """\
route:
  receiver: desk
  group_by: [alertname, service, model, run]
  group_wait: {wait}s
  group_interval: 1h
  repeat_interval: 12h
receivers:
  - name: desk
    webhook_configs:
"""


# An incident that ends within group_wait is told to nobody, by Alertmanager's rule: it counts since when it lasted.
_TOLD_OF: Final = """
WITH begun AS (
    SELECT id, created_at AS at FROM incidents WHERE created_at >= $1
    UNION ALL SELECT incident_id, at FROM timeline WHERE event = 'reopened' AND at >= $1
),
lasting AS (
    SELECT id, min(at) AS at FROM begun
    WHERE NOT EXISTS (
        SELECT FROM timeline WHERE incident_id = begun.id AND event = 'resolved'
            AND timeline.at >= begun.at AND timeline.at < begun.at + $2::interval)
    GROUP BY id
)
SELECT id, lasting.at FROM lasting
WHERE EXISTS (SELECT FROM notification_tasks WHERE incident_id = lasting.id)
"""


class FirstNotices(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds beyond group_wait from an incident's opening to its first notice; `untold` were not told at all."""

    receivers: Receivers
    incidents: int
    untold: int
    p50_s: float
    p99_s: float
    worst_s: float
    goal_s: float

    @property
    def hold(self) -> bool:
        """Whether everybody was told, in time."""
        return self.incidents > 0 and not self.untold and self.p99_s <= self.goal_s


class Desk(msgspec.Struct, frozen=True):
    """A running sink: the rules that lead to it, and its ledger."""

    rules: Path
    ledger: Path
    receivers: Receivers

    async def first_notices(self, connection: Connection, since: datetime) -> FirstNotices:
        """Wait until every incident opened since then was told, and say how long that took.

        One that ended within group_wait counts from when it opened again.
        """
        until = time.monotonic() + _PATIENCE_S
        await asyncio.sleep(GROUP_WAIT_S + 1)
        while True:
            rows = await connection.fetch(_TOLD_OF, since, timedelta(seconds=GROUP_WAIT_S))
            opened = {str(row["id"]): row["at"].timestamp() for row in rows}
            told = await asyncio.to_thread(self._told)
            if opened.keys() <= told.keys() or time.monotonic() > until:
                break
            await asyncio.sleep(1)
        took = sorted(told[name] - at - GROUP_WAIT_S for name, at in opened.items() if name in told)
        return FirstNotices(
            receivers=self.receivers,
            incidents=len(opened),
            untold=len(opened) - len(took),
            p50_s=_share(took, 0.5),
            p99_s=_share(took, 0.99),
            worst_s=_share(took, 1.0),
            goal_s=GOALS_S[self.receivers],
        )

    def _told(self) -> dict[str, float]:
        first: dict[str, float] = {}
        for notice in notices_of(self.ledger) if self.ledger.exists() else ():
            if notice.target == _DESK:
                first.setdefault(notice.incident, notice.received_us / 1e6)
        return first


@asynccontextmanager
async def desk(receivers: Receivers, folder: Path) -> AsyncIterator[Desk]:
    """A sink in a process of its own, and rules that tell it; with `hanging`, beside it a target that never answers."""
    ledger = folder / "sink.jsonl"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "loadtests.sink_server", "--ledger", str(ledger), "--hang", _HANGS,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        if process.stdout is None:
            raise RuntimeError("the sink has no output")
        url = (await process.stdout.readline()).decode().split(" ")[3].rstrip(",")
        names = [_DESK, _HANGS] if receivers is Receivers.HANGING else [_DESK]
        rules = folder / "rules.yml"
        urls = "".join(f"      - url: {url}/{name}\n" for name in names)
        rules.write_text(_RULES.format(wait=int(GROUP_WAIT_S)) + urls, encoding="utf-8")
        yield Desk(rules, ledger, receivers)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def _share(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(share * len(values)))] if values else 0.0
