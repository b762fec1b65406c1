"""Whatever a real server does, a send ends in time and in one of the outcomes."""

import asyncio
import contextlib
import ipaddress
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sinks import addresses
from sinks.outcome import Failed, Outcome, Reason, RetryLater, Sent
from sinks.webhook import Webhook, of_status, wish

Answer = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Server:
    """A raw HTTP server that answers each request as it is told, and keeps what it was sent."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self.open: set[asyncio.Task[None]] = set()
        self.url = ""
        self.answer: Answer = plain(200)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.get_running_loop().create_task(self.serve(reader, writer))
        self.open.add(serving)

    async def close(self) -> None:
        for serving in self.open:
            serving.cancel()
        await asyncio.gather(*self.open, return_exceptions=True)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self.talk(reader, writer)
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                [length] = [
                    int(line.split(b":")[1])
                    for line in head.split(b"\r\n")
                    if line.lower().startswith(b"content-length")
                ]
                self.requests.append(head + await reader.readexactly(length))
                await self.answer(self.requests[-1], reader, writer)


def plain(status: int, headers: str = "", body: bytes = b"said") -> Answer:
    async def answer(_request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = "" if status in {204, 304} else f"Content-Length: {len(body)}\r\n"
        writer.write(f"HTTP/1.1 {status} X\r\n{headers}{length}\r\n".encode())
        if length:
            writer.write(body)
        await writer.drain()

    return answer


@contextlib.asynccontextmanager
async def running(tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    server = Server()
    listener = await asyncio.start_server(server.accept, "127.0.0.1", 0, ssl=tls)
    port = listener.sockets[0].getsockname()[1]
    server.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/hook"
    try:
        yield server
    finally:
        listener.close()
        await server.close()
        await listener.wait_closed()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with running() as server:
        yield server


@pytest.fixture
async def webhook() -> AsyncIterator[Webhook]:
    webhook = Webhook(0.5)
    yield webhook
    await webhook.close()


async def sent(webhook: Webhook, server: Server, **options: object) -> Outcome:
    return await webhook.send(server.url, "the-task", b'{"version":"4"}', options)


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        *[(status, Sent, Reason.ACCEPTED) for status in (200, 201, 202, 204, 299)],
        *[(status, Failed, Reason.REDIRECTED) for status in (300, 301, 302, 304, 307, 308)],
        *[(status, Failed, Reason.AUTH) for status in (401, 403, 407)],
        *[(status, Failed, Reason.CLIENT_ERROR) for status in (400, 404, 408, 410, 413, 418, 422, 451, 499)],
        (429, RetryLater, Reason.RATE_LIMITED),
        *[(status, RetryLater, Reason.SERVER_ERROR) for status in (500, 501, 502, 503, 504, 599)],
    ],
)
async def test_every_status_has_its_outcome(
    webhook: Webhook, server: Server, status: int, kind: type[Outcome], reason: Reason
) -> None:
    server.answer = plain(status)
    outcome = await sent(webhook, server)
    assert isinstance(outcome, kind)
    assert outcome.reason is reason
    assert str(status) in outcome.detail


def test_every_code_there_is_has_an_outcome() -> None:
    for status in range(200, 1000):
        assert of_status(status, None, "", NOW).reason in Reason


async def test_a_repeat_carries_the_same_key_and_body_over_the_same_connection(
    webhook: Webhook, server: Server
) -> None:
    await sent(webhook, server)
    await sent(webhook, server)
    first, second = server.requests
    assert first == second
    assert b"idempotency-key: the-task\r\n" in first.lower()
    assert b"content-type: application/json\r\n" in first.lower()
    assert first.endswith(b'{"version":"4"}')
    assert server.connections == 1


async def test_credentials_and_headers_are_sent_and_cookies_are_not_kept(webhook: Webhook, server: Server) -> None:
    server.answer = plain(200, "Set-Cookie: a=b\r\n")
    await sent(webhook, server, basic_auth=["user", "pass"], headers=[["X-Team", "one"], ["X-Team", "two"]])
    await sent(webhook, server, authorization="Bearer token")
    first, second = (request.lower() for request in server.requests)
    assert b"authorization: basic dxnlcjpwyxnz\r\n" in first
    assert b"x-team: one\r\n" in first
    assert b"x-team: two\r\n" in first
    assert b"authorization: bearer token\r\n" in second
    assert b"cookie" not in second


async def test_a_redirect_is_not_followed(webhook: Webhook, server: Server) -> None:
    async with running() as other:
        server.answer = plain(307, f"Location: {other.url}\r\n")
        assert isinstance(await sent(webhook, server), Failed)
        assert other.requests == []


async def test_proxies_of_the_environment_are_not_used(
    webhook: Webhook, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert isinstance(await sent(webhook, server), Sent)


async def test_a_server_that_hangs_is_left_at_the_deadline(webhook: Webhook, server: Server) -> None:
    async def hang(_request: bytes, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    server.answer = hang
    began = time.monotonic()
    outcome = await sent(webhook, server)
    assert (type(outcome), outcome.reason) == (RetryLater, Reason.TIMEOUT)
    assert time.monotonic() - began < 1.5


async def test_a_server_that_drips_its_answer_is_left_at_the_deadline(webhook: Webhook, server: Server) -> None:
    async def drip(_request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nX-Padding: " + b"x" * 1000:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.05)

    server.answer = drip
    outcome = await sent(webhook, server)
    assert (type(outcome), outcome.reason) == (RetryLater, Reason.TIMEOUT)


async def test_a_body_that_drips_does_not_undo_what_the_status_said(webhook: Webhook, server: Server) -> None:
    async def drip(_request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nx")
        await writer.drain()
        await reader.read()

    server.answer = drip
    assert isinstance(await sent(webhook, server), Sent)


@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 200", b"what is this\r\n\r\n"])
async def test_a_connection_cut_after_the_request_is_tried_again(
    webhook: Webhook, server: Server, before: bytes
) -> None:
    async def cut(_request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(before)
        await writer.drain()
        writer.close()

    server.answer = cut
    outcome = await sent(webhook, server)
    assert (type(outcome), outcome.reason) == (RetryLater, Reason.NETWORK)


@pytest.mark.parametrize("length", ["Content-Length: 104857600\r\n", ""])
async def test_of_a_huge_answer_only_the_start_is_read(webhook: Webhook, server: Server, length: str) -> None:
    written = 0

    async def flood(_request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(f"HTTP/1.1 500 X\r\n{length}\r\n".encode())
        for _ in range(1600):
            writer.write(b"x" * 65_536)
            await writer.drain()
            written += 65_536

    server.answer = flood
    outcome = await sent(webhook, server)
    assert (type(outcome), outcome.reason) == (RetryLater, Reason.SERVER_ERROR)
    assert len(outcome.detail) < 400
    assert written < 20 << 20


async def test_a_bomb_in_gzip_is_not_unpacked(webhook: Webhook, server: Server) -> None:
    server.answer = plain(200, "Content-Encoding: gzip\r\n", b"not gzip at all")
    assert isinstance(await sent(webhook, server), Sent)


async def test_nobody_listening_is_a_network_error(webhook: Webhook) -> None:
    async with running() as gone:
        pass
    outcome = await webhook.send(gone.url, "t", b"{}", {})
    assert (type(outcome), outcome.reason) == (RetryLater, Reason.NETWORK)


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://[::ffff:169.254.169.254]/",
        "http://[fe80::1]/",
        "http://[fd00:ec2::254]/",
        "http://0.0.0.0/",
        "http://[::]/",
        "http://2852039166/",
        "http://0xa9.0xfe.0xa9.0xfe/",
        "http://224.0.0.1/",
        "http://255.255.255.255/",
        "ftp://127.0.0.1/",
        "nonsense",
        "http://",
    ],
)
async def test_targets_that_must_not_be_reached_fail_for_good(webhook: Webhook, target: str) -> None:
    outcome = await webhook.send(target, "t", b"{}", {})
    assert (type(outcome), outcome.reason) == (Failed, Reason.REFUSED_TARGET)


async def test_a_name_is_judged_by_the_address_that_is_connected_to(
    webhook: Webhook, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def resolved(_host: str, _port: int) -> list[str]:
        return ["169.254.1.1", "127.0.0.1"]

    monkeypatch.setattr(addresses, "_resolved", resolved)
    outcome = await webhook.send(server.url.replace("127.0.0.1", "hooks.example.org"), "t", b"{}", {})
    assert isinstance(outcome, Sent)
    assert b"host: hooks.example.org" in server.requests[0].lower()


def test_one_s_own_networks_are_allowed() -> None:
    for allowed in ("127.0.0.1", "10.1.2.3", "192.168.1.1", "::1", "fd12::1", "8.8.8.8", "2606:4700::1111"):
        assert not addresses.is_refused(ipaddress.ip_address(allowed))


async def test_a_certificate_that_nobody_vouches_for_is_refused(webhook: Webhook, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    subprocess.run([*command, *subject, "-keyout", key, "-out", certificate], check=True, capture_output=True)  # noqa: ASYNC221
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    trusting = Webhook(2.0, ssl.create_default_context(cafile=str(certificate)))
    async with running(tls) as server:
        outcome = await sent(webhook, server)
        assert (type(outcome), outcome.reason) == (RetryLater, Reason.TLS)
        assert isinstance(await sent(trusting, server), Sent)
    await trusting.close()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("0", 0),
        ("30", 30),
        ("999999999999", 86_400),
        ("Thu, 01 Jan 2026 00:01:00 GMT", 60),
        ("Wed, 31 Dec 2025 00:00:00 GMT", 0),
    ],
)
def test_retry_after_is_read_as_seconds_or_a_date(text: str | None, seconds: int | None) -> None:
    assert wish(text, NOW) == (None if seconds is None else timedelta(seconds=seconds))
