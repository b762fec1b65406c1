"""A POST that is repeated with its Idempotency-Key is done once, whoever repeats it first."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import httpx
import pytest

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


async def test_whoever_has_an_answer_may_repeat_the_request_at_once(client: httpx.AsyncClient) -> None:
    for number in range(30):
        key = {"idempotency-key": uuid.uuid4().hex}
        assert (await client.post(URL, json={}, headers=key)).status_code == 400
        assert (await client.post(URL, json={"number": number}, headers=key)).status_code == 400
