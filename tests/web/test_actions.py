"""What the API says of actions before, and without, a worker that decides them. How they end is told in tests/flow."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import httpx
import pytest

from streams import keys
from tests.web.rows import add_incident

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    Conn = Connection[Record]

pytestmark = pytest.mark.postgres


def url(incident: object, what: str = "acknowledge") -> str:
    return f"/api/v1/incidents/{incident}/{what}"


async def test_an_unknown_incident_is_404_and_one_that_nobody_can_take_is_503(
    client: httpx.AsyncClient, conn: "Conn"
) -> None:
    assert (await client.post(url(uuid.uuid4()))).status_code == 404
    answer = await client.post(url(await add_incident(conn, "Slow")), json={"comment": "on it"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert "Kafka" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("what", "body", "field"),
    [
        ("snooze", {}, "until"),
        ("snooze", {"for": "2 moons"}, "for"),
        ("snooze", {"for": "2h", "until": "2030-01-01T00:00:00Z"}, "until"),
        ("snooze", {"until": "2030-01-01T00:00:00"}, "until"),
        ("comments", {"text": ""}, "text"),
        ("comments", {"text": "a\u0000"}, "text"),
        ("links", {"url": "javascript:alert(1)"}, "url"),
        ("assign", {}, "assignee"),
        ("assign", {"assignee": "x" * 201}, "assignee"),
    ],
)
async def test_a_body_that_cannot_be_used_is_400_and_names_the_field(
    client: httpx.AsyncClient, conn: "Conn", what: str, body: dict[str, object], field: str
) -> None:
    answer = await client.post(url(await add_incident(conn, "Slow"), what), json=body)
    assert answer.status_code == 400
    assert field in answer.json()["detail"]


async def test_an_edit_of_another_revision_is_412(client: httpx.AsyncClient, conn: "Conn") -> None:
    incident = await add_incident(conn, "Slow", revision=7)
    there = f"/api/v1/incidents/{incident}"
    assert (await client.get(there)).headers["etag"] == '"7"'
    old = await client.patch(there, json={"title": "Dear"}, headers={"if-match": '"6"'})
    assert (old.status_code, old.headers["content-type"]) == (412, "application/problem+json")
    for fits in ('"7"', 'W/"7"', '"6", "7"', "*"):
        assert (await client.patch(there, json={"title": "Dear"}, headers={"if-match": fits})).status_code == 503


async def test_what_is_known_to_have_ended_is_answered_without_kafka(client: httpx.AsyncClient, conn: "Conn") -> None:
    incident = await add_incident(conn, "Slow", handling='{"assignee": "ada", "links": [{"url": "u", "title": ""}]}')
    for key, outcome, reason in (("one", "done", ""), ("two", "refused", "it is resolved")):
        known = keys.derived_id("action", "ada", "acknowledge", incident, key)
        await conn.execute(
            "INSERT INTO actions (id, incident_id, group_key, team, actor, action, outcome, reason, asked_at,"
            " decided_at) VALUES ($1, $2, 'g', 'default', 'ada', 'acknowledge', $3, $4, now(), now())",
            known, incident, outcome, reason,
        )  # fmt: skip
        answer = await client.post(url(incident), headers={"idempotency-key": key, "x-incidents-actor": "ada"})
        if outcome == "done":
            assert (answer.status_code, answer.json()["assignee"]) == (200, "ada")
            assert answer.headers["etag"] == '"1"'
        else:
            assert (answer.status_code, answer.json()["detail"]) == (409, reason)
    assert (await client.post(url(incident), headers={"idempotency-key": "x" * 256})).status_code == 400


async def test_a_timeline_and_the_audit_of_actions_stay_as_they_are(conn: "Conn") -> None:
    incident = await add_incident(conn, "Slow")
    await conn.execute(
        "INSERT INTO timeline (incident_id, seq, at, event, actor, detail) VALUES ($1, 1, now(), 'x', 'y', '{}')",
        incident,
    )
    for statement in ("UPDATE timeline SET actor = 'z'", "DELETE FROM timeline", "UPDATE timeline SET detail = '[]'"):
        with pytest.raises(Exception, match="keeps its rows"):
            await conn.execute(statement)
    async with conn.transaction():
        await conn.execute("SET LOCAL incidents.redacting = 'on'")
        with pytest.raises(Exception, match="keeps its rows"):
            async with conn.transaction():
                await conn.execute("UPDATE timeline SET actor = 'z'")
        await conn.execute("UPDATE timeline SET detail = '[]'")
    with pytest.raises(Exception, match="keeps its rows"):
        await conn.execute("UPDATE timeline SET detail = '{}'")


async def test_a_snooze_may_be_given_as_a_duration(client: httpx.AsyncClient, conn: "Conn") -> None:
    until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    incident = await add_incident(conn, "Slow")
    for body in ({"for": "2h"}, {"until": until}):
        assert (await client.post(url(incident, "snooze"), json=body)).status_code == 503
