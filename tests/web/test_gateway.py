import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from embedded.postgres import Postgres
from streams.settings import Settings
from tests.web.rows import add_incident
from web.gateway import serving

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    Conn = Connection[Record]

pytestmark = pytest.mark.postgres
PROGRAM = """
import asyncio, os
from streams.settings import Settings
from web.gateway import run
asyncio.run(run(Settings.from_environ(os.environ)))
"""


async def until(check: Callable[[], Awaitable[bool]], within: float = 20) -> None:
    async with asyncio.timeout(within):
        while not await check():
            await asyncio.sleep(0.05)


async def test_it_answers_honestly_while_postgres_is_away_and_comes_back_by_itself(
    client: httpx.AsyncClient, conn: "Conn", postgres: Postgres
) -> None:
    await add_incident(conn, "Before")
    await conn.close()

    async def parts() -> dict[str, Any]:
        found: dict[str, Any] = (await client.get("/readyz")).json()["parts"]
        return found

    async def is_up() -> bool:
        return bool((await parts()).get("postgres", {}).get("ok"))

    async def is_down() -> bool:
        return not await is_up()

    await until(is_up)
    await postgres.stop(10)
    try:
        answer = await client.get("/api/v1/incidents")
        assert answer.status_code == 503
        assert answer.headers["content-type"].startswith("application/problem+json")
        assert "Postgres" in answer.json()["detail"]
        await until(is_down, 5)
        assert (await parts())["postgres"]["required"] is False
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/")).status_code == 200
    finally:
        await postgres.start_again()
    await until(is_up)
    titles = [item["title"] for item in (await client.get("/api/v1/incidents")).json()["items"]]
    assert titles == ["Before"]


async def test_who_calls_an_open_gateway_by_a_name_that_is_not_its_own_is_refused(
    settings: Settings, conn: object
) -> None:
    def calling(host: str) -> dict[str, str]:
        return {"host": host}

    async with (
        serving(replace(settings, external_url="https://incidents.example.org/x")) as url,
        httpx.AsyncClient(base_url=url, timeout=60) as client,
    ):
        for host in (
            "evil.example",
            "evil.example:8080",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "",
            "[::",
        ):
            for path in ("/", "/api/v1/session", "/metrics", "/static/page.css"):
                assert (await client.get(path, headers=calling(host))).status_code == 403, host
            posted = await client.post("/api/v1/alerts", json={}, headers=calling(host))
            assert (posted.status_code, "EXTERNAL_URL" in posted.text) == (403, True)
        for host in ("localhost", "LOCALHOST:1", "127.0.0.1:9", "[::1]:80", "incidents.example.org", "a.localhost"):
            assert (await client.get("/api/v1/session", headers=calling(host))).status_code == 200, host


async def test_a_stream_that_its_client_left_is_let_go(client: httpx.AsyncClient) -> None:
    async def listeners() -> float:
        lines = (await client.get("/metrics")).text.splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith("incidents_live_clients ")))

    async with client.stream("GET", "/api/v1/stream") as answer:
        async for _ in answer.aiter_lines():
            break
        assert await listeners() == 1

    async def is_gone() -> bool:
        return await listeners() == 0

    await until(is_gone)


async def test_sigterm_ends_it_at_once_even_with_listeners(settings: Settings, conn: object, tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("INCIDENTS_")}
    with (tmp_path / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROGRAM, env=environ | settings.to_environ(), stderr=log
        )
    url = f"http://127.0.0.1:{settings.http_port}"
    try:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:

            async def answers() -> bool:
                try:
                    return (await client.get("/healthz")).status_code == 200
                except httpx.TransportError:
                    return False

            await until(answers, 30)
            async with client.stream("GET", "/api/v1/stream") as stream:
                lines = stream.aiter_lines()
                assert (await anext(lines)).startswith("retry:")
                began = time.monotonic()
                process.send_signal(signal.SIGTERM)
                async for _ in lines:
                    pass
                assert await asyncio.wait_for(process.wait(), 10) == 0
                assert time.monotonic() - began < 10
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
