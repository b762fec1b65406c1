"""Tokens by client credentials against local servers: asked for once, kept, asked for anew, and why there is none."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qsl

import pytest

from sinks import oauth
from sinks.http import Http
from sinks.outcome import Failed, Outcome, Reason, RetryLater, Sent
from sinks.request import Request
from tests.sinks.http_server import Answer, Server, plain, running

TOKEN = b'{"access_token":"one","token_type":"bearer","expires_in":3600}'


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    http = Http(5.0)
    yield http
    await http.close()


@pytest.fixture
async def target() -> AsyncIterator[Server]:
    async with running() as server:
        yield server


@pytest.fixture
async def issuer() -> AsyncIterator[Server]:
    async with running() as server:
        server.answer = plain(200, "", TOKEN)
        yield server


async def sent(http: Http, target: Server, issuer: Server, **given: Any) -> Outcome:
    oauth2 = {"client_id": "in cidents", "client_secret": "s3:cret", "token_url": issuer.url, **given}
    return await http.told(Request(url=target.url, key="the-task", body=b"{}", options={"oauth2": oauth2}))


def in_turn(*answers: Answer) -> Answer:
    """One answer for each request; the last for all that follow."""
    left = list(answers)

    async def answer(request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(request, reader, writer)

    return answer


def issuing(*tokens: str, expires: str = "3600") -> Answer:
    return in_turn(
        *(plain(200, "", f'{{"access_token":"{token}","expires_in":{expires}}}'.encode()) for token in tokens)
    )


def shown(target: Server) -> list[str]:
    """The tokens that came with requests."""
    lines = [line for request in target.requests for line in request.decode().split("\r\n")]
    return [line.partition(" ")[2] for line in lines if line.lower().startswith("authorization:")]


async def test_one_token_is_asked_for_and_shown_with_every_request(http: Http, target: Server, issuer: Server) -> None:
    given = {"scopes": ["a", "b"], "endpoint_params": {"audience": "x y"}}
    outcomes = await asyncio.gather(*(sent(http, target, issuer, **given) for _ in range(20)))
    assert all(isinstance(one, Sent) for one in outcomes)
    [asked] = issuer.requests
    head, _, form = asked.decode().partition("\r\n\r\n")
    pair = b64encode(b"in+cidents:s3%3Acret").decode()
    assert f"authorization: basic {pair}".lower() in head.lower()
    assert "content-type: application/x-www-form-urlencoded" in head.lower()
    assert "idempotency-key" not in head.lower()
    assert dict(parse_qsl(form)) == {"grant_type": "client_credentials", "scope": "a b", "audience": "x y"}
    assert shown(target) == ["Bearer one"] * 20


async def test_an_endpoint_that_reads_the_secret_in_the_body_only_is_asked_so_from_then_on(
    http: Http, target: Server, issuer: Server
) -> None:
    issuer.answer = in_turn(plain(401), issuing("one", expires="5"))
    for _ in range(2):
        assert isinstance(await sent(http, target, issuer), Sent)
    first, *others = (request.decode() for request in issuer.requests)
    assert "client_secret" not in first
    assert len(others) == 2  # a token that ends within seconds is not kept
    assert all("client_id=in+cidents&client_secret=s3%3Acret" in other for other in others)
    assert not any("authorization:" in other.lower() for other in others)


async def test_a_kept_token_that_is_refused_is_replaced_once(http: Http, target: Server, issuer: Server) -> None:
    issuer.answer = issuing("one", "two", "three")
    target.answer = in_turn(plain(200), plain(401), plain(200), plain(401))
    assert isinstance(await sent(http, target, issuer), Sent)
    assert isinstance(await sent(http, target, issuer), Sent)
    refused = await sent(http, target, issuer)
    assert (type(refused), refused.reason) == (Failed, Reason.AUTH)
    assert shown(target) == [f"Bearer {token}" for token in ("one", "one", "two", "two", "three")]


async def test_a_new_token_that_is_refused_is_an_answer(http: Http, target: Server, issuer: Server) -> None:
    target.answer = plain(401)
    refused = await sent(http, target, issuer)
    assert (type(refused), refused.reason) == (Failed, Reason.AUTH)
    assert (len(target.requests), len(issuer.requests)) == (1, 1)


async def test_a_token_is_asked_for_anew_before_it_ends(
    http: Http, target: Server, issuer: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer.answer = issuing("one", "two")
    now = asyncio.get_running_loop().time()
    for later in (0.0, 3500.0, 3595.0, 3600.0):
        monkeypatch.setattr(oauth, "_now", lambda later=later: now + later)
        await sent(http, target, issuer)
    assert shown(target) == ["Bearer one", "Bearer one", "Bearer two", "Bearer two"]


async def cut(_request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def hang(_request: bytes, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read()


@pytest.mark.parametrize(
    ("answer", "kind", "reason"),
    [
        (plain(400, "", b'{"error":"invalid_client"}'), Failed, Reason.AUTH),
        (plain(401), Failed, Reason.AUTH),
        (plain(404), Failed, Reason.AUTH),
        (plain(302, "Location: /login\r\n"), Failed, Reason.AUTH),
        (plain(429), RetryLater, Reason.RATE_LIMITED),
        (plain(503), RetryLater, Reason.SERVER_ERROR),
        (plain(200, "", b"<html>"), RetryLater, Reason.SERVER_ERROR),
        (plain(200, "", b'{"access_token":""}'), RetryLater, Reason.SERVER_ERROR),
        (cut, RetryLater, Reason.NETWORK),
        (hang, RetryLater, Reason.TIMEOUT),
    ],
    ids=["400", "401", "404", "302", "429", "503", "no JSON", "empty", "cut", "hang"],
)
async def test_without_a_token_nothing_is_sent_and_the_outcome_says_why(
    target: Server, issuer: Server, answer: Answer, kind: type[Outcome], reason: Reason
) -> None:
    http = Http(0.5)
    issuer.answer = answer
    outcome = await sent(http, target, issuer)
    await http.close()
    assert (type(outcome), outcome.reason, target.requests) == (kind, reason, [])
    assert "s3:cret" not in outcome.detail
    if answer is not hang:
        assert outcome.detail.startswith("no token: ")


@pytest.mark.parametrize("token_url", ["http://169.254.169.254/token", "http://[fe80::1]/"])
async def test_where_tokens_come_from_is_judged_like_a_target(
    http: Http, target: Server, issuer: Server, token_url: str
) -> None:
    outcome = await sent(http, target, issuer, token_url=token_url)
    assert (type(outcome), outcome.reason, target.requests) == (Failed, Reason.REFUSED_TARGET, [])


async def test_a_token_goes_to_no_other_origin_nor_the_secret(http: Http, target: Server, issuer: Server) -> None:
    async with running() as other:
        target.answer = plain(307, f"Location: {other.url}\r\n")
        assert isinstance(await sent(http, target, issuer), Sent)
        assert shown(other) == []
        issuer.answer = plain(307, f"Location: {other.url}\r\n")
        outcome = await sent(http, target, issuer, scopes=["another"])
        assert (type(outcome), outcome.reason) == (Failed, Reason.AUTH)
        assert len(other.requests) == 1


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (3600, 3590.0),
        ("60", 50.0),
        (None, 86_400.0 * 365),
        (0, 86_400.0 * 365),
        (10**400, 86_400.0 * 365),
        ([], 86_400.0 * 365),
    ],
)
def test_how_long_a_token_is_kept(said: object, seconds: float) -> None:
    assert oauth._lifetime(said) == seconds
