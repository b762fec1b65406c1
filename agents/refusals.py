"""What the first run of a log refused: a replay, which writes no rows, cannot find it out again."""

from collections.abc import Mapping
from datetime import datetime

from agents.unhandled import UNHANDLED, found_at, place, storable
from agents.work import Batch, Poisoned
from sinks import alert_rows, dead_letter_rows
from sinks.postgres import Connection
from streams.records import Alert, AlertBatch, Rejected


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


async def of_records(
    conn: Connection, topic: str, log_id: str, batches: Mapping[int, Batch], since: datetime
) -> dict[int, Poisoned]:
    """Partition -> the parts of our own records on a topic that are dead letters since then."""
    places = [place(log_id, number, offset) for number, batch in batches.items() for offset, _ in batch]
    found: dict[int, Poisoned] = {}
    for row in await dead_letter_rows.kept_since(conn, topic, since):
        at = found_at(row["field"], places)
        if at is not None:
            number, offset, part = at
            found.setdefault(number, {})[offset, part] = row["reason"]
    return found
