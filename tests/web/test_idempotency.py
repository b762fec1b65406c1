"""A POST that is repeated with its Idempotency-Key is done once, whoever repeats it first."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from streams.settings import Settings
from web.database import Database
from web.idempotency import idempotent

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    Conn = Connection[Record]

pytestmark = pytest.mark.postgres
URL = "/api/v1/silences"
BODY = {
    "matchers": [[{"name": "service", "value": "chat"}]],
    "ends_at": (datetime.now(UTC) + timedelta(days=2)).isoformat(),
    "created_by": "ada",
    "comment": "deploying",
}


async def test_a_repeat_has_the_first_answer_and_no_effect(client: httpx.AsyncClient) -> None:
    key = {"idempotency-key": uuid.uuid4().hex}
    first = await client.post(URL, json=BODY, headers=key)
    again = await client.post(URL, json=BODY, headers=key)
    assert (first.status_code, again.status_code, again.json()) == (201, 201, first.json())
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["etag"] == first.headers["etag"]
    assert len((await client.get(URL)).json()) == 1
    other = await client.post(URL, json={**BODY, "comment": "else"}, headers=key)
    assert (other.status_code, "Idempotency-Key" in other.json()["detail"]) == (422, True)


async def test_many_at_once_are_one(client: httpx.AsyncClient) -> None:
    key = {"idempotency-key": uuid.uuid4().hex}
    answers = await asyncio.gather(*(client.post(URL, json=BODY, headers=key) for _ in range(8)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 201}) == 1
    assert len((await client.get(URL)).json()) == 1


async def test_what_was_refused_may_be_tried_again(client: httpx.AsyncClient) -> None:
    key = {"idempotency-key": uuid.uuid4().hex}
    assert (await client.post(URL, json={}, headers=key)).status_code == 400
    assert (await client.post(URL, json=BODY, headers=key)).status_code == 201
    assert (await client.post(URL, json=BODY, headers={"idempotency-key": "x" * 256})).status_code == 400


async def test_a_secret_is_never_kept(client: httpx.AsyncClient, conn: "Conn") -> None:
    key, name = {"idempotency-key": uuid.uuid4().hex}, uuid.uuid4().hex
    body = {"name": name, "scopes": ["read"]}
    secret = (await client.post("/api/v1/tokens", json=body, headers=key)).json()["secret"]
    again = await client.post("/api/v1/tokens", json=body, headers=key)
    assert again.status_code == 409
    assert secret.encode() not in [row["body"] for row in await conn.fetch("SELECT body FROM kept_answers")]
    assert secret not in again.text


async def test_an_answer_is_kept_before_it_is_given(settings: Settings, conn: "Conn") -> None:
    seen = []
    key = uuid.uuid4().hex
    scope = {"type": "http", "method": "POST", "path": "/api/v1/x", "headers": [(b"idempotency-key", key.encode())]}

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        status = await conn.fetchval("SELECT status FROM kept_answers WHERE key = $1", key)
        seen.append((message["type"].rpartition(".")[2], status))

    database = Database(settings)
    await database.open()
    await idempotent(app, database, 100)(scope, receive, send)
    await database.close()
    assert seen == [("start", 200), ("body", 200)]
