"""Alertmanager's API over real rows: its shapes, its orders, its quirks, and what truly mutes an alert."""

import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import pytest

from agents.rules import inhibition
from agents.rules.dedup import AlertState, Pulse
from agents.rules.inhibition import Held
from sinks import config_rows
from streams import codec, keys
from streams.records import AlertBody, Inhibitor, Kind, Severity
from streams.rules_config import load
from tests.web.rows import add_alert, add_progress

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    Conn = Connection[Record]

pytestmark = pytest.mark.postgres
NOW = datetime.now(UTC)
ZERO = "0001-01-01T00:00:00.000Z"
RULES = """
route:
  receiver: desk
  group_by: [service]
  routes:
    - {receiver: pager, matchers: [severity="critical"], continue: true}
    - {receiver: mail, matchers: [severity=~"critical|warning"], mute_time_intervals: [always]}
receivers:
  - {name: desk, webhook_configs: [{url: "http://desk.example.org/secret-path"}]}
  - {name: pager}
  - {name: mail}
inhibit_rules:
  - {source_matchers: [severity="critical"], target_matchers: [severity="warning"], equal: [service]}
time_intervals:
  - {name: always, time_intervals: [{months: ["1:12"]}]}
incidents: {}
"""


def stored(labels: dict[str, str], **pulse: Any) -> dict[str, Any]:
    """State and pulse as a worker keeps them."""
    body = AlertBody(
        source="alertmanager", severity=Severity.ERROR, kind=Kind.OTHER, summary="", description="", labels=labels,
        generator_url="http://prometheus.example.org/graph",
    )  # fmt: skip
    state = AlertState(
        team="default", fingerprint=keys.fingerprint(labels), body=codec.encode(body), groups=(), config_version=1
    )  # fmt: skip
    made = Pulse(
        content=b"", firing=True, occurrence=1, revision=1, event_at=NOW, starts_at=NOW, ends_at=None,
        first_seen_at=NOW, last_seen_at=NOW, count=1, offset=0, row_count=1, row_at=NOW,
        **{"timeout_at": NOW + timedelta(hours=4), **pulse},
    )  # fmt: skip
    return {"state": codec.encode(state), "pulse": codec.encode(made)}


async def fires(conn: "Conn", service: str, severity: str, **given: Any) -> dict[str, str]:
    labels = {"alertname": "A", "service": service, "severity": severity}
    await add_alert(conn, None, labels, **{**stored(labels), **given})
    return labels


@pytest.fixture
async def rules(conn: "Conn") -> None:
    await conn.execute("TRUNCATE config_versions")
    await config_rows.store(conn, RULES, "test")


def post_body(**changes: Any) -> dict[str, Any]:
    matchers = [{"name": "service", "value": "chat", "isRegex": False}]
    ends_at = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    said = {"matchers": matchers, "startsAt": ZERO, "endsAt": ends_at, "createdBy": "ada", "comment": "c"}
    return {**said, **changes}


async def silenced(client: httpx.AsyncClient, **changes: Any) -> str:
    answer = await client.post("/api/v2/silences", json=post_body(**changes))
    assert answer.status_code == 200, answer.text
    return str(answer.json()["silenceID"])


async def alerts(client: httpx.AsyncClient, query: str = "") -> dict[str, Any]:
    answer = await client.get(f"/api/v2/alerts{query}")
    assert answer.status_code == 200, answer.text
    return {f"{one['labels']['service']}/{one['labels']['severity']}": one for one in answer.json()}


@pytest.mark.usefixtures("rules")
async def test_status_says_by_what_an_alert_is_muted(client: httpx.AsyncClient, conn: "Conn") -> None:
    await add_progress(conn, 0)
    await conn.execute("UPDATE stream_progress SET topic = 'incident-inputs'")
    source = await fires(conn, "chat", "critical")
    await fires(conn, "chat", "warning")
    await fires(conn, "search", "warning")
    await fires(conn, "search", "info")
    await _heard(conn, source)
    silence = await silenced(client, matchers=[{"name": "severity", "value": "info|x", "isRegex": True}])
    found = await alerts(client)
    assert {name: one["status"] for name, one in found.items()} == {
        "chat/critical": {"state": "active", "silencedBy": [], "inhibitedBy": [], "mutedBy": ["always"]},
        "chat/warning": {
            "state": "suppressed", "silencedBy": [], "inhibitedBy": [keys.fingerprint(source)], "mutedBy": ["always"],
        },
        "search/warning": {"state": "suppressed", "silencedBy": [], "inhibitedBy": [], "mutedBy": ["always"]},
        "search/info": {"state": "suppressed", "silencedBy": [silence], "inhibitedBy": [], "mutedBy": []},
    }  # fmt: skip
    assert set(await alerts(client, "?silenced=false")) == {"chat/critical", "chat/warning", "search/warning"}
    assert set(await alerts(client, "?inhibited=false")) == {"chat/critical", "search/warning", "search/info"}
    assert set(await alerts(client, "?active=false")) == {"chat/warning", "search/warning", "search/info"}
    assert (await client.delete(f"/api/v2/silence/{silence}")).status_code == 200
    assert (await alerts(client))["search/info"]["status"]["state"] == "active"


