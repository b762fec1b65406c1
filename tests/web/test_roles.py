"""Roles x operations: one table, compared with /openapi.json, and asked of a gateway with every kind of credential."""

import re
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from streams.settings import Settings
from tests.web.rows import add_alert, add_entry, add_incident
from tests.web.signing_in import add_token, add_user, bearer, clear, clients, guarded

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    Conn = Connection[Record]

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(400)]

OPEN = {
    "get /healthz", "get /readyz", "get /-/healthy", "get /-/ready", "post /api/v1/session",
}  # fmt: skip
INGEST = {"post /api/v1/alerts", "post /api/v2/alerts", "post /api/v1/heartbeats/{name}"}
READ = {
    "get /metrics", "get /api/v1/session", "delete /api/v1/session", "post /api/v1/session/password",
    "get /api/v1/incidents", "get /api/v1/incidents/{incident_id}", "get /api/v1/incidents/{incident_id}/timeline",
    "get /api/v1/alerts", "get /api/v1/alerts/{fingerprint}/explain", "get /api/v1/receivers",
    "get /api/v1/tables", "get /api/v1/tables/{table}/{key}", "get /api/v1/totals", "get /api/v1/stream",
    "get /api/v1/silences", "get /api/v1/silences/{silence_id}", "get /api/v1/silences/{silence_id}/audit",
    "get /api/v1/jobs", "get /api/v1/jobs/{name}", "get /api/v1/job-runs", "get /api/v1/job-runs/{run_id}",
    "get /api/v1/job-runs/{run_id}/file", "get /api/v1/heartbeats",
    "get /api/v1/dead-letters",
    "get /api/v2/alerts", "get /api/v2/alerts/groups", "get /api/v2/silences", "get /api/v2/silence/{silence_id}",
    "get /api/v2/status", "get /api/v2/receivers",
}  # fmt: skip
ACT = {
    "post /api/v1/incidents", "patch /api/v1/incidents/{incident_id}",
    *(f"post /api/v1/incidents/{{incident_id}}/{what}" for what in (
        "acknowledge", "unacknowledge", "resolve", "reopen", "snooze", "unsnooze", "assign", "comments", "links",
        "merge", "split", "redact", "uncorrelate",
    )),
    "post /api/v1/silences", "put /api/v1/silences/{silence_id}", "post /api/v1/silences/{silence_id}/expire",
    "post /api/v1/silences/preview",
    "post /api/v1/dead-letters/replay", "post /api/v1/dead-letters/drop",
    "post /api/v1/jobs/{name}/run",
    "post /api/v1/jobs/{name}/pause", "post /api/v1/jobs/{name}/resume", "post /api/v1/job-runs",
    "post /api/v1/job-runs/{run_id}/cancel", "delete /api/v1/heartbeats/{name}",
    "post /api/v2/silences", "delete /api/v2/silence/{silence_id}",
}  # fmt: skip
ADMIN = {
    "get /api/v1/users", "post /api/v1/users", "get /api/v1/users/{name}", "patch /api/v1/users/{name}",
    "get /api/v1/tokens", "post /api/v1/tokens", "delete /api/v1/tokens/{token_id}", "get /api/v1/audit",
    "post /-/reload", "post /api/v1/jobs", "delete /api/v1/jobs/{name}",
}  # fmt: skip
TABLE = {**dict.fromkeys(OPEN, ""), **dict.fromkeys(INGEST, "ingest"), **dict.fromkeys(READ, "read"),
         **dict.fromkeys(ACT, "act"), **dict.fromkeys(ADMIN, "admin")}  # fmt: skip
WHO = {
    "nobody": set(),
    "ingest token": {"ingest"},
    "read token": {"read"},
    "act token": {"read", "act"},
    "admin token": {"ingest", "read", "act", "admin"},
    "viewer": {"read"},
    "responder": {"read", "act"},
    "admin": {"ingest", "read", "act", "admin"},
}


@pytest.fixture
async def url(settings: Settings, conn: "Conn") -> AsyncIterator[str]:
    await clear(conn)
    async with guarded(settings) as address:
        yield address


async def test_every_operation_has_a_row_and_is_refused_to_who_may_not(url: str, conn: "Conn") -> None:
    for name in ("viewer", "responder", "admin"):
        await add_user(conn, name, name)
    tokens = {f"{scope} token": await add_token(conn, scope, scope) for scope in ("ingest", "read", "act", "admin")}
    async with AsyncExitStack() as stack:
        people = await stack.enter_async_context(clients(url, "viewer", "responder", "admin"))
        asking = dict(zip(("viewer", "responder", "admin"), people, strict=True))
        for name, headers in {"nobody": {}, **{name: bearer(token) for name, token in tokens.items()}}.items():
            asking[name] = await stack.enter_async_context(
                httpx.AsyncClient(base_url=url, timeout=30, headers=headers)
            )  # fmt: skip
        document = (await asking["admin"].get("/openapi.json")).json()
        described = {f"{method} {path}" for path, item in document["paths"].items() for method in item}
        assert described == set(TABLE), f"say who may: {described ^ set(TABLE)}"
        wrong = []
        for operation, needed in sorted(TABLE.items(), key=lambda item: "session" in item[0]):
            said = document["paths"][operation.partition(" ")[2]][operation.partition(" ")[0]]["security"]
            assert (said == []) == (not needed), operation
            if needed:
                assert said[0] == {"token": [needed]}, operation
            for who, scopes in WHO.items():
                if operation.startswith("delete /api/v1/session") and who in {"viewer", "responder", "admin"}:
                    continue  # it would sign them out
                status = await _asked(asking[who], operation)
                refused = 401 if who == "nobody" else 403
                allowed = not needed or needed in scopes
                if allowed == (status == refused) and not _by_password(operation, who, status):
                    wrong.append(f"{who}: {operation} -> {status}")
        assert wrong == []


