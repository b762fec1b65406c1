"""`incidents user` and `incidents token` on a real database, and the gateway that knows what they made."""

import asyncio
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pytest

from streams.settings import Settings
from tests.web.signing_in import bearer, clear, guarded, sign_in

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    Conn = Connection[Record]

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(300)]


async def test_users_and_tokens_are_made_shown_once_and_end(settings: Settings, conn: "Conn") -> None:
    await clear(conn)
    environ = {**os.environ, "INCIDENTS_DATABASE_URL": settings.database_url}

    async def run(*arguments: str, given: str = "", **more: str) -> tuple[int, str]:
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-m", "agents", *arguments], env={**environ, **more}, input=given,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    assert (await run("user", "first", "admin", FIRST_PASSWORD="a long password"))[0] == 0
    assert (await run("user", "first", "other", FIRST_PASSWORD="a long password"))[0] == 3
    code, said = await run("user", "add", "ada", "--role", "responder", "--team", "chat")
    assert code == 0
    password = said.strip().rpartition(" ")[2]
    assert (await run("user", "add", "ada"))[0] == 1
    assert (await run("user", "add", "A B"))[0] == 1
    code, secret = await run("token", "create", "prometheus", "--scope", "ingest", "--scope", "read", "--days", "30")
    assert (code, secret.startswith("inc_")) == (0, True)
    async with guarded(settings) as url, httpx.AsyncClient(base_url=url, timeout=20) as client:
        known = bearer(secret.strip())
        assert (await client.get("/api/v1/incidents", headers=known)).status_code == 200
        assert (await sign_in(client, "ada", password)).json()["teams"] == ["chat"]
        assert (await run("user", "passwd", "ada", "--password-stdin", given="another password\n"))[0] == 0
        assert (await sign_in(client, "ada", "another password")).status_code == 200
        assert (await run("user", "disable", "ada"))[0] == 0
        assert (await sign_in(client, "ada", "another password")).status_code == 401
        assert (await run("token", "revoke", "prometheus"))[0] == 0
        async with asyncio.timeout(60):
            while (await client.get("/api/v1/incidents", headers=known)).status_code != 401:
                await asyncio.sleep(0.1)
    listed = (await run("token", "list", "--revoked"))[1] + (await run("user", "list", "--json"))[1]
    assert "prometheus" in listed
    assert '"name": "ada"' in listed
    assert secret.strip() not in listed
    assert (await run("token", "revoke", "prometheus"))[0] == 3
    assert (await run("user", "passwd", "nobody"))[0] == 3
    deeds = [
        row["action"] for row in await conn.fetch("SELECT action FROM audit_log WHERE actor_kind = 'command line'")
    ]
    assert {"user add", "token create", "user passwd", "user disable", "token revoke"} <= set(deeds)
