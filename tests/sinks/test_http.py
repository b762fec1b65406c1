"""Whatever a real server does, a request ends in time and in one of the outcomes."""

import asyncio
import ipaddress
import ssl
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sinks import addresses
from sinks.http import Http
from sinks.outcome import Failed, Outcome, Reason, RetryLater, Sent
from sinks.request import Request, of_status, wish
from streams.addresses import is_global, is_refused, is_refused_host
from tests.sinks.certificates import self_signed
from tests.sinks.http_server import Server, plain, running

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with running() as server:
        yield server


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    http = Http(0.5)
    yield http
    await http.close()


async def sent(http: Http, server: Server, **options: object) -> Outcome:
    return await to(http, server.url, **options)


async def to(http: Http, url: str, **options: object) -> Outcome:
    return await http.told(Request(url=url, key="the-task", body=b'{"version":"4"}', options=options))


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        *[(status, Sent, Reason.ACCEPTED) for status in (200, 201, 202, 204, 299)],
        *[(status, Failed, Reason.REDIRECTED) for status in (300, 301, 302, 303, 304, 307, 308)],
        *[(status, Failed, Reason.AUTH) for status in (401, 403, 407)],
        *[(status, Failed, Reason.CLIENT_ERROR) for status in (400, 404, 408, 410, 413, 418, 422, 451, 499)],
        (429, RetryLater, Reason.RATE_LIMITED),
        *[(status, RetryLater, Reason.SERVER_ERROR) for status in (500, 501, 502, 503, 504, 599)],
    ],
)
async def test_every_status_has_its_outcome(
    http: Http, server: Server, status: int, kind: type[Outcome], reason: Reason
) -> None:
    server.answer = plain(status)
    outcome = await sent(http, server)
    assert isinstance(outcome, kind)
    assert outcome.reason is reason
    assert str(status) in outcome.detail


def test_every_code_there_is_has_an_outcome() -> None:
    for status in range(200, 1000):
        assert of_status(status, None, "", NOW).reason in Reason


async def test_a_repeat_carries_the_same_key_and_body_over_the_same_connection(http: Http, server: Server) -> None:
    await sent(http, server)
    await sent(http, server)
    first, second = server.requests
    assert first == second
    assert b"idempotency-key: the-task\r\n" in first.lower()
    assert b"content-type: application/json\r\n" in first.lower()
    assert first.endswith(b'{"version":"4"}')
    assert server.connections == 1


async def test_credentials_and_headers_are_sent_and_cookies_are_not_kept(http: Http, server: Server) -> None:
    server.answer = plain(200, "Set-Cookie: a=b\r\n")
    await sent(http, server, basic_auth=["user", "pass"], headers=[["X-Team", "one"], ["X-Team", "two"]])
    await sent(http, server, authorization="Bearer token")
    first, second = (request.lower() for request in server.requests)
    assert b"authorization: basic dxnlcjpwyxnz\r\n" in first
    assert b"x-team: one\r\n" in first
    assert b"x-team: two\r\n" in first
    assert b"authorization: bearer token\r\n" in second
    assert b"cookie" not in second


async def test_a_header_that_cannot_be_sent_is_not_quoted(http: Http, server: Server) -> None:
    outcome = await sent(http, server, authorization="Bearer CANARY\nmore")
    assert (type(outcome), outcome.reason) == (Failed, Reason.BAD_NOTICE)
    assert "CANARY" not in outcome.detail
    assert server.requests == []


@pytest.mark.parametrize("status", [307, 308])
async def test_a_redirect_that_keeps_the_request_is_followed_without_secrets(
    http: Http, server: Server, status: int
) -> None:
    async with running() as other:
        server.answer = plain(status, f"Location: {other.url}?a=1\r\n")
        secrets: dict[str, object] = {"authorization": "Bearer s3cret", "headers": [["X-Key", "s3cret"]]}
        assert isinstance(await sent(http, server, **secrets), Sent)
    [first], [second] = server.requests, other.requests
    assert b"s3cret" in first
    assert b"s3cret" not in second
    assert second.startswith(b"POST /hook?a=1 ")
    assert b"idempotency-key: the-task" in second.lower()
    assert second.endswith(b'{"version":"4"}')


async def leading_to_another_host(http: Http, server: Server, other: Server, **options: object) -> Outcome:
    server.answer = plain(307, f"Location: {other.url.replace('127.0.0.1', 'elsewhere.example.org')}\r\n")
    return await sent(http, server, **options)


@pytest.fixture
def resolving_to_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolved(_host: str, _port: int) -> list[str]:
        return ["127.0.0.1"]

    monkeypatch.setattr(addresses, "_resolved", resolved)