async def _heard(conn: "Conn", labels: dict[str, str]) -> None:
    entries = inhibition.entries_of(load(RULES).inhibit_rules, labels)
    assert entries
    source = Inhibitor(identity="i", fingerprint=keys.fingerprint(labels), revision=1, entries=entries)
    value = codec.encode(Held(source, NOW))
    await conn.execute("INSERT INTO partition_rules VALUES (0, 'source:i', 1, $1)", value)


@pytest.mark.usefixtures("rules")
async def test_an_alert_has_its_own_end_origin_and_receivers(client: httpx.AsyncClient, conn: "Conn") -> None:
    await fires(conn, "chat", "critical", annotations={"summary": "s"})
    await fires(conn, "gone", "critical", **stored({}, timeout_at=NOW - timedelta(seconds=1)))
    found = await alerts(client)
    assert list(found) == ["chat/critical"]
    [alert] = found.values()
    assert set(alert) == {
        "annotations", "endsAt", "fingerprint", "generatorURL", "labels", "receivers", "startsAt", "status",
        "updatedAt",
    }  # fmt: skip
    assert datetime.fromisoformat(alert["endsAt"]) == NOW + timedelta(hours=4)
    assert alert["generatorURL"] == "http://prometheus.example.org/graph"
    assert alert["receivers"] == [{"name": "pager"}, {"name": "mail"}]
    assert alert["annotations"] == {"summary": "s"}
    assert alert["fingerprint"] == keys.fingerprint(alert["labels"])
    assert await alerts(client, "?receiver=pag") == {}
    assert len(await alerts(client, "?receiver=pag.*")) == 1
    assert len(await alerts(client, "?filter=service%3D~%22c.*%22&filter=severity!%3Dinfo")) == 1
    assert await alerts(client, "?filter=service%3D%22other%22") == {}


@pytest.mark.usefixtures("rules")
async def test_groups_are_those_of_the_routes(client: httpx.AsyncClient, conn: "Conn") -> None:
    await fires(conn, "chat", "critical")
    await fires(conn, "chat", "warning")
    await fires(conn, "ask", "info")

    async def groups(query: str = "") -> list[tuple[Any, ...]]:
        found = (await client.get(f"/api/v2/alerts/groups{query}")).json()
        return [(one["labels"]["service"], one["receiver"]["name"], said(one["alerts"])) for one in found]

    def said(found: list[dict[str, Any]]) -> list[tuple[str, list[str]]]:
        return [(one["labels"]["severity"], one["status"]["mutedBy"]) for one in found]

    assert await groups() == [
        ("ask", "desk", [("info", [])]),
        ("chat", "mail", [("critical", ["always"]), ("warning", ["always"])]),
        ("chat", "pager", [("critical", [])]),
    ]
    assert await groups("?muted=false&receiver=pager|mail") == [("chat", "pager", [("critical", [])])]
    assert await groups("?filter=service%3Dask") == [("ask", "desk", [("info", [])])]


async def test_silences_are_listed_as_alertmanager_sorts_and_filters_them(client: httpx.AsyncClient) -> None:
    def until(hours: float, start: float = 0) -> dict[str, str]:
        now = datetime.now(UTC)
        return {
            "startsAt": (now + timedelta(hours=start)).isoformat(),
            "endsAt": (now + timedelta(hours=hours)).isoformat(),
        }

    late, soon = await silenced(client, **until(5)), await silenced(client, **until(2))
    next_one = await silenced(client, **until(9, 1), createdBy="bob")
    over = await silenced(client, **until(3), matchers=[{"name": "x", "value": "", "isRegex": False, "isEqual": False}])
    await client.delete(f"/api/v2/silence/{over}")

    async def ids(query: str = "") -> list[str]:
        return [one["id"] for one in (await client.get(f"/api/v2/silences{query}")).json()]

    assert await ids() == [soon, late, next_one, over]
    assert await ids("?filter=service%3Dchat") == [soon, late, next_one]
    assert await ids("?filter=service%3D~%22ch.*%22&creator=bob") == [next_one]
    assert await ids("?filter=service%3Dother") == []
    assert await ids("?filter=service%3D%22%22") == [over]
    shown = (await client.get(f"/api/v2/silence/{over}")).json()
    assert shown["status"] == {"state": "expired"}
    assert shown["matchers"] == [{"name": "x", "value": "", "isRegex": False, "isEqual": False}]
    assert set(shown) == {
        "id", "status", "updatedAt", "comment", "createdBy", "endsAt", "matchers", "startsAt", "annotations",
    }  # fmt: skip


