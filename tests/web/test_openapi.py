"""/openapi.json is true: every route is in it, and no answer to anything, good or bad, is one that it does not name."""

import itertools
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import pytest
from argon2 import PasswordHasher
from jsonschema import Draft202012Validator
from litestar import Litestar

from streams.settings import Settings
from tests.web.rows import add_alert, add_entry, add_incident, add_progress, add_task
from web import api, ingest
from web.openapi import PROBES

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    Conn = Connection[Record]

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(400)]
GARBAGE = ("", "x", "-1", "1", "9" * 25, "é\u0000", "a=~(", "2026-01-01T00:00:00Z")
JUNK: tuple[Any, ...] = (None, -1.5, "", [], {}, [[]], True, "9999-12-31T23:59:59Z", "\u0000", "x" * 5000)
PLAIN = {"comment": "x"}
ACTIONS: dict[str, Any] = {
    **dict.fromkeys(("acknowledge", "unacknowledge", "resolve", "reopen", "unsnooze"), PLAIN),
    "snooze": {**PLAIN, "for": "2h"},
    "split": PLAIN,
    "uncorrelate": PLAIN,
    "merge": {**PLAIN, "into": str(uuid.uuid4())},
    "redact": {"seq": 1, "reason": "x"},
    "assign": {**PLAIN, "assignee": "ada"},
    "comments": {"text": "x"},
    "links": {**PLAIN, "url": "https://x.example", "title": "x"},
    "{incident_id}": {
        **PLAIN, "title": "x", "description": "x", "severity": "info", "kind": "cost", "labels": {"a": "b"},
        "assignee": "ada",
    },
}  # fmt: skip
ENDLESS = "/api/v1/stream"
ALIKE = {
    "/api/v1/silences/{silence_id}", "/api/v1/silences/preview",
    *(f"/api/v1/incidents/{{incident_id}}/{what}" for what, good in ACTIONS.items() if good == PLAIN),
} - {"/api/v1/incidents/{incident_id}/acknowledge"}  # fmt: skip
"""Their bodies are those of another route, where each part is spoiled in turn."""


def app() -> Litestar:
    nothing: Any = None
    return api.build(Settings(), nothing, nothing, nothing, nothing, nothing, nothing, nothing)


def test_every_route_that_is_served_is_described() -> None:
    described = {
        (method.upper(), path) for path, item in app().openapi_schema.to_schema()["paths"].items() for method in item
    }
    served = set()
    for route in app().routes:
        for handler in getattr(route, "route_handlers", ()):
            if handler.include_in_schema is not False and not route.path.startswith("/openapi"):
                path = re.sub(r":[a-z]+}", "}", route.path)
                served |= {(str(method), path) for method in handler.http_methods} - {("OPTIONS", path)}
    assert served
    assert served <= described


