"""From an alert to an incident, to a notice, and back: over each way in."""

import json
import secrets
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.flow.world import System, alert, alertmanager_alert, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]


async def test_an_alert_over_rabbitmq_is_told_and_so_is_its_end(system: System, service: str) -> None:
    await system.publish(json.dumps(alert(service, severity="critical", kind="rate_limit")).encode(), f"{service}-1")
    opened = await system.one_incident(service, "open")
    assert (opened["severity"], opened["kind"], opened["title"]) == ("critical", "rate_limit", f"{service} is refused")
    assert (opened["alerts"], opened["firing"], opened["events"]) == (1, 1, 1)

    first = (await system.notices(service, 1))[0]
    told_alert = first.body["alerts"][0]
    assert (first.body["version"], first.body["status"], first.body["receiver"]) == ("4", "firing", "desk")
    assert first.body["groupLabels"] == {"alertname": "RateLimited", "service": service}
    assert told_alert["labels"]["model"] == "large"
    assert told_alert["endsAt"] == "0001-01-01T00:00:00Z"
    assert first.body["incident"]["id"] == opened["id"]
    assert first.key == str(uuid.UUID(first.key))
    await _outcome_is_back(system, first.key)

    await system.publish(json.dumps(alert(service, "resolved")).encode(), f"{service}-2")
    ended = await system.one_incident(service, "resolved")
    assert ended["id"] == opened["id"]
    assert ended["resolved_at"] is not None
    _, last = await system.notices(service, 2)
    assert (last.body["status"], last.body["incident"]["reason"]) == ("resolved", "all resolved")
    assert last.key != first.key
    await _outcome_is_back(system, last.key)
    timeline = (await system.http.get(f"{system.url}/api/v1/incidents/{opened['id']}/timeline")).json()
    assert [one["event"] for one in timeline if one["event"] in {"opened", "resolved"}] == ["opened", "resolved"]


async def _outcome_is_back(system: System, task_id: str) -> None:
    """The row is finished, and the group that made the task heard of it."""

    async def told() -> list[dict[str, Any]]:
        return await system.sql(
            "SELECT state FROM notification_tasks WHERE id = $1::text::uuid AND told_group", task_id
        )

    assert await until(told, f"the group heard of task {task_id}") == [{"state": "sent"}]


async def test_our_own_format_over_http_takes_the_good_of_a_mixed_list_and_names_the_bad(
    system: System, service: str
) -> None:
    bad = alert(service, status="burning")
    answer = await system.post("/api/v1/alerts", [alert(service), bad, {**alert(service), "labels": {"zone": "b"}}])
    body = answer.json()
    assert answer.status_code == 202
    assert body["accepted"] == 2
    assert [(one["index"], one["field"]) for one in body["rejected"]] == [(1, "status")]
    assert len(body["event_ids"]) == 3
    await system.one_incident(service, "open")

    async def written() -> list[dict[str, Any]]:
        return await system.sql("SELECT field, via FROM dead_letters WHERE event_id = $1", body["event_ids"][1])

    assert await until(written, "the bad one is a dead letter") == [{"field": "status", "via": "http"}]
    only_bad = await system.post("/api/v1/alerts", [bad])
    assert only_bad.status_code == 400
    assert only_bad.headers["content-type"] == "application/problem+json"
    assert (await system.post("/api/v1/alerts", alert(service, "resolved"))).status_code == 202
    await system.one_incident(service, "resolved")


async def test_a_request_that_is_sent_again_with_its_idempotency_key_counts_once(system: System, service: str) -> None:
    key = secrets.token_hex(8)
    for _ in range(2):
        answer = await system.post("/api/v1/alerts", alert(service), **{"Idempotency-Key": key})
        assert answer.json()["event_ids"] == [key]
    assert (await system.post("/api/v1/alerts", alert(service, severity="critical"))).status_code == 202

    async def counted() -> bool:
        found = await system.incidents(service)
        return bool(found) and (found[0]["severity"], found[0]["events"]) == ("critical", 2)

    await until(counted, "two events, the repeated request counted once")


async def test_alertmanagers_format_opens_and_resolves_and_reads_back(system: System, service: str) -> None:
    mixed = [alertmanager_alert(service), {"labels": {}}]
    assert (await system.post("/api/v2/alerts", mixed)).status_code in {400, 422}
    opened = await system.one_incident(service, "open")
    assert opened["title"] == f"{service} is slow"
    listed = await system.http.get(f"{system.url}/api/v2/alerts", params={"filter": f'service="{service}"'})
    assert [one["labels"]["service"] for one in listed.json()] == [service]
    assert [one["name"] for one in listed.json()[0]["receivers"]] == ["desk"]

    await system.notices(service, 1)
    ended = alertmanager_alert(service, endsAt=datetime.now(UTC).isoformat())
    assert (await system.post("/api/v2/alerts", [ended])).status_code == 200
    assert (await system.one_incident(service, "resolved"))["id"] == opened["id"]
    assert [one.body["status"] for one in await system.notices(service, 2)] == ["firing", "resolved"]
