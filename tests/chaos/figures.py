"""What faults cost: the longest gaps between verdicts, how fast a backlog went, what HTTP answered, memory."""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec

from tests.chaos.faults import Hurt
from tests.chaos.system import ROLE_KINDS, ChaosStack, peak_memory

_LOOK_S: Final = 1.0
_AFTER: Final = timedelta(seconds=20)

# Times between verdicts that follow each other on one partition, as far as they touch a stretch of time.
_GAPS: Final = """
WITH times AS (
    SELECT DISTINCT partition, committed_at AS at FROM verdicts
    WHERE committed_at BETWEEN $1::timestamptz - interval '30 s' AND $2::timestamptz + interval '60 s'
), gaps AS (
    SELECT partition, lag(at) OVER (PARTITION BY partition ORDER BY at) AS since, at AS until FROM times
)
SELECT partition, since, until FROM gaps WHERE until >= $1 AND since <= $2 ORDER BY until - since DESC LIMIT 1
"""


# What was taken in while something was down, and how long it took to decide it once that was back.
_BACKLOG: Final = """
SELECT coalesce(sum(events), 0)::bigint AS events,
    extract(epoch FROM max(committed_at) - greatest(min(committed_at), $2))::float8 AS seconds
FROM verdicts WHERE accepted_at BETWEEN $1 AND $2 AND committed_at > $2
"""


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """Events that were taken in while a fault lasted and decided after it, and in how many seconds."""

    fault: str
    events: int
    seconds: float


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One answer of the gateway's ingest; status 0 stands for none."""

    at_us: int
    status: int


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """The longest time without a verdict on one partition around a fault, and when that ended.

    `after_s` is from when nothing was held any more.
    """

    fault: str
    longest_s: float
    after_s: float


async def gaps_of(connection: Any, hurts: Sequence[Hurt]) -> list[Gap]:
    """The gap that each fault caused, up to the next one."""
    gaps = []
    for place, hurt in enumerate(hurts):
        began, mended = _time(hurt.began_us), _time(hurt.mended_us)
        end = mended + _AFTER
        if place + 1 < len(hurts):
            end = min(end, _time(hurts[place + 1].began_us) - timedelta(seconds=0.5))
        row = await connection.fetchrow(_GAPS, began, max(end, mended))
        if row is None:
            continue
        longest = (row["until"] - row["since"]).total_seconds()
        gaps.append(Gap(fault=hurt.name, longest_s=longest, after_s=max(0.0, (row["until"] - mended).total_seconds())))
    return gaps


async def backlogs_of(connection: Any, hurts: Sequence[Hurt]) -> list[Backlog]:
    """Of each time that something was down, how fast the backlog went."""
    backlogs = []
    for hurt in hurts:
        row = await connection.fetchrow(_BACKLOG, _time(hurt.began_us), _time(hurt.mended_us))
        if hurt.name.startswith("down-") and row["events"]:
            backlogs.append(Backlog(fault=hurt.name, events=row["events"], seconds=max(row["seconds"], 0.001)))
    return backlogs


def answers_of(path: Path) -> list[Answer]:
    """What HTTP answered, in order."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [Answer(at_us=int(at), status=int(status)) for at, _, status in (line.partition("\t") for line in lines)]


class Memory:
    """The most that each role's processes had resident, in MiB."""

    def __init__(self) -> None:
        self.peaks: dict[str, float] = {}

    async def watch(self, stack: ChaosStack) -> None:
        """Look once a second, until cancelled."""
        while True:
            self.look(stack)
            await asyncio.sleep(_LOOK_S)

    def look(self, stack: ChaosStack) -> None:
        """Look now."""
        for unit in stack.units:
            if unit.role in ROLE_KINDS and unit.child is not None:
                peak = peak_memory(unit.child.pid)
                self.peaks[unit.role] = max(self.peaks.get(unit.role, 0.0), peak)

    def above(self, most: float) -> Iterable[str]:
        """The roles that had more."""
        return [f"{role}: {peak:.0f} MiB" for role, peak in self.peaks.items() if peak > most]


def _time(microseconds: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=microseconds)
