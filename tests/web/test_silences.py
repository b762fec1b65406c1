"""Silences over HTTP: stored before they are answered, edited by the rules, and every change kept with its author."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import httpx
import pytest

from tests.web.rows import add_alert, add_incident

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    Conn = Connection[Record]

pytestmark = pytest.mark.postgres
URL = "/api/v1/silences"


def in_hours(hours: float) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()


def body(**changes: Any) -> dict[str, Any]:
    matchers = [[{"name": "service", "value": "chat"}]]
    said = {"matchers": matchers, "ends_at": in_hours(2), "created_by": "ada", "comment": "deploying"}
    return {**said, **changes}


async def created(client: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:
    answer = await client.post(URL, json=body(**changes))
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_silence_is_there_as_soon_as_it_is_answered(client: httpx.AsyncClient) -> None:
    made = await created(client, annotations={"ticket": "OPS-1"})
    assert made["state"] == "active"
    assert made["matchers"] == [[{"name": "service", "op": "=", "value": "chat"}]]
    assert (await client.get(f"{URL}/{made['id']}")).json() == made
    assert (await client.get(URL)).json() == [made]
    assert (await client.get(URL, params={"state": "expired"})).json() == []


async def test_extending_keeps_the_id_and_other_matchers_make_a_new_one(client: httpx.AsyncClient) -> None:
    made = await created(client)
    same_start = {"starts_at": made["starts_at"]}
    longer = await client.put(f"{URL}/{made['id']}", json=body(ends_at=in_hours(5), created_by="bob", **same_start))
    assert longer.json()["id"] == made["id"]
    other = [[{"name": "service", "op": "=~", "value": "chat|search"}]]
    moved = (await client.put(f"{URL}/{made['id']}", json=body(matchers=other, **same_start))).json()
    assert moved["id"] != made["id"]
    assert moved["replaces"] == made["id"]
    assert (await client.get(f"{URL}/{made['id']}")).json()["state"] == "expired"
    story = (await client.get(f"{URL}/{made['id']}/audit")).json()
    assert [(entry["action"], entry["actor"]) for entry in story] == [
        ("created", "ada"), ("edited", "bob"), ("replaced", "ada"),
    ]  # fmt: skip
    assert story[0]["before"] is None
    assert story[1]["before"] == story[0]["after"]
    assert story[1]["after"]["ends_at"] > story[1]["before"]["ends_at"]
    assert story[2]["after"]["ends_at"] < story[2]["before"]["ends_at"]


async def test_an_edit_of_what_has_changed_meanwhile_is_refused(client: httpx.AsyncClient) -> None:
    made = await created(client)
    url = f"{URL}/{made['id']}"
    seen = {"if-match": (await client.get(url)).headers["etag"]}
    changed = await client.put(url, json=body(comment="mine"), headers=seen)
    assert (changed.status_code, changed.headers["etag"] != seen["if-match"]) == (200, True)
    assert (await client.put(url, json=body(comment="theirs"), headers=seen)).status_code == 412
    assert (await client.get(url)).json()["comment"] == "mine"
    again = await client.put(url, json=body(comment="theirs"), headers={"if-match": changed.headers["etag"]})
    assert (again.status_code, again.json()["comment"]) == (200, "theirs")


async def test_an_edit_that_names_no_start_keeps_it(client: httpx.AsyncClient) -> None:
    made = await created(client, starts_at=in_hours(1))
    edited = (await client.put(f"{URL}/{made['id']}", json=body(comment="later"))).json()
    assert (edited["id"], edited["starts_at"], edited["comment"]) == (made["id"], made["starts_at"], "later")


async def test_expiring_twice_is_once(client: httpx.AsyncClient) -> None:
    made = await created(client)
    first = await client.post(f"{URL}/{made['id']}/expire", params={"by": "eve"})
    assert first.json()["state"] == "expired"
    second = await client.post(f"{URL}/{made['id']}/expire", params={"by": "mallory"})
    assert (second.status_code, second.json()) == (200, first.json())
    story = (await client.get(f"{URL}/{made['id']}/audit")).json()
    assert [(entry["action"], entry["actor"]) for entry in story] == [("created", "ada"), ("expired", "eve")]


async def test_the_audit_cannot_be_changed(client: httpx.AsyncClient, conn: "Conn") -> None:
    await created(client)
    for statement in ("UPDATE silence_audit SET actor = 'nobody'", "DELETE FROM silence_audit"):
        with pytest.raises(asyncpg.RaiseError, match="keeps its rows"):
            await conn.execute(statement)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"matchers": [[{"name": "a", "op": "=~", "value": ".*"}]]}, "matchers"),
        ({"matchers": [[{"name": "a", "op": "=~", "value": "("}]]}, "matchers"),
        ({"matchers": []}, "matchers"),
        ({"matchers": [[]]}, "matchers"),
        ({"matchers": [[{"name": "a", "op": "~", "value": "x"}]]}, "matchers"),
        ({"ends_at": "2020-01-01T00:00:00Z"}, "endsAt"),
        ({"ends_at": "2099-01-01T00:00:00"}, "ends_at"),
        ({"starts_at": "2099-01-01T00:00:00Z"}, "endsAt"),
        ({"recurrence": {"rule": "FREQ=SECONDLY", "until": "2099-01-01T00:00:00Z"}}, "recurrence.until"),
        ({"recurrence": {"rule": "FREQ=SECONDLY", "until": in_hours(99)}}, "recurrence.rule"),
        ({"recurrence": {"rule": "FREQ=DAILY", "zone": "Mars/Base", "until": in_hours(99)}}, "recurrence.zone"),
        ({"remind_before": 0}, "remind_before"),
    ],
)
async def test_what_cannot_be_a_silence_is_refused_by_field(
    client: httpx.AsyncClient, changes: dict[str, Any], field: str
) -> None:
    for url in (URL, f"{URL}/preview"):
        if "2020" in str(changes) and url != URL:
            continue
        answer = await client.post(url, json=body(**changes))
        assert answer.status_code == 400, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert field in answer.json()["detail"]
    assert (await client.get(URL)).json() == []


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"ends_at": "9999-12-31T23:59:59-05:00"}, 201),
        ({"ends_at": "9999-12-31T23:59:59.999999Z", "remind_before": 3600}, 201),
        ({"starts_at": "0001-01-01T00:00:00+05:00"}, 201),
        ({"starts_at": "0001-01-01T00:00:00Z", "ends_at": "0001-01-02T00:00:00Z", "remind_before": 31_000_000}, 400),
        ({"recurrence": {"rule": "FREQ=DAILY", "until": "2099-01-01T00:00:00"}}, 400),
        ({"recurrence": {"rule": "FREQ=DAILY", "zone": "America/New_York", "until": "0001-01-01T00:00:00Z"}}, 400),
        (
            {"recurrence": {"rule": "FREQ=YEARLY", "until": in_hours(99)}, "ends_at": "9999-12-31T00:00:00Z"},
            201,
        ),
        ({"comment": "a\0b"}, 400),
        ({"created_by": "\0"}, 400),
        ({"annotations": {"ticket": "\0"}}, 400),
    ],
)
async def test_moments_at_the_ends_of_time_and_texts_with_nul_are_no_fault_of_ours(
    client: httpx.AsyncClient, changes: dict[str, Any], status: int
) -> None:
    answer = await client.post(URL, json=body(**changes))
    assert answer.status_code == status, answer.text
    assert (await client.post(f"{URL}/preview", json=body(**changes))).status_code in {200, 400}
    assert len((await client.get(URL)).json()) == (status == 201)


async def test_nul_where_somebody_is_named_is_refused(client: httpx.AsyncClient) -> None:
    made = await created(client)
    answer = await client.post(f"{URL}/{made['id']}/expire", params={"by": "\0"})
    assert (answer.status_code, "NUL" in answer.json()["detail"]) == (400, True)
    assert (await client.get("/api/v1/alerts/%00/explain")).status_code == 400
    assert (await client.get(f"{URL}/{made['id']}")).json()["state"] == "active"


async def test_an_unknown_silence_is_not_found(client: httpx.AsyncClient) -> None:
    url = f"{URL}/{uuid.uuid4()}"
    asked = [client.get(url), client.get(f"{url}/audit"), client.post(f"{url}/expire"), client.put(url, json=body())]
    assert [(await answer).status_code for answer in asked] == [404] * 4


async def test_another_site_cannot_make_a_browser_change_anything(client: httpx.AsyncClient) -> None:
    made = await created(client)
    foreign = {"sec-fetch-site": "cross-site"}
    assert (await client.post(f"{URL}/{made['id']}/expire", headers=foreign)).status_code == 403
    text = await client.post(URL, content=b"{}", headers={"content-type": "text/plain"})
    assert text.status_code == 415
    assert (await client.get(URL)).json() == [made]


async def test_a_preview_says_whom_it_would_mute_and_stores_nothing(client: httpx.AsyncClient, conn: "Conn") -> None:
    incident = await add_incident(conn, "Chat is slow")
    await add_incident(conn, "Search is slow")
    await add_alert(conn, incident, {"alertname": "Slow", "service": "chat", "instance": "1"})
    await add_alert(conn, incident, {"alertname": "Slow", "service": "chat", "instance": "2"})
    wanted = [[{"name": "service", "value": "chat"}, {"name": "instance", "op": "=~", "value": "1|3"}]]
    found = (await client.post(f"{URL}/preview", json=body(matchers=wanted))).json()
    assert (found["alert_count"], found["incident_count"]) == (1, 1)
    assert [alert["labels"]["instance"] for alert in found["alerts"]] == ["1"]
    [hit] = found["incidents"]
    assert (hit["id"], hit["muted"], hit["firing"]) == (str(incident), 1, 2)
    both = [[{"name": "instance", "op": "!=", "value": ""}]]
    assert (await client.post(f"{URL}/preview", json=body(matchers=both))).json()["alert_count"] == 2
    assert (await client.get(URL)).json() == []


async def test_a_recurring_silence_shows_its_next_window(client: httpx.AsyncClient) -> None:
    start = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    until = (start + timedelta(days=20)).isoformat()
    recurrence = {"rule": "FREQ=WEEKLY", "zone": "UTC", "until": until}
    ends_at = (start + timedelta(minutes=30)).isoformat()
    made = await created(client, starts_at=start.isoformat(), ends_at=ends_at, recurrence=recurrence)
    assert (made["state"], made["windows"]) == ("pending", 3)
    assert datetime.fromisoformat(made["starts_at"]) == start
    assert datetime.fromisoformat(made["over_at"]) == start + timedelta(days=14, minutes=30)
    assert (await client.get(f"{URL}/{made['id']}")).json()["recurrence"]["rule"] == "FREQ=WEEKLY"
