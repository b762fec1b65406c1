"""People act on incidents of a running system: over HTTP, through Kafka, to Postgres, and out to the receivers."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest

from agents.rules.group_state import GroupState
from tests.flow.world import System, alert, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]


async def act(system: System, incident: str, what: str, body: object = None, **headers: str) -> httpx.Response:
    there = f"/api/v1/incidents/{incident}/{what}"
    return await system.post(there, {} if body is None else body, **{"X-Incidents-Actor": "ada", **headers})


async def done(system: System, incident: str, what: str, body: object = None, **headers: str) -> dict[str, Any]:
    answer = await act(system, incident, what, body, **headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def timeline(system: System, incident: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await system.http.get(f"{system.url}/api/v1/incidents/{incident}/timeline")).json()
    return found


async def fired(system: System, service: str) -> str:
    """An incident that was told."""
    assert (await system.post("/api/v1/alerts", alert(service))).status_code == 202
    await system.notices(service, 1, within=60)
    return str((await system.one_incident(service, "open", within=60))["id"])


async def test_somebody_takes_an_incident_comments_and_ends_it(system: System, service: str) -> None:
    incident = await fired(system, service)
    shown = await done(system, incident, "acknowledge", {"comment": "on it"})
    assert (shown["incident"]["status"], shown["acknowledged_by"]) == ("acknowledged", "ada")
    again = await act(system, incident, "acknowledge")
    assert (again.status_code, again.json()["detail"]) == (409, "it is acknowledged already")

    key = str(uuid.uuid4())
    for _ in range(2):
        await done(system, incident, "comments", {"text": "looking"}, **{"Idempotency-Key": key})
    await done(system, incident, "assign", {"assignee": "bob"})
    await done(system, incident, "links", {"url": "https://wiki.example/limits", "title": "limits"})
    there = f"{system.url}/api/v1/incidents/{incident}"
    seen = await system.http.get(there)
    tag = {"If-Match": seen.headers["etag"], "X-Incidents-Actor": "ada"}
    edited = await system.http.patch(there, json={"severity": "info"}, headers=tag)
    assert (edited.status_code, edited.json()["incident"]["severity"]) == (200, "info")
    assert edited.json()["severity_by"] == "person"
    late = await system.http.patch(there, json={"title": "x"}, headers=tag)
    assert late.status_code == 412

    shown = await done(system, incident, "resolve")
    assert (shown["incident"]["status"], shown["resolved_by"]) == ("resolved", "ada")
    told = await system.notices(service, 2, within=60)
    assert [one["status"] for one in told[-1].body["alerts"]] == ["resolved"]
    lines = await timeline(system, incident)
    mine = [line["event"] for line in lines if line["actor"] == "ada"]
    assert mine == ["acknowledged", "comment", "comment", "assigned", "link added", "edited", "resolved"]

    assert (await system.post("/api/v1/alerts", alert(service, summary="still refused"))).status_code == 202
    await until(lambda: _said(system, service, "still refused"), "the repeat is known", within=60)
    assert (await system.one_incident(service, "resolved"))["id"] == incident


async def _said(system: System, service: str, summary: str) -> bool:
    rows = await system.sql("SELECT 1 FROM alerts WHERE labels->>'service' = $1 AND summary = $2", service, summary)
    return bool(rows)


async def test_one_incident_speaks_for_another_until_they_are_split(system: System, service: str) -> None:
    other = f"{service}-b"
    parent, child = await fired(system, service), await fired(system, other)
    shown = await done(system, child, "merge", {"into": parent})
    assert (shown["incident"]["status"], shown["parent"]["id"]) == ("merged", parent)
    known = await act(system, child, "acknowledge")
    assert known.status_code == 409

    async def adopted() -> bool:
        found = (await system.http.get(f"{system.url}/api/v1/incidents/{parent}")).json()
        events = [line["event"] for line in await timeline(system, parent)]
        return [one["id"] for one in found["children"]] == [child] and "child merged" in events

    await until(adopted, "the parent knows its child", within=60)
    shown = await done(system, child, "split")
    assert (shown["incident"]["status"], shown["parent"]) == ("open", None)
    for incident in (parent, child):
        await done(system, incident, "resolve")


async def test_an_incident_opened_by_hand_is_told_and_redacted(system: System, service: str) -> None:
    body = {"title": f"{service} called", "severity": "critical", "labels": {"service": service}, "comment": "by phone"}
    key = str(uuid.uuid4())
    made = [
        await system.post("/api/v1/incidents", body, **{"X-Incidents-Actor": "ada", "Idempotency-Key": key})
        for _ in range(2)
    ]
    assert [one.status_code for one in made] == [200, 200], made[0].text
    incident = made[0].json()["incident"]["id"]
    assert made[1].json()["incident"]["id"] == incident

    async def told() -> bool:
        return any(one.body["alerts"][0]["labels"].get("service") == service for one in system.desk.received)

    await until(told, "the desk hears of it", within=60)
    lines = await timeline(system, incident)
    [spoken] = [line["seq"] for line in lines if line["event"] == "comment"]
    await done(system, incident, "redact", {"seq": spoken, "reason": "a number in it"})
    await done(system, incident, "redact", {"field": "title", "reason": "a name in it"})
    text = msgspec.json.encode(await timeline(system, incident)).decode()
    assert "by phone" not in text
    assert f"{service} called" not in text
    assert "a name in it" in text
    shown = await done(system, incident, "resolve")
    assert (shown["incident"]["title"], shown["by_hand"]) == ("[redacted]", True)
    assert (await act(system, incident, "redact", {"seq": 5, "reason": "x"})).status_code == 400


async def test_a_snooze_ends_and_what_people_did_is_in_the_state_that_is_kept(system: System, service: str) -> None:
    incident = await fired(system, service)
    moment = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
    shown = await done(system, incident, "snooze", {"until": moment})
    assert shown["snoozed_until"] is not None

    async def awake() -> bool:
        found = (await system.http.get(f"{system.url}/api/v1/incidents/{incident}")).json()
        return found["snoozed_until"] is None

    await until(awake, "the snooze is over", within=60)
    await done(system, incident, "assign", {"assignee": "bob"})
    [row] = await system.sql(
        "SELECT g.state FROM groups g JOIN incidents i USING (group_key) WHERE i.id = $1", uuid.UUID(incident)
    )
    assert msgspec.msgpack.decode(row["state"], type=GroupState).handled.assignee == "bob"
    await done(system, incident, "resolve")
