"""Who is told next of an incident, as the API and its alerts' stories say it."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import pytest

from agents.rules.escalation import Escalation, Later, Phase
from agents.rules.group_state import GroupState
from sinks import config_rows
from streams import codec, keys
from streams.records import IncidentStatus, Kind, Severity
from tests.web.rows import add_alert, add_incident
from tests.web.test_alertmanager_api import stored

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    Conn = Connection[Record]

pytestmark = pytest.mark.postgres
LABELS = {"alertname": "Down", "service": "chat"}
NOW = datetime.now(UTC)
RULES = """
route: {receiver: desk, group_by: [service]}
receivers: [{name: desk, webhook_configs: [{url: "http://127.0.0.1:9/desk"}]}]
incidents:
  people:
    ada: {webhook_configs: [{url: "http://127.0.0.1:9/ada"}]}
    bob: {webhook_configs: [{url: "http://127.0.0.1:9/bob"}]}
  policies:
    on-call: {steps: [{targets: [{person: ada}]}, {delay: 10m, targets: [{person: ada}, {receiver: desk}]}]}
  escalation: [{policy: on-call}]
"""
RUNNING = Escalation(
    policy="on-call", step=2, next_at=NOW + timedelta(minutes=4), told=("@ada",),
    later=(Later("@bob", NOW + timedelta(hours=3), 1, 1),),
)  # fmt: skip


async def put(conn: "Conn", state: Escalation | None) -> uuid.UUID:
    """An incident of one firing alert whose escalation stands so."""
    await conn.execute("TRUNCATE groups, config_versions")
    await config_rows.store(conn, RULES, "test")
    incident = await add_incident(conn, "Down", group_key="g", receiver="desk")
    await add_alert(conn, incident, LABELS, **stored(LABELS))
    group = GroupState(
        team="default", route="{}", labels={"service": "chat"}, receiver="desk", config_version=1, revision=9,
        incident_id=str(incident), status=IncidentStatus.OPEN, severity=Severity.ERROR, kind=Kind.OTHER, title="t",
        description="", opened_at=NOW, updated_at=NOW, escalation=state,
    )  # fmt: skip
    await conn.execute("INSERT INTO groups VALUES ('g', 0, 'default', '{}', '{}', 9, $1, $2)", codec.encode(group), NOW)
    await conn.execute("UPDATE incident_alerts SET state = ''")
    return incident


async def seen(client: httpx.AsyncClient, incident: uuid.UUID) -> tuple[Any, list[str]]:
    """The detail's escalation, and what the alert's story says of policies."""
    detail = await client.get(f"/api/v1/incidents/{incident}")
    assert detail.status_code == 200, detail.text
    story = (await client.get(f"/api/v1/alerts/{keys.fingerprint(LABELS)}/explain")).json()
    return detail.json()["escalation"], [one["text"] for one in story["next"] if "policy" in one["text"].lower()]


async def test_while_the_clock_runs(client: httpx.AsyncClient, conn: "Conn") -> None:
    found, story = await seen(client, await put(conn, RUNNING))
    assert datetime.fromisoformat(found.pop("next_at")) == RUNNING.next_at
    assert found == {
        "policy": "on-call", "state": "running", "step": 2, "round": 1, "next_targets": ["@ada", "desk"],
        "told": ["@ada"], "held": "",
    }  # fmt: skip
    assert story == [
        "Step 2 of policy on-call tells @ada and desk, unless somebody acknowledges it before.",
        "Step 1 of policy on-call tells @bob, unless somebody acknowledges it before.",
    ]


async def test_when_everybody_else_was_told_the_sleeper_is_next(client: httpx.AsyncClient, conn: "Conn") -> None:
    done = msgspec.structs.replace(RUNNING, phase=Phase.DONE, next_at=None)
    found, _ = await seen(client, await put(conn, done))
    assert (found["state"], found["step"], found["next_targets"]) == ("done", 1, ["@bob"])


async def test_while_somebody_has_it(client: httpx.AsyncClient, conn: "Conn") -> None:
    stopped = msgspec.structs.replace(RUNNING, phase=Phase.STOPPED, next_at=None, left=timedelta(minutes=4))
    found, story = await seen(client, await put(conn, stopped))
    assert (found["state"], found["next_at"], found["next_targets"]) == ("stopped", None, [])
    assert story == ["Policy on-call tells nobody more while somebody has the incident."]


async def test_without_a_policy(client: httpx.AsyncClient, conn: "Conn") -> None:
    assert await seen(client, await put(conn, None)) == (None, [])
