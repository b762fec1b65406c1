"""Nothing but health is open without a credential; who has one is known, until it ends; and guessing is slow."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg
import httpx
import pytest

from embedded.postgres import Postgres
from sinks import user_rows
from streams.credentials import digest, new_session
from streams.settings import Settings
from tests.web.signing_in import PASSWORD, add_token, add_user, bearer, clear, clients, guarded, sign_in

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    Conn = Connection[Record]

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(300)]
LIST = "/api/v1/incidents"
ALERT = {"source": "s", "status": "firing", "summary": "x", "labels": {"a": "b"}}


@pytest.fixture
async def url(settings: Settings, conn: "Conn") -> AsyncIterator[str]:
    await clear(conn)
    async with guarded(settings) as address:
        yield address


@pytest.fixture
async def client(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, timeout=60) as found:
        yield found


async def until(check: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await check():
            await asyncio.sleep(0.05)


async def test_only_health_and_the_way_in_are_open(client: httpx.AsyncClient) -> None:
    for path in ("/healthz", "/readyz", "/-/healthy", "/-/ready", "/login", "/static/login.js", "/static/page.css"):
        assert (await client.get(path)).status_code in {200, 503}, path
    for path in (LIST, "/metrics", "/openapi.json", "/api/v2/status", "/static/page.js", "/nowhere", "/api/v1/session"):
        answer = await client.get(path)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer"), path
    for path in ("/api/v1/alerts", "/api/v2/alerts", "/-/reload", "/api/v1/silences"):
        assert (await client.post(path, json=[])).status_code == 401, path
    problem = await client.get(LIST)
    assert problem.headers["content-type"] == "application/problem+json"
    assert isinstance((await client.get("/api/v2/alerts")).json(), str)


async def test_a_browser_is_led_to_the_login_and_back(client: httpx.AsyncClient) -> None:
    answer = await client.get("/silences?state=active", headers={"accept": "text/html"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=%2Fsilences%3Fstate%3Dactive")


@pytest.mark.parametrize(
    ("scopes", "allowed"),
    [
        (["ingest"], {"ingest"}),
        (["read"], {"read", "metrics"}),
        (["act"], {"read", "metrics", "act"}),
        (["ingest", "read"], {"ingest", "read", "metrics"}),
        (["admin"], {"ingest", "read", "metrics", "act", "admin"}),
    ],
)
async def test_a_token_is_good_for_its_scopes(
    client: httpx.AsyncClient, conn: "Conn", scopes: list[str], allowed: set[str]
) -> None:
    said = bearer(await add_token(conn, "t", *scopes))
    answers = {
        "ingest": await client.post("/api/v1/alerts", json=ALERT, headers=said),
        "read": await client.get(LIST, headers=said),
        "metrics": await client.get("/metrics", headers=said),
        "act": await client.post("/api/v1/silences", json={}, headers=said),
        "admin": await client.get("/api/v1/tokens", headers=said),
    }
    assert {name for name, answer in answers.items() if answer.status_code not in {401, 403}} == allowed
    assert all(answer.status_code == 403 for name, answer in answers.items() if name not in allowed)


async def test_a_token_ends_by_its_date_and_by_being_revoked(client: httpx.AsyncClient, conn: "Conn") -> None:
    past = await add_token(conn, "past", "read", expires_at=datetime.now(UTC) - timedelta(seconds=1))
    assert (await client.get(LIST, headers=bearer(past))).status_code == 401
    good = await add_token(conn, "good", "read")
    assert (await client.get(LIST, headers=bearer(good))).status_code == 200
    await conn.execute("UPDATE api_tokens SET revoked_at = now(), updated_at = clock_timestamp() WHERE name = 'good'")

    async def is_refused() -> bool:
        return (await client.get(LIST, headers=bearer(good))).status_code == 401

    await until(is_refused)


async def test_a_known_token_goes_on_sending_while_postgres_is_away(
    client: httpx.AsyncClient, conn: "Conn", postgres: Postgres
) -> None:
    said = bearer(await add_token(conn, "sender", "ingest"))
    before = await client.post("/api/v1/alerts", json=ALERT, headers=said)
    await conn.close()
    await postgres.stop(10)
    try:
        during = await client.post("/api/v1/alerts", json=ALERT, headers=said)
        # What Kafka, which is not there, makes of it.
        assert during.status_code == before.status_code
        assert "Kafka" in during.text

        async def is_told_to_wait() -> bool:
            return (await client.post("/api/v1/alerts", json=ALERT, headers=bearer("unknown"))).status_code == 503

        await until(is_told_to_wait)
    finally:
        await postgres.start_again()


async def test_guessing_tokens_is_slowed_and_audited_without_them(client: httpx.AsyncClient, conn: "Conn") -> None:
    good = bearer(await add_token(conn, "good", "read"))
    guesses = [client.get(LIST, headers=bearer(f"inc_guess{number}")) for number in range(90)]
    assert {answer.status_code for answer in await asyncio.gather(*guesses)} == {401, 429}
    assert (await client.get(LIST, headers=good)).status_code == 200
    rows = await conn.fetch("SELECT * FROM audit_log WHERE action = 'show a credential' ORDER BY seq DESC LIMIT 5")
    assert rows
    assert "guess" not in str(rows)


async def test_strangers_fill_no_disk(client: httpx.AsyncClient, conn: "Conn") -> None:
    before = await conn.fetchval("SELECT count(*) FROM audit_log")
    for _ in range(5):
        assert (await client.post("/api/v1/session", json={})).status_code == 400
    assert (await sign_in(client, "nobody", "wrong")).status_code == 401
    assert await conn.fetchval("SELECT count(*) FROM audit_log") == before + 1


async def test_many_people_at_one_address_are_no_guessers(client: httpx.AsyncClient, url: str, conn: "Conn") -> None:
    await add_user(conn, "ada")
    await sign_in(client, "ada")
    assert await conn.fetchval("SELECT sum(failures) FROM login_failures") == 0
    secrets = [new_session() for _ in range(40)]
    for secret in secrets:
        await user_rows.open_session(
            conn, digest(secret), "ada", address="", agent="", expires_at=datetime.now(UTC) + timedelta(hours=1)
        )
    for secret in secrets:
        async with httpx.AsyncClient(base_url=url, timeout=60, cookies={"incidents_session": secret}) as one:
            assert (await one.get("/api/v1/session")).status_code == 200


async def test_a_session_is_a_cookie_that_scripts_do_not_see_and_that_ends(
    client: httpx.AsyncClient, conn: "Conn"
) -> None:
    await add_user(conn, "ada", "responder")
    answer = await sign_in(client, "ada")
    assert answer.json() | {"csrf": ""} == {
        "name": "ada", "kind": "user", "role": "responder", "scopes": ["act", "read"], "teams": None,
        "signing_in": True, "csrf": "",
    }  # fmt: skip
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert "secure" not in cookie
    kept = client.cookies["incidents_session"]
    assert kept not in str(await conn.fetch("SELECT * FROM sessions"))
    assert (await client.get(LIST)).status_code == 200
    assert (await client.delete("/api/v1/session")).status_code == 200
    client.cookies.set("incidents_session", kept)
    assert (await client.get(LIST)).status_code == 401


async def test_behind_https_the_cookie_is_secure(settings: Settings, conn: "Conn") -> None:
    await clear(conn)
    await add_user(conn, "ada")
    proxied = {"x-forwarded-proto": "https", "x-forwarded-for": "192.0.2.7"}
    for trusted, secure, address in (("127.0.0.1", True, "192.0.2.7"), ("", False, "127.0.0.1")):
        async with (
            guarded(settings, trusted_proxies=trusted) as url,
            httpx.AsyncClient(base_url=url, timeout=60) as client,
        ):
            answer = await client.post(
                "/api/v1/session", json={"name": "ada", "password": PASSWORD}, headers=proxied
            )  # fmt: skip
        said = answer.headers["set-cookie"]
        assert (said.startswith("__Host-"), "Secure" in said) == (secure, secure)
        assert await conn.fetchval("SELECT address FROM sessions ORDER BY created_at DESC LIMIT 1") == address


async def test_what_a_session_changes_needs_its_csrf_token(client: httpx.AsyncClient, conn: "Conn") -> None:
    await add_user(conn, "ada", "responder")
    await sign_in(client, "ada")
    token = client.headers.pop("x-csrf-token")
    for said in ({}, {"x-csrf-token": "x"}, {"x-csrf-token": token[:-1]}):
        assert (await client.post("/api/v1/silences", json={}, headers=said)).status_code == 403
        assert (await client.post("/api/v1/alerts", json=ALERT, headers=said)).status_code == 403
    good = {"x-csrf-token": token}
    assert (await client.post("/api/v1/silences", json={}, headers=good)).status_code == 400
    foreign = {**good, "sec-fetch-site": "cross-site"}
    assert (await client.post("/api/v1/silences", json={}, headers=foreign)).status_code == 403


async def test_wrong_passwords_are_slowed_for_accounts_that_exist_and_for_others(
    url: str, conn: "Conn"
) -> None:  # fmt: skip
    await add_user(conn, "ada")
    answers = {}
    async with AsyncExitStack() as stack:
        one, other = [
            await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=60)) for _ in range(2)
        ]  # fmt: skip
        for name in ("ada", "nobody"):
            found: list[httpx.Response] = []
            while not found or found[-1].status_code != 429:
                found.append(await sign_in(one, name, "wrong"))
                assert len(found) < 20
            assert len(found) > 5  # the first ones cost nothing
            assert int(found[-1].headers["retry-after"]) >= 1
            answers[name] = {answer.status_code: answer.json() for answer in found}
        assert answers["ada"] == answers["nobody"]
        assert set(answers["ada"]) == {401, 429}
        # So many that the wait outlasts a slow machine.
        await conn.execute("UPDATE login_failures SET last_at = clock_timestamp(), failures = 15")
        assert (await sign_in(other, "ada")).status_code == 429
        await conn.execute("UPDATE login_failures SET last_at = last_at - interval '1 hour'")
        assert (await sign_in(other, "ada")).status_code == 200
    rows = await conn.fetch("SELECT actor, outcome FROM audit_log WHERE object = '/api/v1/session' ORDER BY seq DESC")
    assert tuple(rows[0]) == ("ada", "done")
    assert ("ada", "refused") in {tuple(row) for row in rows}


async def test_a_disabled_user_is_out_and_another_password_ends_other_sessions(url: str, conn: "Conn") -> None:
    await add_user(conn, "root", "admin")
    await add_user(conn, "ada")
    async with clients(url, "root", "ada", "ada") as (root, here, there):
        said = {"password": PASSWORD, "new_password": "another long one"}
        assert (await here.post("/api/v1/session/password", json={**said, "password": "x"})).status_code == 400
        assert (await here.post("/api/v1/session/password", json=said)).status_code == 200
        assert (await here.get(LIST)).status_code == 200
        assert (await there.get(LIST)).status_code == 401
        assert (await sign_in(there, "ada", "another long one")).status_code == 200
        changed = await root.patch("/api/v1/users/ada", json={"disabled": True})
        assert changed.json()["disabled_at"]
        assert [(await one.get(LIST)).status_code for one in (here, there)] == [401, 401]
        assert (await sign_in(there, "ada", "another long one")).status_code == 401


async def test_admins_make_users_and_tokens_whose_secrets_are_shown_once(url: str, conn: "Conn") -> None:
    await add_user(conn, "root", "admin")
    async with clients(url, "root") as (root,), httpx.AsyncClient(base_url=url, timeout=60) as client:
        made = await root.post("/api/v1/users", json={"name": "bob", "role": "responder", "teams": ["chat"]})
        assert made.status_code == 201, made.text
        assert (await sign_in(client, "bob", made.json()["password"])).json()["teams"] == ["chat"]
        assert made.json()["password"] not in (await root.get("/api/v1/users")).text
        assert (await root.post("/api/v1/users", json={"name": "bob"})).status_code == 409
        for wrong, field in (
            ({"name": "B O B"}, "name"), ({"name": "c", "role": "owner"}, "role"),
            ({"name": "c", "password": "short"}, "password"),
            ({"name": "c", "role": "admin", "teams": ["x"]}, "teams"),
        ):  # fmt: skip
            refused = await root.post("/api/v1/users", json=wrong)
            assert (refused.status_code, field in refused.text) == (400, True), refused.text
        stale = {"if-match": made.headers["etag"]}
        assert (await root.patch("/api/v1/users/bob", json={"teams": None}, headers=stale)).status_code == 200
        assert (await root.patch("/api/v1/users/bob", json={"teams": None}, headers=stale)).status_code == 412
        assert (await root.patch("/api/v1/users/root", json={"role": "viewer"})).status_code == 409
        assert (await root.patch("/api/v1/users/root", json={"disabled": True})).status_code == 409
        token = (await root.post("/api/v1/tokens", json={"name": "prom", "scopes": ["ingest", "read"]})).json()
        other = httpx.AsyncClient(base_url=url, timeout=20, headers=bearer(token["secret"]))
        assert (await other.get(LIST)).status_code == 200
        assert token["secret"] not in (await root.get("/api/v1/tokens")).text
        assert (await root.post("/api/v1/tokens", json={"name": "prom", "scopes": ["read"]})).status_code == 409
        assert (await root.delete(f"/api/v1/tokens/{token['token']['id']}")).json()["revoked_at"]
        assert (await other.get(LIST)).status_code == 401
        await other.aclose()
        log = (await root.get("/api/v1/audit", params={"actor": "root", "limit": 3})).json()
        assert log["items"][0]["action"] == "DELETE /api/v1/tokens/{token_id}"
        more = (await root.get("/api/v1/audit", params={"actor": "root", "cursor": log["next"]})).json()
        assert all(row["seq"] < log["items"][-1]["seq"] for row in more["items"])


async def test_the_audit_cannot_be_changed(client: httpx.AsyncClient, conn: "Conn") -> None:
    said = bearer(await add_token(conn, "t", "read"))
    assert (await client.post("/api/v1/silences", json={}, headers=said)).status_code == 403
    row = await conn.fetchrow("SELECT * FROM audit_log ORDER BY seq DESC LIMIT 1")
    assert row is not None
    assert (row["actor"], row["actor_kind"], row["outcome"], row["address"]) == ("t", "token", "refused", "127.0.0.1")
    for statement in ("UPDATE audit_log SET actor = 'x'", "DELETE FROM audit_log", "TRUNCATE audit_log"):
        with pytest.raises(asyncpg.RaiseError, match="keeps its rows"):
            await conn.execute(statement)


async def test_intake_and_metrics_are_open_where_the_settings_say_so(settings: Settings, conn: "Conn") -> None:
    await clear(conn)
    async with (
        guarded(settings, open_ingest="on", open_metrics="on") as url,
        httpx.AsyncClient(base_url=url, timeout=60) as client,
    ):
        assert (await client.get("/metrics")).status_code == 200
        assert (await client.post("/api/v2/alerts", json=[])).status_code == 200
        assert (await client.get("/api/v2/alerts")).status_code == 401
        read = bearer(await add_token(conn, "t", "read"))
        assert (await client.post("/api/v2/alerts", json=[], headers=read)).status_code == 403
        assert (await client.post("/api/v2/alerts", json=[], headers=bearer("inc_wrong"))).status_code == 401


async def test_what_is_listened_to_ends_with_its_credential(
    url: str, conn: "Conn", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web.live._ASKED_AGAIN", 0.2)
    await add_user(conn, "root", "admin")
    await add_user(conn, "ada")
    token = await add_token(conn, "t", "read")
    async with clients(url, "root", "ada", "ada") as (root, ada, bob), AsyncExitStack() as stack:
        program = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=60))
        asked: list[tuple[httpx.AsyncClient, dict[str, str]]] = [(ada, {}), (bob, {}), (program, bearer(token))]
        streams = []
        for one, said in asked:
            answer = await stack.enter_async_context(one.stream("GET", "/api/v1/stream", headers=said))
            lines = answer.aiter_lines()
            assert (await anext(lines)).startswith("retry")
            streams.append(lines)
        assert (await ada.delete("/api/v1/session")).status_code == 200
        [known] = (await root.get("/api/v1/tokens")).json()
        assert (await root.delete(f"/api/v1/tokens/{known['id']}")).status_code == 200
        async with asyncio.timeout(60):
            for lines in (streams[0], streams[2]):
                async for _ in lines:
                    pass
            while not (await anext(streams[1])).startswith("event: sample"):
                pass
            assert (await root.patch("/api/v1/users/ada", json={"teams": ["chat"]})).status_code == 200
            async for _ in streams[1]:
                pass


async def test_searches_that_take_all_they_can_keep_nobody_from_signing_in(
    url: str, client: httpx.AsyncClient, conn: "Conn"
) -> None:
    await add_user(conn, "ada")
    await sign_in(client, "ada")
    async with httpx.AsyncClient(base_url=url, timeout=60) as other, conn.transaction():
        await conn.execute("LOCK TABLE timeline")
        path = f"{LIST}/{uuid.uuid4()}/timeline"
        slow = [asyncio.create_task(client.get(path)) for _ in range(12)]
        for one in slow[:1]:
            await asyncio.wait({one}, timeout=1)
        assert (await sign_in(other, "ada")).status_code == 200
        assert {(await one).status_code for one in slow} == {503}
