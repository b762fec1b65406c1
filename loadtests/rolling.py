"""A rolling restart under load: every role's process stopped and started in turn, and the pauses that this made."""

import itertools
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg
import msgspec

from embedded.errors import EmbeddedError
from embedded.stack import Stack
from loadtests.ledger_file import Entry, Outcome
from loadtests.sums import Connection, read_sums, wait_until

GOAL_S: Final = 5.0
"""The longest pause that a rolling restart may make, in seconds."""
_BEGIN_WITHIN_S: Final = 60.0
_BEFORE: Final = timedelta(seconds=1)

# The longest time between two verdicts that follow each other on one partition, as far as it touches a stretch of time.
_PAUSE: Final = """
WITH times AS (
    SELECT DISTINCT partition, committed_at AS at FROM verdicts
    WHERE committed_at BETWEEN $1::timestamptz - interval '30 s' AND $2::timestamptz + interval '30 s'
), pauses AS (
    SELECT lag(at) OVER (PARTITION BY partition ORDER BY at) AS since, at AS until FROM times
)
SELECT coalesce(extract(epoch FROM max(until - since)), 0)::float8 FROM pauses WHERE until >= $1 AND since <= $2
"""


class Restart(msgspec.Struct, frozen=True, kw_only=True):
    """One process that was restarted. Times in microseconds since 1970; `ready_us` is when it answered again."""

    name: str
    began_us: int
    ready_us: int
    verdict_pause_s: float = 0
    confirm_pause_s: float = 0

    @property
    def took_s(self) -> float:
        """How long it was away."""
        return (self.ready_us - self.began_us) / 1e6


class RollingFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Each restart, and what was not done before the load was over."""

    restarts: tuple[Restart, ...]
    undone: tuple[str, ...] = ()
    goal_s: float = GOAL_S

    @property
    def hold(self) -> bool:
        """Whether every process was restarted and no pause was longer than the goal."""
        pauses = [pause for one in self.restarts for pause in (one.verdict_pause_s, one.confirm_pause_s)]
        return bool(pauses) and not self.undone and max(pauses) <= self.goal_s


class Rolling:
    """Restarts the roles of a stack while a load runs."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._names = [unit.name for unit in stack.roles]
        self._done: list[Restart] = []
        self._over = False

    def over(self) -> None:
        """The load has ended: nothing is begun any more."""
        self._over = True

    async def run(self) -> None:
        """Restart each process once, the next when the one before answers; begins once verdicts come."""
        connection = await asyncpg.connect(self._stack.endpoints["postgres"])
        try:
            before = (await read_sums(connection)).received
            await wait_until(
                lambda: _received(connection), before + 1, within=_BEGIN_WITHIN_S, stalled=_BEGIN_WITHIN_S,
                seen=lambda _: None,
            )  # fmt: skip
        finally:
            await connection.close()
        for unit in self._stack.roles:
            if self._over:
                return
            began = _now_us()
            try:
                await self._stack.restart_role(unit)
            except EmbeddedError as error:
                print(f"{unit.name} does not start again: {error}", flush=True)
                return
            self._done.append(Restart(name=unit.name, began_us=began, ready_us=_now_us()))

    async def figures(self, connection: Connection, entries: Sequence[Entry]) -> RollingFigures:
        """What the senders and Postgres saw of it."""
        ways = _confirmed(entries)
        restarts = []
        for place, one in enumerate(self._done):
            until = self._done[place + 1].began_us if place + 1 < len(self._done) else one.ready_us
            verdicts = await connection.fetchval(_PAUSE, _time(one.began_us) - _BEFORE, _time(until))
            confirms = max((longest_pause(times, one.began_us, until) for times in ways), default=0.0)
            restarts.append(msgspec.structs.replace(one, verdict_pause_s=verdicts, confirm_pause_s=confirms))
        done = {one.name for one in self._done}
        return RollingFigures(restarts=tuple(restarts), undone=tuple(name for name in self._names if name not in done))


def longest_pause(times_us: Sequence[int], since_us: int, until_us: int) -> float:
    """Seconds of the longest stretch between two neighbours of sorted times that touches the stretch given."""
    pairs = itertools.pairwise(times_us)
    return max((after - at for at, after in pairs if after >= since_us and at <= until_us), default=0) / 1e6


def _confirmed(entries: Sequence[Entry]) -> list[list[int]]:
    """When events were confirmed, in order, of each way: its events begin with a name of their own."""
    ways: dict[str, list[int]] = {}
    for entry in entries:
        if entry.outcome is Outcome.CONFIRMED:
            ways.setdefault(entry.event_id.partition("-")[0], []).append(entry.told_us)
    return [sorted(times) for times in ways.values()]


async def _received(connection: Connection) -> int:
    return (await read_sums(connection)).received


def _now_us() -> int:
    return time.time_ns() // 1000


def _time(microseconds: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=microseconds)