@pytest.mark.usefixtures("resolving_to_loopback")
async def test_a_redirect_to_another_host_leads_to_no_private_address(
    http: Http, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running() as other:
        # A connection that a target of one's own has left open is not used either.
        await to(http, other.url.replace("127.0.0.1", "elsewhere.example.org"))
        refused = await leading_to_another_host(http, server, other)
        assert (type(refused), refused.reason) == (Failed, Reason.REFUSED_TARGET)
        assert len(other.requests) == 1
        monkeypatch.setattr(addresses, "is_global", lambda _address: True)
        assert isinstance(await leading_to_another_host(http, server, other), Sent)
        assert len(other.requests) == 2


async def test_what_a_proxy_would_resolve_is_not_followed_to_another_host(http: Http, server: Server) -> None:
    proxy = server.url.removesuffix("/hook")
    server.answer = plain(307, "Location: http://elsewhere.example.org/\r\n")
    outcome = await to(http, "http://hooks.example.org/a", proxy_url=proxy)
    assert (type(outcome), outcome.reason) == (Failed, Reason.REDIRECTED)
    assert len(server.requests) == 1


async def test_a_body_with_a_secret_stays_with_its_origin(http: Http, server: Server) -> None:
    async with running() as other:
        server.answer = plain(307, f"Location: {other.url}\r\n")
        outcome = await http.told(Request(url=server.url, key="k", body=b"{}", secret=True))
        assert (type(outcome), outcome.reason, other.requests) == (Failed, Reason.REDIRECTED, [])


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        *[(one, False) for one in ("127.0.0.1", "10.0.0.1", "192.168.1.1", "100.64.0.1", "::1", "fd12::1", "fe80::1")],
        *[(one, False) for one in ("::ffff:10.0.0.1", "64:ff9b::a00:1", "169.254.169.254", "168.63.129.16")],
    ],
)
def test_which_addresses_everybody_may_reach(address: str, *, allowed: bool) -> None:
    assert is_global(ipaddress.ip_address(address)) is allowed


