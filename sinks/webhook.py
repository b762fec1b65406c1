"""The webhook channel: one POST, one outcome, within one deadline."""

import asyncio
import ssl
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final

import httpcore
import httpx

from sinks.addresses import CheckedBackend, RefusedAddressError
from sinks.channel import Telling
from sinks.message import webhook_body
from sinks.outcome import Failed, Outcome, Reason, RetryLater, Sent

MAX_ANSWER: Final = 65_536
_MAX_DETAIL: Final = 300
_AGENT: Final = "llm-incident-manager"


class Webhook:
    """Sends notices to webhooks; one for each process, closed at its end."""

    def __init__(self, deadline: float, verify: ssl.SSLContext | None = None) -> None:
        self._deadline = deadline
        self._client = httpx.AsyncClient(
            transport=_CheckedTransport(verify or httpx.create_ssl_context(trust_env=False)),
            follow_redirects=False,
            trust_env=False,
            timeout=None,  # noqa: S113 - the deadline over the whole send is ours
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        )

    async def tell(self, telling: Telling) -> Outcome:
        """Post Alertmanager's body."""
        body = webhook_body(telling.notice, telling.options, telling.reason)
        return await self.send(telling.target, str(telling.id), body, telling.options)

    async def send(self, target: str, task_id: str, body: bytes, options: Mapping[str, Any]) -> Outcome:
        """Post the body; every way that it can end is an outcome."""
        until = asyncio.get_running_loop().time() + self._deadline
        try:
            async with asyncio.timeout_at(until):
                request = self._request(target, task_id, body, options)
                response = await self._client.send(request, stream=True)
        except TimeoutError:
            return RetryLater(Reason.TIMEOUT, f"no answer within {self._deadline:g} s")
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            return _of_error(error)
        return await _judged(response, until)

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    def _request(self, target: str, task_id: str, body: bytes, options: Mapping[str, Any]) -> httpx.Request:
        headers = httpx.Headers([(name, value) for name, value in options.get("headers", ())])
        if "basic_auth" in options:
            pair = b64encode(":".join(options["basic_auth"]).encode()).decode()
            headers["Authorization"] = f"Basic {pair}"
        if "authorization" in options:
            headers["Authorization"] = options["authorization"]
        headers["Accept-Encoding"] = "identity"
        headers["Content-Type"] = "application/json"
        headers["Idempotency-Key"] = task_id
        headers.setdefault("User-Agent", _AGENT)
        return self._client.build_request("POST", target, content=body, headers=headers)


class _CheckedTransport(httpx.AsyncHTTPTransport):
    """httpx's transport over connections that `CheckedBackend` opens."""

    def __init__(self, verify: ssl.SSLContext) -> None:
        super().__init__(verify=verify, trust_env=False)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=verify,
            max_connections=None,
            max_keepalive_connections=100,
            keepalive_expiry=30.0,
            network_backend=CheckedBackend(),
        )


def of_status(status: int, retry_after: str | None, said: str, now: datetime) -> Outcome:
    """What an HTTP answer means: 2xx is taken, 429 and 5xx may pass later, all else never will."""
    detail = f"HTTP {status}: {said}" if said else f"HTTP {status}"
    if 200 <= status < 300:  # noqa: PLR2004 - the class of codes
        return Sent(f"HTTP {status}")
    if status == httpx.codes.TOO_MANY_REQUESTS:
        return RetryLater(Reason.RATE_LIMITED, detail, wish(retry_after, now))
    if status >= 500:  # noqa: PLR2004
        return RetryLater(Reason.SERVER_ERROR, detail, wish(retry_after, now))
    if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN, httpx.codes.PROXY_AUTHENTICATION_REQUIRED}:
        return Failed(Reason.AUTH, detail)
    if 300 <= status < 400:  # noqa: PLR2004
        return Failed(Reason.REDIRECTED, detail)
    return Failed(Reason.CLIENT_ERROR, detail)


def wish(retry_after: str | None, now: datetime) -> timedelta | None:
    """How long `Retry-After` asks to wait: seconds or a date; None where it says nothing usable."""
    text = (retry_after or "").strip()
    if text.isascii() and text.isdecimal():
        return timedelta(seconds=min(int(text[:9]), 86_400))
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(timedelta(0), min(at - now, timedelta(days=1)))


async def _judged(response: httpx.Response, until: float) -> Outcome:
    # The status alone decides. The rest is read so that the connection can be
    # used again and a refusal be quoted, never past the bounds.
    start = b""
    try:
        async with asyncio.timeout_at(until):
            start = await _first(response)
    except (TimeoutError, httpx.HTTPError):
        pass
    finally:
        await response.aclose()
    return of_status(response.status_code, response.headers.get("Retry-After"), _quoted(start), datetime.now(UTC))


async def _first(response: httpx.Response) -> bytes:
    start = bytearray()
    async for part in response.aiter_raw():
        start += part
        if len(start) >= MAX_ANSWER:
            break
    return bytes(start[:MAX_ANSWER])


def _quoted(body: bytes) -> str:
    text = body[: 4 * _MAX_DETAIL].decode(errors="replace")
    return "".join(letter if letter.isprintable() else " " for letter in text).strip()[:_MAX_DETAIL]


def _of_error(error: Exception) -> Outcome:
    chain = _causes(error)
    if any(isinstance(cause, RefusedAddressError) for cause in chain):
        return Failed(Reason.REFUSED_TARGET, str(error))
    if any(isinstance(cause, ssl.SSLError) for cause in chain):
        return RetryLater(Reason.TLS, str(error)[:_MAX_DETAIL])
    if isinstance(error, httpx.UnsupportedProtocol | httpx.InvalidURL | ValueError):
        return Failed(Reason.REFUSED_TARGET, f"the target is not a usable URL: {type(error).__name__}")
    if isinstance(error, httpx.LocalProtocolError):
        return Failed(Reason.BAD_NOTICE, str(error)[:_MAX_DETAIL])
    return RetryLater(Reason.NETWORK, f"{type(error).__name__}: {error}"[:_MAX_DETAIL])


def _causes(error: BaseException | None) -> list[BaseException]:
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain
