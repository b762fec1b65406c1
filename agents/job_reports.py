"""The actions `digest` and `stale`: a receiver's day in one notice, and incidents that everybody has forgotten."""

import uuid
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from agents.job_alerts import VIA, Herald, Raised
from agents.jobs import FailedForGoodError, Work
from sinks import config_rows, report_rows
from sinks.digests import digest_of
from sinks.message import encoded, status_of
from sinks.report_rows import StaleIncident
from streams.rules_config import BUILT_IN, load
from streams.rules_jobs import Digest, Stale
from streams.rules_yaml import duration

STALE: Final = "StaleIncidents"


async def digest(work: Work) -> Mapping[str, Any]:
    """Tell every integration of a receiver of its day: one task each, whose id follows from the run's."""
    told: Digest = work.told
    async with work.pool.acquire(timeout=5) as conn:
        stored = await config_rows.newest(conn)
    config = load(stored.text, stored.version, stored.files) if stored is not None else BUILT_IN
    receiver = config.receivers.get(told.receiver)
    if receiver is None:
        raise FailedForGoodError(f"no receiver is named {told.receiver}")
    async with work.writing() as conn:
        notices = await report_rows.told(conn, receiver.name, duration(told.of))
        if not notices or not receiver.integrations:
            return {"notices": len(notices), "sent": 0}
        run = work.run
        body = digest_of(run.id, notices)
        await report_rows.add_notice(conn, run.id, encoded(body))
        firing = status_of(body) == "firing"
        to = [one for one in receiver.integrations if one.send_resolved or firing]
        for one in to:
            task_id = uuid.uuid5(run.id, str(one.index))
            await report_rows.add_task(conn, task_id, run.id, run.team, config.version, receiver.name, one)
    incidents = body.digest.count if body.digest is not None else 0
    return {"notices": len(notices), "incidents": incidents, "sent": len(to)}


async def stale(work: Work, herald: Herald, page_url: str) -> Mapping[str, Any]:
    """For each team, fire one alert while it has stale incidents, and end it when it has none."""
    told: Stale = work.told
    after, total, alerts = duration(told.after), 0, []
    async with work.pool.acquire(timeout=5) as conn:
        for team in await report_rows.teams(conn, STALE):
            found = await report_rows.stale(conn, team, after, STALE)
            total += found[0].total if found else 0
            if bool(found) != await report_rows.fires(conn, team, STALE, VIA):
                event_id = uuid.uuid5(work.run.id, team)
                alerts.append(Raised(event_id, team, _alert(found, after, page_url)))
    if alerts:
        await herald.tell(alerts)
    return {"stale": total}


def _alert(found: Sequence[StaleIncident], after: timedelta, page_url: str) -> dict[str, Any]:
    lines = [f"{one.severity}: {one.title} {page_url}/incidents/{one.id}" for one in found]
    return {
        "source": VIA,
        "status": "firing" if found else "resolved",
        "severity": "warning",
        "summary": f"Incidents are open without a change for {_said(after)}",
        "description": "\n".join(lines),
        "labels": {"alertname": STALE},
    }


def _said(length: timedelta) -> str:
    hours = length.total_seconds() / 3600
    return f"{hours:g} hours" if hours >= 1 else f"{length.total_seconds() / 60:g} minutes"
