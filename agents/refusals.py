"""What the first run of a log refused: a replay, which writes no rows, cannot find it out again."""

from collections.abc import Mapping
from typing import Final

from agents.work import Batch, Poisoned
from sinks import alert_rows
from sinks.postgres import Connection
from streams.records import Action, Alert, AlertBatch, InputBatch, MemberChange, Rejected
from streams.topics import INPUTS

UNHANDLED: Final = "could not be handled: "


def storable(text: str) -> str:
    """Text without what Postgres takes in none."""
    return text.replace("\x00", "\ufffd")


def name_of(change: MemberChange) -> str:
    """Names a change in the dead letters."""
    return f"{change.group}:{change.identity}:{change.revision}"


def why_of(item: Alert | Rejected, reason: str) -> str:
    """Why Postgres took no row of this item, by the reason of its verdict; empty when intake had refused it."""
    if isinstance(item, Alert):
        return reason.removeprefix(UNHANDLED) if reason.startswith(UNHANDLED) else ""
    said = storable(item.reason)
    _, same, why = reason.partition(f"{said}; ")
    return why if same else ""


async def of_alerts(conn: Connection, log_id: str, batches: Mapping[int, Batch]) -> dict[int, Poisoned]:
    """Partition -> the items of records on `alerts` whose verdict is that they could not be handled."""
    items = [
        (number, offset, index, item)
        for number, batch in batches.items()
        for offset, record in batch
        if type(record) is AlertBatch
        for index, item in enumerate(record.items)
    ]
    rows = await alert_rows.refused(conn, log_id, [storable(item.event_id) for *_, item in items])
    reasons = {(row["partition"], row["offset"], row["event_id"]): row["reason"] for row in rows}
    found: dict[int, Poisoned] = {}
    for number, offset, index, item in items if reasons else ():
        why = why_of(item, reasons.get((number, offset, storable(item.event_id)), ""))
        if why:
            found.setdefault(number, {})[offset, index] = why
    return found


async def of_inputs(conn: Connection, batches: Mapping[int, Batch]) -> dict[int, Poisoned]:
    """Partition -> the changes and actions on `incident-inputs` that are dead letters."""
    changes = [
        (number, offset, index, name_of(item))
        for number, batch in batches.items()
        for offset, record in batch
        if type(record) is InputBatch
        for index, item in enumerate(record.items)
    ]
    changes += [
        (number, offset, 0, record.id)
        for number, batch in batches.items()
        for offset, record in batch
        if type(record) is Action
    ]
    rows = await alert_rows.buried(conn, INPUTS, [name for *_, name in changes])
    reasons = {row["event_id"]: row["reason"] for row in rows}
    found: dict[int, Poisoned] = {}
    for number, offset, index, name in changes if reasons else ():
        if name in reasons:
            found.setdefault(number, {})[offset, index] = reasons[name]
    return found
