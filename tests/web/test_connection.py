"""Whoever is slow to ask or to read, or asks without end, is cut off; whoever is quick is not."""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace

import httpx
import pytest
import uvloop

from streams.settings import Settings
from tests.web.test_gateway import until
from web.gateway import serving

HEAD = b"POST /api/v1/alerts HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
LENGTH = b"content-length: 100\r\n\r\n"

pytestmark = pytest.mark.postgres


LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
Loop = Callable[[], asyncio.AbstractEventLoop]
Story = Callable[[httpx.AsyncClient, AsyncExitStack], Awaitable[None]]


async def answered(client: httpx.AsyncClient, *parts: bytes) -> bytes:
    """Everything that comes until the connection is closed by the gateway."""
    reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        async with asyncio.timeout(60):
            return await reader.read()
    except ConnectionError:
        return b"reset"
    finally:
        writer.close()


@pytest.fixture
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("web.connection.HEAD_WITHIN", 0.3)
    monkeypatch.setattr("web.connection.BODY_WITHIN", 0.3)


@pytest.mark.usefixtures("_hurried")
async def test_headers_and_bodies_that_do_not_come_are_waited_for_only_so_long(client: httpx.AsyncClient) -> None:
    assert await answered(client) == b""
    assert (await answered(client, HEAD)).startswith(b"HTTP/1.1 408 ")
    for path in (b"/api/v1/alerts", b"/api/v2/alerts", b"/api/v1/silences", b"/api/v2/silences"):
        head = HEAD.replace(b"/api/v1/alerts", path)
        for key in (b"", b"idempotency-key: x\r\n"):
            said = await answered(client, head + key + LENGTH, b"{")
            assert said.startswith(b"HTTP/1.1 408 "), (path, key, said)
    first = b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
    said = await answered(client, first, HEAD)
    assert (said.count(b"HTTP/1.1 200"), said.count(b"HTTP/1.1 408")) == (1, 1)
    async with client.stream("GET", "/api/v1/stream") as stream:  # a stream has nothing more to say, and goes on
        lines = stream.aiter_lines()
        for _ in range(3):
            while not (await anext(lines)).startswith("event: "):
                pass


async def test_headers_without_end_are_refused(client: httpx.AsyncClient) -> None:
    for endless in (b"x: " + b"y" * 100_000, b"x: y\r\n" * 20_000, b"GET /" + b"y" * 100_000):
        head = b"" if endless.startswith(b"GET") else HEAD
        said = await answered(client, head, *(endless[at : at + 8192] for at in range(0, len(endless), 8192)))
        assert said.startswith((b"HTTP/1.1 431 ", b"reset")), said[:100]
    assert (await client.get("/healthz")).status_code == 200


async def test_a_long_but_quick_request_is_taken(client: httpx.AsyncClient) -> None:
    body = json.dumps([{"summary": "x" * 1000}] * 500)
    answer = await client.post("/api/v1/alerts", content=body, headers={"x-long": "y" * 30_000})
    assert answer.status_code == 400


def lived(
    loop: Loop, settings: Settings, story: Callable[[httpx.AsyncClient, AsyncExitStack], Awaitable[None]]
) -> None:
    """The story with a gateway on a loop of its own: the commands' loop keeps unread bytes otherwise than asyncio's."""

    async def living() -> None:
        async with AsyncExitStack() as stack:
            url = await stack.enter_async_context(serving(settings))
            client = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=10))
            await until(lambda: is_served(client), 60)
            await story(client, stack)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(living())


async def is_served(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/healthz")).status_code == 200
    except httpx.TransportError:
        return False


async def asked(client: httpx.AsyncClient, stack: AsyncExitStack, *parts: bytes) -> None:
    """The parts, on a connection whose answer nobody reads."""
    mine = socket.socket()
    mine.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    mine.setblocking(False)
    stack.callback(mine.close)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(mine, (client.base_url.host, client.base_url.port))
    for part in parts:
        await loop.sock_sendall(mine, part)


async def shown(client: httpx.AsyncClient, name: str) -> float:
    lines = (await client.get("/metrics")).text.splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(f"{name} ")))


@LOOPS
def test_those_who_ask_nothing_do_not_keep_others_out(settings: Settings, loop: Loop) -> None:
    """Hundreds of connections with nothing, half a head or half a body on them, and nothing is refused to others."""

    async def story(client: httpx.AsyncClient, stack: AsyncExitStack) -> None:
        for number in range(300):
            await asked(client, stack, *((), (HEAD,), (HEAD, LENGTH, b"{"))[number % 3])
            if number % 20 == 0:
                answer = await client.post("/api/v1/alerts", json={"nothing": 1})
                assert (answer.status_code, answer.json()["title"]) == (400, "Bad Request"), number
        assert await shown(client, "incidents_connections_crowded_total") >= 240

    lived(loop, replace(settings, http_connections=60), story)


@LOOPS
def test_where_all_are_at_work_a_newcomer_is_told_so(settings: Settings, loop: Loop) -> None:
    async def story(client: httpx.AsyncClient, stack: AsyncExitStack) -> None:
        streams = [await stack.enter_async_context(client.stream("GET", "/api/v1/stream")) for _ in range(3)]
        assert (await answered(client)).startswith(b"HTTP/1.1 503 ")
        await streams[0].aclose()
        await until(lambda: is_served(client), 60)

    lived(loop, replace(settings, http_connections=3), story)


@LOOPS
def test_whoever_does_not_read_is_cut_off(settings: Settings, monkeypatch: pytest.MonkeyPatch, loop: Loop) -> None:
    monkeypatch.setattr("web.connection.READ_WITHIN", 0.3)
    for name, value in (("connection._SENT", 2048), ("connection._KEPT", 1024), ("live._INTERVAL", 0.1)):
        monkeypatch.setattr(f"web.{name}", value)

    async def story(client: httpx.AsyncClient, stack: AsyncExitStack) -> None:
        before = await shown(client, "incidents_connections_unread_total")
        long = b"GET /openapi.json HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
        last = long.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
        for question in (long * 9, last * 9):
            await asked(client, stack, question)
        await asked(client, stack, long.replace(b"/openapi.json", b"/api/v1/stream"))

        async def are_cut() -> bool:
            return await shown(client, "incidents_connections_unread_total") >= before + 3

        await until(are_cut, 60)
        assert await shown(client, "incidents_live_clients") == 0

    lived(loop, settings, story)


async def test_a_wish_for_another_protocol_is_passed_over(client: httpx.AsyncClient) -> None:
    wish = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13", "sec-websocket-key": "x"}
    assert (await client.get("/api/v1/session", headers=wish)).status_code == 200
