import asyncio
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.web.rows import add_alert, add_entry, add_incident, add_progress, add_task

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    Conn = Connection[Record]

pytestmark = pytest.mark.postgres
NOW = datetime.now(UTC)


async def titles(client: httpx.AsyncClient, **query: Any) -> list[str]:
    answer = await client.get("/api/v1/incidents", params=query)
    assert answer.status_code == 200, answer.text
    return [item["title"] for item in answer.json()["items"]]


async def test_the_list_is_narrowed_by_each_filter_and_by_words(client: httpx.AsyncClient, conn: "Conn") -> None:
    cost = await add_incident(conn, "Cost burn", severity="critical", kind="cost", team="ml")
    await add_incident(conn, "Slow answers", severity="warning", kind="latency")
    await add_incident(conn, "Old outage", severity="error", status="resolved", resolved_at=NOW, kind="provider_outage")
    await add_alert(conn, cost, {"alertname": "CostBurn", "model": "gpt_4%o"})

    assert set(await titles(client)) == {"Cost burn", "Slow answers", "Old outage"}
    assert await titles(client, severity="critical") == ["Cost burn"]
    assert set(await titles(client, severity=["critical", "error"])) == {"Cost burn", "Old outage"}
    assert set(await titles(client, status=["open", "acknowledged"])) == {"Cost burn", "Slow answers"}
    assert await titles(client, kind="latency") == ["Slow answers"]
    assert await titles(client, team="ml") == ["Cost burn"]
    assert await titles(client, q="ANSWERS slow") == ["Slow answers"]
    assert await titles(client, q="gpt_4%o") == ["Cost burn"]
    assert await titles(client, q="gpt") == ["Cost burn"]
    assert await titles(client, q="g%o") == []
    assert await titles(client, q="burn nothing") == []