def _by_password(operation: str, who: str, status: int) -> bool:
    """Signing in refuses a wrong password to everybody; a token has no password to change."""
    if operation == "post /api/v1/session":
        return True
    return operation == "post /api/v1/session/password" and who.endswith("token") and status == 403


async def _asked(client: httpx.AsyncClient, operation: str) -> int:
    method, _, path = operation.partition(" ")
    target = re.sub(r"{(\w+)}", lambda found: "nobody" if found[1] == "name" else str(uuid.UUID(int=7)), path)
    body: dict[str, Any] = {} if method in {"get", "delete"} else {"json": {}}
    async with client.stream(method.upper(), target, **body) as answer:
        return answer.status_code


async def test_what_is_another_teams_looks_as_if_it_did_not_exist(url: str, conn: "Conn") -> None:
    await add_user(conn, "ada", "responder", ["chat"])
    mine = await add_incident(conn, "Mine", team="chat")
    theirs = await add_incident(conn, "Theirs", team="search")
    await add_alert(conn, mine, {"alertname": "Mine"}, team="chat", fingerprint="a" * 16)
    await add_alert(conn, theirs, {"alertname": "Theirs"}, team="search", fingerprint="b" * 16)
    await add_entry(conn, theirs, 1, "opened")
    root = bearer(await add_token(conn, "root", "admin"))
    search = bearer(await add_token(conn, "search", "act", teams=["search"]))
    until = "2099-01-01T00:00:00Z"
    body = {
        "matchers": [[{"name": "a", "value": "b"}]], "ends_at": until, "created_by": "x", "comment": "c",
    }  # fmt: skip
    async with clients(url, "ada") as (ada,), httpx.AsyncClient(base_url=url, timeout=20) as other:
        silence = (await other.post("/api/v1/silences", json=body, headers=search)).json()
        everybodys = (await other.post("/api/v1/silences", json=body, headers=root)).json()
        assert (silence["team"], everybodys["team"]) == ("search", "")
        for path in (
            f"/api/v1/incidents/{theirs}", f"/api/v1/incidents/{theirs}/timeline", f"/api/v1/alerts/{'b' * 16}/explain",
            f"/api/v1/silences/{silence['id']}", f"/api/v1/silences/{silence['id']}/audit",
            f"/api/v2/silence/{silence['id']}",
        ):  # fmt: skip
            assert (await ada.get(path)).status_code == 404, path
            assert (await other.get(path, headers=root)).status_code == 200, path
        assert (await ada.put(f"/api/v1/silences/{silence['id']}", json=body)).status_code == 404
        assert (await ada.post(f"/api/v1/silences/{silence['id']}/expire")).status_code == 404
        assert (await ada.delete(f"/api/v2/silence/{silence['id']}")).status_code == 404
        assert (await ada.post(f"/api/v1/incidents/{theirs}/acknowledge", json={})).status_code == 404
        assert (await ada.post("/api/v1/incidents", json={"title": "x"})).status_code == 503  # taken, without Kafka
        for seq in (1, 2):
            redaction = {"seq": seq, "reason": "x"}
            assert (await ada.post(f"/api/v1/incidents/{theirs}/redact", json=redaction)).status_code == 404
        await conn.execute("UPDATE incidents SET parent_id = $1 WHERE id = $2", theirs, mine)
        assert (await ada.get(f"/api/v1/incidents/{mine}")).json()["parent"] is None
        assert (await other.get(f"/api/v1/incidents/{mine}", headers=root)).json()["parent"]["title"] == "Theirs"
        for what, status in (("replay", 403), ("rebuild", 403), ("export", 202)):
            work = await ada.post("/api/v1/job-runs", json={"action": what})
            assert work.status_code == status, what
        sender = bearer(await add_token(conn, "sender", "ingest", teams=["search"]))
        beat = await other.post("/api/v1/heartbeats/x?interval=1m", headers=sender)
        assert (beat.status_code, beat.json()["team"]) == (200, "search")
        assert (await ada.post(f"/api/v1/silences/{everybodys['id']}/expire")).status_code == 403
        assert (await ada.post("/api/v1/silences", json={**body, "team": "search"})).status_code == 403
        for path in (
            "/api/v1/incidents", "/api/v1/alerts", f"/api/v1/alerts?incident={theirs}", "/api/v2/alerts",
            "/api/v2/alerts/groups", "/api/v1/incidents?team=search",
        ):  # fmt: skip
            answer = await ada.get(path)
            assert (answer.status_code, "Theirs" in answer.text) == (200, False), path
        assert "Mine" in (await ada.get("/api/v1/incidents")).text
        assert "Mine" in (await ada.get("/api/v2/alerts")).text
        for path in ("/api/v1/silences", "/api/v2/silences"):
            found = (await ada.get(path)).text
            assert (silence["id"] in found, everybodys["id"] in found) == (False, True)
        preview = await ada.post("/api/v1/silences/preview", json=body | {"matchers": [[
            {"name": "alertname", "op": "=~", "value": ".+"}]]})  # fmt: skip
        assert preview.json()["alert_count"] == 1
        assert sum((await ada.get("/api/v1/totals")).json()["open"].values()) == 1
        async with ada.stream("GET", "/api/v1/stream") as stream:
            said, lines = "", stream.aiter_lines()
            while "event: hello" not in said:
                said += await anext(lines)
            await conn.execute(
                "UPDATE incidents SET revision = revision + 1, committed_at = clock_timestamp(), updated_at = now()"
            )
            while "Mine" not in said:
                said += await anext(lines)
        assert "Theirs" not in said