async def test_the_document_has_the_plain_routes_too(client: httpx.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    assert {("post", path) for _, path in ingest.ROUTES} <= {(m, path) for path in paths for m in paths[path]}
    assert set(PROBES) <= set(paths)
    operations = [operation["operationId"] for item in paths.values() for operation in item.values()]
    assert len(operations) == len(set(operations))


class Checker:
    """Asks, and compares each answer with the document."""

    def __init__(self, client: httpx.AsyncClient, document: dict[str, Any]) -> None:
        self.client, self.document, self.asked, self.incident = client, document, 0, ""
        self.judges: dict[tuple[str, str, int, str], Draft202012Validator] = {}

    async def ask(self, method: str, path: str, url: str, **more: Any) -> httpx.Response:
        answer = await self.client.request(method, url, **more)
        responses = self.document["paths"][path][method]["responses"]
        if method == "get" and "{" in path and answer.status_code == 404 and "404" in responses:
            return answer  # an id that is none finds no route
        self.asked += 1
        said = f"{method} {url} {str(more)[:300]} -> {answer.status_code} {answer.text[:300]}"
        assert str(answer.status_code) in responses, said
        content = responses[str(answer.status_code)].get("content", {})
        if not answer.content:
            assert "schema" not in str(content) or not content, said
            return answer
        kind = answer.headers["content-type"].partition(";")[0]
        assert kind in content, said
        if "json" in kind:
            judge = self.judges.get(key := (method, path, answer.status_code, kind))
            if judge is None:
                schema = {**content[kind]["schema"], "components": self.document["components"]}
                judge = self.judges[key] = Draft202012Validator(schema)
            complaint = next(judge.iter_errors(answer.json()), None)
            assert complaint is None, f"{said}: {complaint and complaint.message}"
        return answer


@pytest.fixture(autouse=True)
def _quick_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.credentials._hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


@pytest.fixture
async def checker(client: httpx.AsyncClient, conn: "Conn") -> Checker:
    """Over a database that has something of everything."""
    incident = await add_incident(conn, "Cost burn")
    await add_alert(conn, incident, {"alertname": "CostBurn"}, links=[["https://x.example", "x"]])
    await add_entry(conn, incident, 1, "opened")
    await add_task(conn, incident, 1)
    await add_progress(conn, 0)
    found = Checker(client, (await client.get("/openapi.json")).json())
    found.incident = str(incident)
    return found


def body(path: str) -> Any:
    """A good body for each route that takes one."""
    until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    matcher = {"name": "a", "value": "b"}
    recurrence = {"rule": "FREQ=DAILY", "until": (datetime.now(UTC) + timedelta(days=3)).isoformat()}
    silence = {
        "matchers": [[matcher]], "ends_at": until, "created_by": "x", "comment": "x", "annotations": {"a": "b"},
        "recurrence": recurrence, "remind_before": 60, "remind_to": "x",
    }  # fmt: skip
    bodies: dict[str, Any] = {
        "/api/v2/silences": {
            "matchers": [{**matcher, "isRegex": False}], "createdBy": "x", "comment": "x",
            "startsAt": "0001-01-01T00:00:00Z", "endsAt": until,
        },
        "/api/v2/alerts": [
            {"labels": {"alertname": "A"}, "annotations": {"s": "x"}, "startsAt": until, "generatorURL": "http://x"}
        ],
        "/api/v1/alerts": {
            "source": "s", "status": "firing", "summary": "x", "labels": {"a": "b"}, "links": [{"href": "http://x"}],
        },
        "/api/v1/jobs": {
            "name": f"j{uuid.uuid4().hex}", "action": "alert", "arguments": {"summary": "x", "labels": {"a": "b"}},
            "schedule": "5 4 * * *", "zone": "UTC", "missed": "skip", "max_attempts": 2, "team": "default",
        },
        "/api/v1/dead-letters/replay": {"event_ids": ["e1"], "body": "e30=", "wait": 0},
        "/api/v1/dead-letters/drop": {"event_ids": ["e1"]},
        "/api/v1/session": {"name": "x", "password": "y"},
        "/api/v1/session/password": {"password": "x", "new_password": "long enough"},
        "/api/v1/users": {"name": "x", "role": "viewer", "teams": ["x"], "password": "long enough"},
        "/api/v1/users/{name}": {"role": "viewer", "teams": ["x"], "disabled": True, "password": "long enough"},
        "/api/v1/tokens": {"name": "x", "scopes": ["read"], "teams": ["x"], "days": 3},
        "/api/v1/job-runs": {"action": "export", "arguments": {"what": "alerts", "since": until}, "team": "default"},
        **{f"/api/v1/incidents/{{incident_id}}/{what}": good for what, good in ACTIONS.items()},
        "/api/v1/incidents/{incident_id}": ACTIONS["{incident_id}"],
        "/api/v1/incidents": {
            **ACTIONS["{incident_id}"], "team": "default", "receiver": "x",
        },
    }  # fmt: skip
    return bodies.get(path, silence)


def spoiled(good: Any) -> Iterator[Any]:
    """The body with each part of it left out or replaced, in turn."""
    if isinstance(good, dict):
        for key, value in good.items():
            yield {other: kept for other, kept in good.items() if other != key}
            for bad in itertools.chain(JUNK, spoiled(value)):
                yield {**good, key: bad}
    elif isinstance(good, list):
        for bad in itertools.chain(JUNK, spoiled(good[0])):
            yield [bad]


def urls(path: str, operation: dict[str, Any]) -> Iterator[str]:
    """Addresses with good, absent and senseless parameters, one at a time."""
    parts = [one["name"] for one in operation.get("parameters", []) if one["in"] == "path"]
    names = [one["name"] for one in operation.get("parameters", []) if one["in"] == "query"]

    def filled(value: str) -> str:
        return re.sub(r"{\w+}", quote(value, safe=""), path)

    if parts:
        yield from (filled(value) for value in (str(uuid.uuid4()), "0" * 16, "x", "é", "a b", "%00", "." * 300))
    start = filled(str(uuid.uuid4()))
    yield start
    for name, value in itertools.product(names, GARBAGE):
        yield f"{start}?{name}={quote(value, safe='')}"
    for name in names:
        yield f"{start}?{name}=1&{name}=x"


async def test_no_question_is_answered_in_a_way_that_is_not_described(checker: Checker) -> None:
    for path, item in checker.document["paths"].items():
        if "get" in item and path != ENDLESS:
            for url in urls(path, item["get"]):
                if url.count("/") == path.count("/"):
                    await checker.ask("get", path, url)
    assert checker.asked > 300


async def test_no_body_is_answered_in_a_way_that_is_not_described(checker: Checker) -> None:
    made = (await checker.ask("post", "/api/v1/silences", "/api/v1/silences", json=body("/api/v1/silences"))).json()
    for path, item in checker.document["paths"].items():
        for method, operation in item.items():
            if method in {"get", "delete"} or "requestBody" not in operation:
                continue
            url = path.replace("{silence_id}", made["id"]).replace("{incident_id}", checker.incident)
            good = body(path)
            for bad in itertools.chain(JUNK, [good], () if path in ALIKE else spoiled(good)):
                await checker.ask(method, path, url, json=bad)
            for raw in (b"", b"{", b"\xff", b"[" * 3000):
                headers = {"content-type": "application/json"}
                await checker.ask(method, path, url, content=raw, headers=headers)
            if path not in {route for _, route in ingest.ROUTES}:
                await checker.ask(method, path, url, content=b"{}", headers={"content-type": "text/plain"})
                await checker.ask(method, path, url, json=body(path), headers={"sec-fetch-site": "cross-site"})
    assert checker.asked > 400


async def test_what_ends_and_reloads_is_described_too(checker: Checker) -> None:
    made = (await checker.ask("post", "/api/v2/silences", "/api/v2/silences", json=body("/api/v2/silences"))).json()
    known = made["silenceID"]
    for silence_id in (known, known, str(uuid.uuid4())):
        await checker.ask("delete", "/api/v2/silence/{silence_id}", f"/api/v2/silence/{silence_id}")
        await checker.ask("get", "/api/v2/silence/{silence_id}", f"/api/v2/silence/{silence_id}")
        await checker.ask("post", "/api/v1/silences/{silence_id}/expire", f"/api/v1/silences/{silence_id}/expire")
    await checker.ask("delete", "/api/v2/silence/{silence_id}", "/api/v2/silence/x")
    made = (await checker.ask("post", "/api/v1/jobs", "/api/v1/jobs", json=body("/api/v1/jobs"))).json()
    for name in (made["name"], "none", "\u0000"):
        url = f"/api/v1/jobs/{quote(name)}"
        for what in ("run", "run", "pause", "resume"):
            await checker.ask("post", f"/api/v1/jobs/{{name}}/{what}", f"{url}/{what}")
        await checker.ask("get", "/api/v1/jobs/{name}", url)
        await checker.ask("delete", "/api/v1/jobs/{name}", url)
    for name, more in (("a b", {}), ("a b", {"params": {"interval": "1m"}}), ("x", {"json": {"interval": "1m"}})):
        url = f"/api/v1/heartbeats/{quote(name)}"
        await checker.ask("post", "/api/v1/heartbeats/{name}", url, **more)
        await checker.ask("delete", "/api/v1/heartbeats/{name}", url)
        await checker.ask("delete", "/api/v1/heartbeats/{name}", url)
    work = (await checker.ask("post", "/api/v1/job-runs", "/api/v1/job-runs", json=body("/api/v1/job-runs"))).json()
    for run_id in (work["id"], work["id"], str(uuid.uuid4())):
        await checker.ask("post", "/api/v1/job-runs/{run_id}/cancel", f"/api/v1/job-runs/{run_id}/cancel")
        await checker.ask("get", "/api/v1/job-runs/{run_id}", f"/api/v1/job-runs/{run_id}")
        await checker.ask("get", "/api/v1/job-runs/{run_id}/file", f"/api/v1/job-runs/{run_id}/file")
    await checker.ask("post", "/-/reload", "/-/reload")