async def test_pages_follow_each_other_without_gap_or_repeat_in_every_order(
    client: httpx.AsyncClient, conn: "Conn"
) -> None:
    for number in range(7):
        at = NOW - timedelta(minutes=number // 2)
        await add_incident(conn, f"i{number}", severity=["critical", "info"][number % 2], created_at=at)
    for sort in ("severity", "updated", "created"):
        whole = await titles(client, sort=sort)
        seen: list[str] = []
        cursor: str | None = ""
        for _ in range(4):
            answer = (await client.get(f"/api/v1/incidents?sort={sort}&limit=2&cursor={cursor}")).json()
            seen += [item["title"] for item in answer["items"]]
            cursor = answer["next"]
        assert seen == whole
        assert cursor is None
        assert len(set(whole)) == 7
    ranked = (await client.get("/api/v1/incidents?sort=severity")).json()["items"]
    assert [item["severity"] for item in ranked] == ["critical"] * 4 + ["info"] * 3


async def test_counts_go_through_the_links(client: httpx.AsyncClient, conn: "Conn") -> None:
    incident = await add_incident(conn, "Counted")
    await add_alert(conn, incident, {"alertname": "a"}, event_count=40)
    await add_alert(conn, incident, {"alertname": "b"}, event_count=2, status="resolved", ends_at=NOW)
    again = {"status": "firing", "occurrence": 2, "event_count": 3}
    await add_alert(conn, incident, {"alertname": "b"}, **again)
    (item,) = (await client.get("/api/v1/incidents")).json()["items"]
    assert (item["alerts"], item["firing"], item["events"]) == (2, 2, 45)


async def test_one_incident_has_its_alerts_notices_and_timeline(client: httpx.AsyncClient, conn: "Conn") -> None:
    incident = await add_incident(conn, "Whole")
    await add_alert(conn, incident, {"alertname": "gone"}, status="resolved", ends_at=NOW)
    await add_alert(conn, incident, {"alertname": "here"}, links=[["https://x.example/d", "Dashboard"]])
    await add_task(conn, incident, 1, state="sent", finished_at=NOW, attempts=1)
    await add_entry(conn, incident, 1, "opened", alert="here")
    await add_entry(conn, incident, 2, "resolved")

    detail = (await client.get(f"/api/v1/incidents/{incident}")).json()
    assert detail["incident"]["title"] == "Whole"
    assert [alert["status"] for alert in detail["alerts"]] == ["firing", "resolved"]
    assert detail["alerts"][0]["links"] == [{"href": "https://x.example/d", "text": "Dashboard"}]
    assert [(notice["state"], notice["target"]) for notice in detail["notices"]] == [
        ("sent", "https://hooks.example.net")
    ]
    timeline = (await client.get(f"/api/v1/incidents/{incident}/timeline")).json()
    assert [(entry["seq"], entry["event"], entry["detail"]) for entry in timeline] == [
        (1, "opened", {"alert": "here"}),
        (2, "resolved", {}),
    ]
    rest = (await client.get(f"/api/v1/incidents/{incident}/timeline?after=1")).json()
    assert [entry["seq"] for entry in rest] == [2]


@pytest.mark.parametrize(
    ("path", "status", "field"),
    [
        ("/api/v1/incidents?severity=bad", 400, "severity"),
        ("/api/v1/incidents?limit=0", 400, "limit"),
        ("/api/v1/incidents?limit=many", 400, "limit"),
        ("/api/v1/incidents?cursor=%00", 400, "cursor"),
        ("/api/v1/incidents?cursor=bm90", 400, "cursor"),
        ("/api/v1/alerts?status=open", 400, "status"),
        ("/api/v1/alerts?incident=7", 400, "incident"),
        (f"/api/v1/incidents/{uuid.UUID(int=404)}", 404, None),
        (f"/api/v1/incidents/{uuid.UUID(int=404)}/timeline", 404, None),
        ("/api/v1/nothing", 404, None),
        ("/static/..%2Fgateway.py", 404, None),
    ],
)
async def test_errors_are_problems_that_name_the_field(
    client: httpx.AsyncClient, path: str, status: int, field: str | None
) -> None:
    answer = await client.get(path)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/problem+json")
    problem = answer.json()
    assert problem["status"] == status
    assert [error["field"] for error in problem.get("errors", [])] == ([field] if field else [])


async def test_alerts_are_listed_by_pages_with_their_newest_occurrence(client: httpx.AsyncClient, conn: "Conn") -> None:
    for number in range(5):
        await add_alert(conn, None, {"alertname": f"a{number}"}, status="resolved", ends_at=NOW)
        await add_alert(conn, None, {"alertname": f"a{number}"}, occurrence=2)
    first = (await client.get("/api/v1/alerts?limit=3")).json()
    second = (await client.get(f"/api/v1/alerts?limit=3&cursor={first['next']}")).json()
    assert [item["occurrence"] for item in first["items"] + second["items"]] == [2] * 5
    assert second["next"] is None


async def test_totals_add_up_over_every_life_of_the_log(client: httpx.AsyncClient, conn: "Conn") -> None:
    await add_progress(conn, 0, new=3, duplicate=10, rejected=1)
    await add_progress(conn, 1, new=2, resolved=1)
    await add_progress(conn, 0, log_id="life-0", late=5)
    await add_incident(conn, "x", severity="critical", status="acknowledged")
    sums = (await client.get("/api/v1/totals")).json()
    totals = sums["totals"]
    assert totals["received"] == 22 == sum(value for name, value in totals.items() if name != "received")
    assert sums["open"]["critical"] == sums["open"]["acknowledged"] == 1
    assert [row["partition"] for row in sums["partitions"]] == [0, 1]


async def events(client: httpx.AsyncClient, wanted: str, **headers: str) -> Any:
    async with asyncio.timeout(8), client.stream("GET", "/api/v1/stream", headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        name = last = ""
        async for line in answer.aiter_lines():
            if line.startswith("event: "):
                name, last = line[7:], ""
            if line.startswith("id: "):
                last = line[4:]
            if line.startswith("data: ") and name == wanted:
                return json.loads(line[6:]), last
    raise AssertionError(f"no {wanted}")


async def test_a_listener_hears_of_a_change_and_resumes_where_it_was(client: httpx.AsyncClient, conn: "Conn") -> None:
    hello, _ = await events(client, "hello")
    assert hello["health"]["role"] == "gateway"
    listening = asyncio.create_task(events(client, "changed"))
    await events(client, "sample")
    first = await add_incident(conn, "Live one")
    changed, last = await listening
    assert [item["id"] for item in changed] == [str(first)]
    second = await add_incident(conn, "Missed one")
    missed, _ = await events(client, "changed", **{"last-event-id": last})
    assert str(second) in [item["id"] for item in missed]
    reset, _ = await events(client, "reset", **{"last-event-id": "1"})
    assert "too long" in reset["reason"]


async def test_openapi_names_the_routes_and_no_other_host(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    assert {"/api/v1/incidents", "/api/v1/tables", "/api/v2/alerts"} <= set(document["paths"])
    assert {"get", "post"} <= set(document["paths"]["/api/v1/alerts"])
    assert {"get", "post"} <= set(document["paths"]["/api/v2/alerts"])
    assert {"IncidentSummary", "OwnAlert", "Taken"} <= set(document["components"]["schemas"])


async def test_readiness_needs_a_broker_and_names_what_is_away(client: httpx.AsyncClient) -> None:
    await events(client, "sample")
    answer = await client.get("/readyz")
    parts = answer.json()["parts"]
    assert answer.status_code == 503
    assert parts["postgres"]["ok"]
    assert not parts["kafka"]["ok"]
    assert not parts["redis"]["ok"]
    assert (await client.get("/healthz")).status_code == 200
    assert "incidents_part_up" in (await client.get("/metrics")).text
    tables = await client.get("/api/v1/tables")
    assert (tables.status_code, tables.json()["title"]) == (503, "Not available right now")
    assert (await client.get("/api/v1/tables/alerts/0123456789abcdef")).status_code == 503
    assert (await client.get("/api/v1/tables/passwords/a")).json()["detail"] == "There is no table passwords"


async def test_the_page_is_served_with_a_strict_policy(client: httpx.AsyncClient) -> None:
    for path in ("/", f"/incidents/{uuid.uuid4()}", "/tables"):
        answer = await client.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-security-policy"].startswith("default-src 'self';")
        assert answer.headers["x-content-type-options"] == "nosniff"
    again = await client.get("/", headers={"if-none-match": answer.headers["etag"]})
    assert again.status_code == 304
