"""Webhooks get Alertmanager's body or ours, the same bytes at every attempt, signed by every live secret."""

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator

import pytest

from sinks import webhook
from sinks.channel import Channel
from sinks.http import Http
from sinks.outcome import RetryLater, Sent
from tests.sinks.http_server import Server, running
from tests.sinks.tellings import TASK, telling


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with running() as server:
        yield server


@pytest.fixture
async def channel() -> AsyncIterator[Channel]:
    http = Http(2.0)
    yield webhook.over(http)
    await http.close()


def split(request: bytes) -> tuple[dict[str, str], bytes]:
    head, _, body = request.partition(b"\r\n\r\n")
    fields = (line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    return {name.lower(): value for name, value in fields}, body


async def test_alertmanagers_body_goes_to_the_url_of_the_options(channel: Channel, server: Server) -> None:
    assert isinstance(await channel(telling({"url": server.url})), Sent)
    headers, body = split(server.requests[0])
    assert headers["idempotency-key"] == str(TASK)
    assert "x-incidents-signature" not in headers
    assert json.loads(body)["version"] == "4"


async def test_our_own_body_tells_of_the_incident(channel: Channel, server: Server) -> None:
    assert isinstance(await channel(telling({"url": server.url, "format": "incidents"})), Sent)
    said = json.loads(split(server.requests[0])[1])
    assert (said["version"], said["id"], said["reason"]) == ("incidents/1", str(TASK), "first firing")
    assert (said["status"], said["made_at"]) == ("firing", "2026-01-01T00:05:00Z")
    assert said["incident"]["title"] == "Down"
    assert said["alerts"][0]["labels"] == {"alertname": "Down", "service": "api"}
    assert said["group"]["labels"] == {"alertname": "Down"}


async def test_each_live_secret_signs_time_and_body(channel: Channel, server: Server) -> None:
    await channel(telling({"url": server.url, "signing_secrets": ["new", "old"]}))
    headers, body = split(server.requests[0])
    stamp = headers["x-incidents-timestamp"]
    assert abs(int(stamp) - time.time()) < 60
    wanted = [
        "v1=" + hmac.new(secret, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        for secret in (b"new", b"old")
    ]
    assert headers["x-incidents-signature"].split(",") == wanted


async def test_a_repeat_after_a_lost_answer_has_the_same_key_and_body(channel: Channel, server: Server) -> None:
    async def cut(_request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    server.answer = cut
    for _ in range(2):
        assert isinstance(await channel(telling({"url": server.url, "signing_secrets": ["s"]})), RetryLater)
    (first, one), (second, two) = map(split, server.requests)
    assert one == two
    assert first["idempotency-key"] == second["idempotency-key"]
