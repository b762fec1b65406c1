"""A worker that stands still with a write in hand, and goes on when another has taken over what it had.

Stopped at any moment it most often has nothing in hand, or learns on waking that it lost its partitions before it
writes. So its writes are refused first: it pauses, and what it does after that is to write, whatever has happened.
"""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, TypeAlias

import asyncpg

from embedded.roles import RoleProcess
from embedded.unit import Unit
from tests.chaos.system import ChaosStack, family

_WRITES_S: Final = 10.0
_REFUSALS: Final = 5
_PAUSES_S: Final = 0.2
"""After so many refusals a step pauses for 0.8 s: so long after the last of them it does."""
_TAKEN_OVER_S: Final = 40.0
_HOLD: Final = "SELECT FROM stream_progress WHERE topic = 'alerts' FOR UPDATE"
# The sessions of a worker that wait for what is held.
_WAITING: Final = """
    SELECT pid FROM pg_stat_activity WHERE application_name = $1 AND pg_backend_pid() = ANY(pg_blocking_pids(pid))
"""
_PLACES: Final = "SELECT partition, epoch, applied FROM stream_progress WHERE topic = 'alerts'"

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Places = Mapping[int, tuple[int, int]]
"""The epoch of each partition, and the last offset applied."""


@contextmanager
def stopped(unit: Unit) -> Iterator[None]:
    """Inside it a unit stands still, with every process below it."""
    pids = family(unit.child.pid) if unit.child is not None else []
    for pid in pids:
        _send(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in reversed(pids):
            _send(pid, signal.SIGCONT)


async def outlived(stack: ChaosStack, unit: RoleProcess) -> str:
    """Stop a worker that is about to write, and let it go on when another is past what it has in hand; in words."""
    connection = await asyncpg.connect(stack.endpoints["postgres"], timeout=5)
    hold = connection.transaction()
    try:
        await hold.start()
        await connection.execute(_HOLD)
        refused = await _refuse(connection, unit)
        with stopped(unit):
            await hold.rollback()
            then, began = await _places(connection), time.monotonic()
            taken_over = await _until(lambda: _is_past(connection, then), every=0.1, within=_TAKEN_OVER_S)
        seconds = time.monotonic() - began
    finally:
        await connection.close()  # which ends what it held
    doing = f"with a write in hand that was refused {refused} times"
    done = "was taken over" if taken_over else "was NOT taken over"
    return f"kill -STOP {unit.name} {doing}, -CONT after {seconds:.1f} s, when it {done}"


async def _refuse(connection: Connection, unit: RoleProcess) -> int:
    """Have a worker's write end in an error until it pauses for a while before it tries again; how often it did."""
    for refused in range(_REFUSALS):
        if not await _until(lambda: _waiting(connection, unit), every=0.005, within=_WRITES_S):
            return refused
        for pid in await _waiting(connection, unit):
            await connection.execute("SELECT pg_cancel_backend($1)", pid)
        await _until(lambda: _none_waits(connection, unit), every=0.005, within=_WRITES_S)
    await asyncio.sleep(_PAUSES_S)
    return _REFUSALS


async def _none_waits(connection: Connection, unit: RoleProcess) -> bool:
    return not await _waiting(connection, unit)


async def _waiting(connection: Connection, unit: RoleProcess) -> list[int]:
    return [row["pid"] for row in await connection.fetch(_WAITING, f"incidents-w{unit.index + 1}")]


async def _is_past(connection: Connection, then: Places) -> bool:
    """Whether partitions have another owner, and each of those has done something in them."""
    moved = [(at, then[number]) for number, at in (await _places(connection)).items() if at[0] > then[number][0]]
    return bool(moved) and all(at[1] > before[1] for at, before in moved)


async def _until(holds: Callable[[], Awaitable[object]], *, every: float, within: float) -> bool:
    deadline = time.monotonic() + within
    while not await holds():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(every)
    return True


async def _places(connection: Connection) -> Places:
    return {row["partition"]: (row["epoch"], row["applied"]) for row in await connection.fetch(_PLACES)}


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
