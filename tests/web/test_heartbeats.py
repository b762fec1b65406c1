"""Beats over HTTP: stored before they are answered, a flood of them in few statements, and refused by field."""

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    Conn = Connection[Record]

pytestmark = pytest.mark.postgres
URL = "/api/v1/heartbeats"


async def post(client: httpx.AsyncClient, name: str, **more: Any) -> httpx.Response:
    """The answer, once Postgres has the time to give one."""
    async with asyncio.timeout(60):
        while (answer := await client.post(f"{URL}/{name}", **more)).status_code == 503:
            await asyncio.sleep(0.2)
    return answer


@pytest.fixture(autouse=True)
async def _no_heartbeats(conn: "Conn") -> None:
    await conn.execute("TRUNCATE heartbeats")


async def test_the_first_beat_says_the_interval_and_later_ones_need_not(client: httpx.AsyncClient) -> None:
    refused = await post(client, "backup")
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (400, "interval")
    first = await post(client, "backup", params={"interval": "10m"})
    assert (first.json()["interval_seconds"], first.json()["grace_seconds"]) == (600, 60)
    second = await post(client, "backup")
    assert (second.json()["beats"], second.json()["state"]) == (2, "alive")
    body = {"interval": "30", "grace": "1m", "severity": "warning", "labels": {"service": "db"}}
    third = (await post(client, "backup", json=body)).json()
    assert (third["interval_seconds"], third["grace_seconds"], third["severity"]) == (30, 60, "warning")
    assert (await client.get(URL)).json() == [third]
    assert (await client.delete(f"{URL}/backup")).status_code == 204
    assert (await client.delete(f"{URL}/backup")).status_code == 404
    assert (await post(client, "backup")).status_code == 400


@pytest.mark.parametrize(
    ("params", "body", "field"),
    [
        ({"interval": "soon"}, None, "interval"),
        ({"interval": "0"}, None, "interval"),
        ({"interval": "400d"}, None, "interval"),
        ({"interval": "1m", "grace": "-1"}, None, "grace"),
        ({}, {"interval": 5}, "body"),
        ({"interval": "1m"}, {"labels": {"": "x"}}, "labels"),
        ({"interval": "1m"}, {"labels": {"a": "\u0000"}}, "labels"),
        ({"interval": "1m"}, {"team": "\u0000"}, "team"),
        ({"interval": "1m"}, {"team": "x" * 201}, "team"),
        ({"interval": "1m"}, {"severity": "bad"}, "body"),
    ],
)
async def test_what_is_no_beat_is_refused_by_field(
    client: httpx.AsyncClient, params: dict[str, str], body: Any, field: str
) -> None:
    answer = await post(client, "x", params=params, json=body)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == field


async def test_a_flood_of_beats_is_stored_whole_in_few_transactions(client: httpx.AsyncClient, conn: "Conn") -> None:
    await post(client, "busy", params={"interval": "60s"})
    before = await conn.fetchval("SELECT xmin::text::bigint FROM heartbeats")
    answers = await asyncio.gather(*(client.post(f"{URL}/busy") for _ in range(100)))
    stored = sum(answer.status_code == 200 for answer in answers)
    row = await conn.fetchrow("SELECT beats, xmin::text::bigint AS last FROM heartbeats")
    assert row is not None
    assert stored <= row["beats"] - 1 <= 100
    assert row["last"] - before < 100
