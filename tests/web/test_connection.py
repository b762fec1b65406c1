"""Whoever is slow to ask, or asks without end, is cut off; whoever is quick is not."""

import asyncio
import json

import httpx
import pytest

HEAD = b"POST /api/v1/alerts HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
LENGTH = b"content-length: 100\r\n\r\n"

pytestmark = pytest.mark.postgres


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