async def test_an_edit_by_id_keeps_it_or_makes_a_new_one(client: httpx.AsyncClient) -> None:
    made = await silenced(client)
    shown = (await client.get(f"/api/v2/silence/{made}")).json()
    longer = {**shown, "endsAt": (datetime.now(UTC) + timedelta(hours=8)).isoformat()}
    assert (await client.post("/api/v2/silences", json=longer)).json() == {"silenceID": made}
    matchers = [{"name": "service", "value": "search", "isRegex": False}]
    moved = (await client.post("/api/v2/silences", json={**shown, "matchers": matchers})).json()["silenceID"]
    assert moved != made
    assert (await client.get(f"/api/v2/silence/{made}")).json()["status"]["state"] == "expired"
    unknown = await client.post("/api/v2/silences", json={**shown, "id": str(uuid.uuid4())})
    assert (unknown.status_code, "not found" in unknown.json()) == (404, True)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"endsAt": "2020-01-01T00:00:00Z"}, "end time can't be in the past"),
        ({"endsAt": ZERO}, "start time must be before end time"),
        ({"startsAt": "2090-01-01T00:00:00Z"}, "start time must be before end time"),
        ({"matchers": [{"name": "a", "value": ".*", "isRegex": True}]}, "must not match the empty string"),
        ({"matchers": [{"name": "a", "value": "(", "isRegex": True}]}, "refused"),
        ({"matchers": []}, "matchers"),
        ({"comment": None}, "comment"),
    ],
)
async def test_a_refusal_is_a_json_string(client: httpx.AsyncClient, changes: dict[str, Any], reason: str) -> None:
    answer = await client.post("/api/v2/silences", json=post_body(**changes))
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/json"
    assert reason in answer.json()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", f"/api/v2/silence/{uuid.UUID(int=404)}", 404),
        ("DELETE", f"/api/v2/silence/{uuid.UUID(int=404)}", 404),
        ("GET", "/api/v2/silence/7", 422),
        ("GET", "/api/v2/alerts?filter=a", 400),
        ("GET", "/api/v2/alerts?filter=a%3D~%22(%22", 400),
        ("GET", "/api/v2/alerts?receiver=(", 400),
        ("GET", "/api/v2/alerts?active=perhaps", 400),
        ("GET", "/api/v2/alerts/groups?filter=a", 400),
        ("GET", "/api/v2/silences?filter=a", 400),
    ],
)
async def test_errors_are_json_strings(client: httpx.AsyncClient, method: str, path: str, status: int) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == status
    assert isinstance(answer.json(), str)


@pytest.mark.usefixtures("rules")
async def test_status_shows_the_rules_without_secrets_and_receivers_are_named(client: httpx.AsyncClient) -> None:
    found = (await client.get("/api/v2/status")).json()
    assert set(found) == {"cluster", "versionInfo", "config", "uptime"}
    assert found["cluster"]["status"] == "disabled"
    assert set(found["versionInfo"]) == {"version", "revision", "branch", "buildUser", "buildDate", "goVersion"}
    assert "secret-path" not in found["config"]["original"]
    assert "incidents:" not in found["config"]["original"]
    assert load(found["config"]["original"]).receivers.keys() == {"desk", "pager", "mail"}
    assert datetime.fromisoformat(found["uptime"]) <= datetime.now(UTC)
    assert (await client.get("/api/v2/receivers")).json() == [{"name": "desk"}, {"name": "pager"}, {"name": "mail"}]


async def test_probes_answer_to_alertmanagers_names(client: httpx.AsyncClient) -> None:
    assert (await client.get("/-/healthy")).status_code == 200
    assert {"role", "parts"} <= (await client.get("/-/ready")).json().keys()


def test_what_is_listed_is_what_the_schema_of_alertmanager_requires() -> None:
    from web.alertmanager import GettableAlert  # noqa: PLC0415 - only its description

    [schema] = msgspec.json.schema_components([GettableAlert])[1:]
    required = set(json.loads(json.dumps(schema))["GettableAlert"]["required"])
    assert {
        "labels",
        "receivers",
        "fingerprint",
        "startsAt",
        "updatedAt",
        "endsAt",
        "annotations",
        "status",
    } <= required


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"endsAt": "9999-12-31T23:59:59-05:00"}, 200),
        ({"startsAt": "0001-01-01T00:00:00+05:00"}, 200),
        ({"comment": "\0"}, 400),
    ],
)
async def test_moments_at_the_ends_of_time_and_nul_are_no_fault_of_ours(
    client: httpx.AsyncClient, changes: dict[str, str], status: int
) -> None:
    matchers = [{"name": "a", "value": "b", "isRegex": False}]
    times = {"startsAt": NOW.isoformat(), "endsAt": (NOW + timedelta(hours=9)).isoformat()}
    silence = {"matchers": matchers, **times, "createdBy": "ada", "comment": "x", **changes}
    answer = await client.post("/api/v2/silences", json=silence)
    assert answer.status_code == status, answer.text
    assert len((await client.get("/api/v2/silences")).json()) == (status == 200)
    filtered = await client.get("/api/v2/alerts", params={"filter": r'a="\x00"'})
    assert filtered.status_code in {200, 400}
