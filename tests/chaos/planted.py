"""Starts a role with something taken out of it, in memory only: the product carries no switch for it.

`python -m tests.chaos.planted PLANT ROLE` does what `python -m agents ROLE`
does, after one guard was taken away. Five plants are bugs that the ledger must
find; `no_ticks` keeps a worker from moving on while its tables are compared.
"""

import asyncio
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

import agents.dedup_work
import agents.incidents_work
import agents.rules.incident
import agents.timers
import sinks.alert_rows
import sinks.incident_rows
import sinks.postgres
import sinks.task_rows
import streams.bridge
import streams.redis_tables
from agents.__main__ import main

# Untyped on purpose: what is planted here is against the types.
dedup: Any = agents.dedup_work
incident: Any = agents.rules.incident
incidents_work: Any = agents.incidents_work
timers: Any = agents.timers
alert_rows: Any = sinks.alert_rows
incident_rows: Any = sinks.incident_rows
postgres: Any = sinks.postgres
task_rows: Any = sinks.task_rows
bridge: Any = streams.bridge
redis_tables: Any = streams.redis_tables

_left: Final[set["asyncio.Task[Any]"]] = set()


def _later(seconds: float, do: Callable[[], Any]) -> None:
    async def wait() -> None:
        await asyncio.sleep(seconds)
        await do()

    task = asyncio.ensure_future(wait())
    _left.add(task)
    task.add_done_callback(_left.discard)


def ack_before_store() -> None:
    """The bridge acknowledges to RabbitMQ before Kafka has it."""
    whole = bridge.Bridge._published

    async def hasty(self: Any, session: Any, found: Any) -> bool:
        _later(0.5, lambda: whole(self, session, found))
        return True

    bridge.Bridge._published = hasty


def no_fencing() -> None:
    """Whoever writes may write: neither epochs nor offsets of a former owner are looked at."""
    unguarded = {
        "    AND mine.epoch = step.epoch AND mine.applied < step.applied\n": "",
        "applied = step.applied, safe = step.safe": "applied = greatest(mine.applied, step.applied), "
        "safe = greatest(mine.safe, step.safe)",
    }
    postgres._ADVANCE = _replaced(postgres._ADVANCE, unguarded)
    alert_rows.AT_ONCE = postgres.at_once(alert_rows._WRITE)
    incident_rows.AT_ONCE = postgres.at_once(incident_rows._WRITE)
    redis_tables.FLUSH = _replaced(redis_tables.FLUSH, {"if epoch > mine then return -1 end\n": ""})


def no_revision_check() -> None:
    """What is not newer than what a group has is taken for new."""
    whole = incident.apply

    def credulous(group: Any, member: Any, change: Any, body: Any, **more: Any) -> Any:
        known = msgspec.structs.replace(member, revision=-1) if member is not None else None
        return whole(group, known, change, body, **more)

    incident.apply = credulous
    incidents_work.IncidentsWork._is_new = lambda *_: True
    newer = {"WHERE mine.revision <= excluded.revision\n": ""}
    incident_rows._WRITE = _replaced(incident_rows._WRITE, newer)
    incident_rows.AT_ONCE = postgres.at_once(incident_rows._WRITE)


def no_dead_letter() -> None:
    """What cannot be used is dropped."""
    dedup.DedupWork._reject = lambda *_: None


def no_outbox() -> None:
    """Notices are written after the commit that caused them, not with it."""
    whole = task_rows.insert
    pools: list[Any] = []
    opened = postgres.open_pool

    async def open_pool(*arguments: Any, **more: Any) -> Any:
        pools.append(await opened(*arguments, **more))
        return pools[-1]

    async def afterwards(_: Any, notices: Sequence[Any], tasks: Sequence[Any]) -> None:
        async def write() -> None:
            async with pools[-1].acquire() as connection:
                await whole(connection, notices, tasks)

        _later(1.0, write)

    postgres.open_pool = open_pool
    task_rows.insert = afterwards


def no_ticks() -> None:
    """Time stands still for this worker."""

    async def never(_: Any) -> None:
        await asyncio.Event().wait()

    timers.Timers.run = never


def _replaced(text: str, parts: dict[str, str]) -> str:
    for old, new in parts.items():
        if old not in text:
            raise RuntimeError(f"the guard is not where it was: {old!r}")
        text = text.replace(old, new)
    return text


PLANTS: Final = {
    plant.__name__: plant for plant in (ack_before_store, no_fencing, no_revision_check, no_dead_letter, no_outbox)
}
TOOLS: Final = {no_ticks.__name__: no_ticks}


if __name__ == "__main__":
    ({**PLANTS, **TOOLS})[sys.argv[1]]()
    main(sys.argv[2:])
