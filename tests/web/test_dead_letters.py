"""Refused events over the API: who sees which, page by page, and what is asked of them."""

import base64
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import httpx
import pytest

from sinks import alert_rows
from sinks.alert_rows import DeadRow
from streams.settings import Settings
from tests.web.signing_in import add_token, bearer, clear, guarded

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    Conn = Connection[Record]

pytestmark = pytest.mark.postgres
URL = "/api/v1/dead-letters"
ODD = "https://x.example/a?b=c#1 é\u2028"


async def buried(conn: "Conn") -> None:
    await conn.execute("TRUNCATE dead_letters")
    began = datetime.now(UTC) - timedelta(hours=1)
    rows = [
        DeadRow(name, team, source, "labels", "too many", name.encode(), "x", "http", began + timedelta(minutes=n))
        for n, (name, team, source) in enumerate(
            [("e0", "chat", "shop"), ("e1", "default", "shop"), ("e2", "chat", "bank"), (ODD, "chat", "shop")]
        )
    ]
    await alert_rows.bury(conn, rows)


async def test_letters_are_read_page_by_page_and_narrowed(client: httpx.AsyncClient, conn: "Conn") -> None:
    await buried(conn)
    seen, query = [], {"limit": "1"}
    while True:
        page = (await client.get(URL, params=query)).json()
        seen += [item["event_id"] for item in page["items"]]
        if "next" not in page or page["next"] is None:
            break
        query["cursor"] = page["next"]
    assert seen == [ODD, "e2", "e1", "e0"]
    found = (await client.get(URL, params={"event_id": [ODD, "nobody"], "bodies": "true"})).json()["items"]
    assert [base64.b64decode(item["body"]).decode() for item in found] == [ODD]
    found = (await client.get(URL, params={"source": "bank", "state": "waiting"})).json()["items"]
    assert [(item["event_id"], item["size"], item["body"]) for item in found] == [("e2", 2, None)]
    assert (await client.get(URL, params={"cursor": "x"})).status_code == 400


async def test_dropping_counts_what_waited_and_names_what_there_is_not(client: httpx.AsyncClient, conn: "Conn") -> None:
    await buried(conn)
    unknown = await client.post(f"{URL}/drop", json={"event_ids": ["e0", "nobody"]})
    assert (unknown.status_code, "nobody" in unknown.text) == (404, True)
    for dropped in (2, 0):
        answer = await client.post(f"{URL}/drop", json={"event_ids": ["e0", ODD]})
        assert (answer.status_code, answer.json()) == (200, {"dropped": dropped})


async def test_a_replay_without_kafka_is_refused_and_changes_nothing(client: httpx.AsyncClient, conn: "Conn") -> None:
    await buried(conn)
    answer = await client.post(f"{URL}/replay", json={"event_ids": ["e0"]})
    assert (answer.status_code, "nothing was replayed" in answer.text) == (503, True)
    for body in ({"event_ids": ["e0", "e1"], "body": "e30="}, {"event_ids": ["e0"], "body": "%"}):
        assert (await client.post(f"{URL}/replay", json=body)).status_code == 400
    assert await conn.fetchval("SELECT count(*) FROM dead_letters WHERE state = 'waiting'") == 4


async def test_letters_of_other_teams_are_not_there(settings: Settings, conn: "Conn") -> None:
    await clear(conn)
    await buried(conn)
    chat = bearer(await add_token(conn, "chat", "act", teams=["chat"]))
    async with guarded(settings) as url, httpx.AsyncClient(base_url=url, timeout=20, headers=chat) as client:
        assert {item["event_id"] for item in (await client.get(URL)).json()["items"]} == {"e0", "e2", ODD}
        assert (await client.get(URL, params={"event_id": "e1", "bodies": "true"})).json()["items"] == []
        assert (await client.post(f"{URL}/drop", json={"event_ids": ["e0", "e1"]})).status_code == 404
        assert await conn.fetchval("SELECT count(*) FROM dead_letters WHERE state = 'waiting'") == 4