async def test_secrets_go_along_within_one_origin(http: Http, server: Server) -> None:
    async def moved(request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer = plain(200) if b"/new" in request else plain(308, "Location: /new\r\n")
        await answer(request, reader, writer)

    server.answer = moved
    assert isinstance(await sent(http, server, authorization="Bearer s3cret"), Sent)
    assert [b"s3cret" in request for request in server.requests] == [True, True]


@pytest.mark.parametrize(("status", "follows"), [(301, True), (302, True), (303, True), (307, False), (308, False)])
async def test_a_redirect_that_would_lose_the_notice_or_is_not_wanted_is_not_followed(
    http: Http, server: Server, status: int, follows: bool
) -> None:
    async with running() as other:
        server.answer = plain(status, f"Location: {other.url}\r\n")
        outcome = await sent(http, server, follow_redirects=follows)
        assert (type(outcome), outcome.reason) == (Failed, Reason.REDIRECTED)
        assert other.requests == []


@pytest.mark.parametrize(
    ("place", "kind", "reason"),
    [
        ("http://169.254.169.254/latest/", Failed, Reason.REFUSED_TARGET),
        ("http://[::ffff:169.254.169.254]/", Failed, Reason.REFUSED_TARGET),
        ("http://2852039166/", Failed, Reason.REFUSED_TARGET),
        ("ftp://127.0.0.1/", Failed, Reason.REDIRECTED),
        ("http://127.0.0.1:0x/", RetryLater, Reason.NETWORK),
        ("/hook", Failed, Reason.REDIRECTED),
    ],
)
async def test_each_hop_is_checked_like_the_first(
    http: Http, server: Server, place: str, kind: type[Outcome], reason: Reason
) -> None:
    server.answer = plain(308, f"Location: {place}\r\n")
    outcome = await sent(http, server)
    assert (type(outcome), outcome.reason) == (kind, reason)
    assert len(server.requests) <= 10


async def test_proxies_of_the_environment_are_not_used(
    http: Http, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert isinstance(await sent(http, server), Sent)


async def test_a_server_that_hangs_is_left_at_the_deadline(http: Http, server: Server) -> None:
    async def hang(_request: bytes, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    server.answer = hang
    began = time.monotonic()
    outcome = await sent(http, server)
    assert (type(outcome), outcome.reason) == (RetryLater, Reason.TIMEOUT)
    assert time.monotonic() - began < 30


async def test_a_timeout_of_the_rules_file_takes_the_place_of_the_usual_one(server: Server) -> None:
    async def slow(request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.3)
        await plain(200)(request, reader, writer)

    server.answer = slow
    http = Http(0.1)
    short, long = await sent(http, server), await sent(http, server, timeout=10.0)
    await http.close()
    assert short == RetryLater(Reason.TIMEOUT, "no answer within 0.1 s")
    assert isinstance(long, Sent)


async def test_a_server_that_drips_its_answer_is_left_at_the_deadline(http: Http, server: Server) -> None:
    async def drip(_request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nX-Padding: " + b"x" * 1000:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.05)

    server.answer = drip
    outcome = await sent(http, server)
    assert (type(outcome), outcome.reason) == (RetryLater, Reason.TIMEOUT)


async def test_a_body_that_drips_does_not_undo_what_the_status_said(http: Http, server: Server) -> None:
    async def drip(_request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nx")
        await writer.drain()
        await reader.read()

    server.answer = drip
    assert isinstance(await sent(http, server), Sent)


@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 200", b"what is this\r\n\r\n"])
async def test_a_connection_cut_after_the_request_is_tried_again(http: Http, server: Server, before: bytes) -> None:
    async def cut(_request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(before)
        await writer.drain()
        writer.close()

    server.answer = cut
    outcome = await sent(http, server)
    assert (type(outcome), outcome.reason) == (RetryLater, Reason.NETWORK)


@pytest.mark.parametrize("length", ["Content-Length: 104857600\r\n", ""])
async def test_of_a_huge_answer_only_the_start_is_read(http: Http, server: Server, length: str) -> None:
    written = 0

    async def flood(_request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(f"HTTP/1.1 500 X\r\n{length}\r\n".encode())
        for _ in range(1600):
            writer.write(b"x" * 65_536)
            await writer.drain()
            written += 65_536

    server.answer = flood
    outcome = await sent(http, server)
    assert (type(outcome), outcome.reason) == (RetryLater, Reason.SERVER_ERROR)
    assert len(outcome.detail) < 400
    assert written < 20 << 20


async def test_a_bomb_in_gzip_is_not_unpacked(http: Http, server: Server) -> None:
    server.answer = plain(200, "Content-Encoding: gzip\r\n", b"not gzip at all")
    assert isinstance(await sent(http, server), Sent)


async def test_nobody_listening_is_a_network_error(http: Http) -> None:
    async with running() as gone:
        pass
    outcome = await to(http, gone.url)
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
async def test_targets_that_must_not_be_reached_fail_for_good(http: Http, target: str) -> None:
    outcome = await to(http, target)
    assert (type(outcome), outcome.reason) == (Failed, Reason.REFUSED_TARGET)


async def test_a_name_is_judged_by_the_address_that_is_connected_to(
    http: Http, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def resolved(_host: str, _port: int) -> list[str]:
        return ["169.254.1.1", "127.0.0.1"]

    monkeypatch.setattr(addresses, "_resolved", resolved)
    outcome = await to(http, server.url.replace("127.0.0.1", "hooks.example.org"))
    assert isinstance(outcome, Sent)
    assert b"host: hooks.example.org" in server.requests[0].lower()


def test_one_s_own_networks_are_allowed() -> None:
    for allowed in ("127.0.0.1", "10.1.2.3", "192.168.1.1", "::1", "fd12::1", "8.8.8.8", "2606:4700::1111"):
        assert not is_refused(ipaddress.ip_address(allowed))


@pytest.mark.parametrize(
    ("host", "refused"),
    [
        ("169.254.169.254", True),
        ("[fe80::1%eth0]", True),
        ("0xa9.254.43518", True),
        ("2852039166", True),
        ("64:ff9b:1::a9fe:a9fe", True),
        ("::a9fe:a9fe", True),
        ("2001:0:0:0:0:0:5601:5601", True),
        ("metadata.google.internal.", True),
        ("127.0.0.1", False),
        ("10.0.0.1", False),
        ("hooks.example.org", False),
        ("", False),
    ],
)
def test_a_host_is_judged_by_its_look_where_that_is_enough(host: str, refused: bool) -> None:
    assert is_refused_host(host) is refused


async def test_a_certificate_that_nobody_vouches_for_is_refused(http: Http, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    self_signed(key, certificate)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    trusting = Http(2.0, str(certificate))
    async with running(tls) as server:
        outcome = await sent(http, server)
        assert (type(outcome), outcome.reason) == (RetryLater, Reason.TLS)
        assert isinstance(await sent(trusting, server), Sent)
        assert isinstance(await sent(trusting, server, tls_config={"max_version": "TLS12"}), Sent)
        assert isinstance(await sent(http, server, tls_config={"insecure_skip_verify": True}), Sent)
        wrong = await sent(trusting, server, tls_config={"server_name": "hooks.example.org"})
        assert (type(wrong), wrong.reason) == (RetryLater, Reason.TLS)
        async with running() as plain_one:
            server.answer = plain(307, f"Location: {plain_one.url}\r\n")
            down = await sent(trusting, server)
        assert (type(down), down.reason, plain_one.requests) == (Failed, Reason.REDIRECTED, [])
    await trusting.close()


async def test_a_client_certificate_is_shown_where_one_is_given(http: Http, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    self_signed(key, certificate)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificate))
    tls.load_cert_chain(certificate, key)
    tls.verify_mode = ssl.CERT_REQUIRED
    pem = {"ca": certificate.read_text(), "cert": certificate.read_text(), "key": key.read_text()}
    async with running(tls) as server:
        assert isinstance(await sent(http, server, tls_config=pem), Sent)
        refused = await sent(http, server, tls_config={"ca": pem["ca"]})
        assert isinstance(refused, RetryLater)


async def test_old_versions_of_tls_are_refused(http: Http, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    self_signed(key, certificate)
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    old.load_cert_chain(certificate, key)
    old.set_ciphers("ALL:@SECLEVEL=0")
    for bound in ("minimum_version", "maximum_version"):
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            setattr(old, bound, ssl.TLSVersion.TLSv1)
    async with running(old) as server:
        outcome = await sent(http, server, tls_config={"insecure_skip_verify": True})
    assert (type(outcome), outcome.reason) == (RetryLater, Reason.TLS)


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
