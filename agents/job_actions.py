"""What jobs do, by action. Each may be tried again, so each does its work once or under one key."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, Final

from agents import job_canary, job_reports, job_streams
from agents.job_alerts import VIA, Herald, Raised, RefusedAlertError
from agents.job_export import export
from agents.jobs import Do, FailedForGoodError, Work
from sinks import canary_rows, job_rows, migrate, retention_rows
from sinks.http import Http
from sinks.outcome import Failed, Sent
from sinks.postgres import Connection
from sinks.request import Request, encode
from streams.rules_jobs import Action, Raise, Retention, Webhook
from streams.rules_yaml import duration
from streams.settings import Settings

_CHUNK: Final = 2_000

Drop = Callable[[Connection, timedelta, int], Awaitable[int]]


class TriedAgainError(Exception):
    """Raised where a target may take it later."""


def actions_of(settings: Settings, herald: Herald, http: Http) -> dict[Action, Do]:
    """Every action over what it needs."""

    async def retention(work: Work) -> Mapping[str, Any]:
        return await _retention(work, settings.retention_days)

    async def webhook(work: Work) -> Mapping[str, Any]:
        return await _webhook(work, http)

    async def alert(work: Work) -> Mapping[str, Any]:
        return await _alert(work, herald)

    async def stale(work: Work) -> Mapping[str, Any]:
        return await job_reports.stale(work, herald, settings.page_url)

    async def canary(work: Work) -> Mapping[str, Any]:
        return await job_canary.canary(work, herald)

    async def replay(work: Work) -> Mapping[str, Any]:
        return await job_streams.replay(work, settings)

    async def rebuild(work: Work) -> Mapping[str, Any]:
        return await job_streams.rebuild(work, settings, herald.send)

    return {
        Action.RETENTION: retention,
        Action.WEBHOOK: webhook,
        Action.ALERT: alert,
        Action.DIGEST: job_reports.digest,
        Action.STALE: stale,
        Action.EXPORT: export,
        Action.CANARY: canary,
        Action.REPLAY: replay,
        Action.REBUILD: rebuild,
    }


async def _retention(work: Work, days: int) -> Mapping[str, Any]:
    """Make the coming days' partitions, drop those past their time, then rows that have had theirs."""
    told: Retention = work.told
    async with work.writing() as conn:
        today = (await job_rows.clock(conn)).date()
        made = await migrate.ensure_partitions(conn, today)
        dropped = await migrate.drop_partitions(conn, today, days)
    if dropped:
        await work.say(f"dropped {', '.join(dropped)}")
    alerts = await _emptied(work, retention_rows.drop_alerts, duration(told.alerts))
    runs = await _emptied(work, retention_rows.drop_runs, duration(told.runs))
    notices = await _emptied(work, retention_rows.drop_notices, duration(told.notices))
    letters = await _emptied(work, retention_rows.drop_letters, duration(told.letters))
    deeds = await _emptied(work, retention_rows.drop_deeds, duration(told.audit))
    canaries = await _emptied(work, canary_rows.forget, duration(told.canaries))
    alerts += await _emptied(work, canary_rows.forget_alerts, duration(told.canaries))
    return {
        "days_made": made, "days_dropped": dropped, "alerts": alerts, "runs": runs, "notices": notices,
        "letters": letters, "deeds": deeds, "canaries": canaries,
    }  # fmt: skip


async def _emptied(work: Work, drop: Drop, older_than: timedelta) -> int:
    total = 0
    while True:
        async with work.writing() as conn:
            count = await drop(conn, older_than, _CHUNK)
        total += count
        if count < _CHUNK:
            return total


async def _webhook(work: Work, http: Http) -> Mapping[str, Any]:
    told: Webhook = work.told
    run = work.run
    body = told.body if told.body is not None else {"job": run.job, "run": str(run.id), "slot_at": run.slot_at}
    outcome = await http.told(
        Request(
            url=told.url, key=str(run.id), body=b"" if told.method == "GET" else encode(body), method=told.method,
            options={"timeout": duration(told.timeout).total_seconds(), "headers": list(told.headers.items())},
        )
    )  # fmt: skip
    if isinstance(outcome, Sent):
        return {"answer": outcome.detail}
    if isinstance(outcome, Failed):
        raise FailedForGoodError(f"{outcome.reason}: {outcome.detail}")
    raise TriedAgainError(f"{outcome.reason}: {outcome.detail}")


async def _alert(work: Work, herald: Herald) -> Mapping[str, Any]:
    told: Raise = work.told
    run = work.run
    body = {
        "source": VIA,
        "status": told.status,
        "severity": told.severity,
        "kind": told.kind,
        "summary": told.summary,
        "description": told.description,
        "labels": {"alertname": run.job or "job", **told.labels},
    }
    try:
        await herald.tell([Raised(run.id, run.team, body)])
    except RefusedAlertError as error:
        raise FailedForGoodError(str(error)) from error
    return {"event_id": str(run.id)}
