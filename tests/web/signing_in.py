"""A gateway that asks who it is, and credentials of every kind for it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx

from sinks import token_rows, user_rows
from streams.credentials import digest, hash_password, new_token
from streams.settings import Settings
from web.gateway import serving

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    Conn = Connection[Record]

PASSWORD = "correct horse battery"
HASH = hash_password(PASSWORD)


async def clear(conn: "Conn") -> None:
    await conn.execute("TRUNCATE users, sessions, api_tokens, login_failures, kept_answers CASCADE")


async def add_user(conn: "Conn", name: str, role: str = "viewer", teams: list[str] | None = None) -> None:
    await user_rows.add(conn, name, role=role, teams=teams, password_hash=HASH)


async def add_token(conn: "Conn", name: str, *scopes: str, teams: list[str] | None = None, **more: Any) -> str:
    secret = new_token()
    given = {"expires_at": None, "created_by": "test", **more}
    await token_rows.add(conn, name=name, hashed=digest(secret), scopes=scopes, teams=teams, **given)
    return secret


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def sign_in(client: httpx.AsyncClient, name: str, password: str = PASSWORD) -> httpx.Response:
    """Sign in; the client has the cookie and the CSRF token afterwards."""
    answer = await client.post("/api/v1/session", json={"name": name, "password": password})
    if answer.status_code == 200:
        client.headers["x-csrf-token"] = answer.json()["csrf"]
    return answer


@asynccontextmanager
async def guarded(settings: Settings, **more: Any) -> AsyncIterator[str]:
    """The gateway with INCIDENTS_AUTH=on; gives its address."""
    async with serving(replace(settings, auth="on", **more)) as url:
        yield url


@asynccontextmanager
async def clients(url: str, *names: str) -> AsyncIterator[list[httpx.AsyncClient]]:
    """A client for each user, signed in."""
    async with AsyncExitStack() as stack:
        found = []
        for name in names:
            client = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=60))
            answer = await sign_in(client, name)
            assert answer.status_code == 200, answer.text
            found.append(client)
        yield found
