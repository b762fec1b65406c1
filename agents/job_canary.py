"""The action `canary`: an alert through the whole path, timed until its incident and its notice are there."""

import asyncio
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from agents.job_alerts import Herald, Raised
from agents.jobs import FailedForGoodError, Work
from sinks import canary_rows, job_rows
from sinks.canary_rows import Flight
from streams import metrics
from streams.keys import derived_id
from streams.rules_canary import ALERT, LABEL
from streams.rules_jobs import Canary
from streams.rules_yaml import duration

_LOOK: Final = 0.05


async def canary(work: Work, herald: Herald) -> Mapping[str, Any]:
    """Raise it, wait until it is back, and end it, whether it came back or not.

    Another attempt looks for what the first one raised too, and measures from then.
    """
    told: Canary = work.told
    within = duration(told.within).total_seconds()
    posted_at = await _posted_at(work)
    name = str(work.run.id)
    await herald.tell([_raised(work, name, "firing")])
    try:
        flight = await _back(work, name, posted_at, within)
    finally:
        await herald.tell([_raised(work, name, "resolved")])
    if flight is None or flight.sent_at is None:
        missing = "an incident" if flight is None else "a notice that is sent"
        raise FailedForGoodError(f"within {within:g} s there was not {missing}")
    seconds = (flight.sent_at - posted_at).total_seconds()
    metrics.canary_seconds.set(seconds)
    metrics.canary_success_timestamp_seconds.set(time.time())
    return {"incident_seconds": (flight.committed_at - posted_at).total_seconds(), "told_seconds": seconds}


async def _posted_at(work: Work) -> datetime:
    if work.run.cursor:
        return datetime.fromisoformat(work.run.cursor)
    async with work.pool.acquire(timeout=5) as conn:
        now = await job_rows.clock(conn)
    await work.progress(0, cursor=now.isoformat())
    return now


async def _back(work: Work, name: str, posted_at: datetime, within: float) -> Flight | None:
    flight: Flight | None = None
    until = time.monotonic() + within
    while time.monotonic() < until and (flight is None or flight.sent_at is None):
        await asyncio.sleep(_LOOK)
        async with work.pool.acquire(timeout=5) as conn:
            flight = await canary_rows.seen(conn, name, posted_at)
    return flight


def _raised(work: Work, name: str, status: str) -> Raised:
    body = {
        "source": "canary",
        "status": status,
        "severity": "info",
        "summary": "The canary is on its way",
        "labels": {"alertname": ALERT, LABEL: name},
    }
    # Of each attempt an event of its own: an earlier one may have ended the alert that it raised.
    return Raised(derived_id("canary", name, work.run.token, status), work.run.team, body)
