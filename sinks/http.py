"""One HTTP request to a target, within one deadline, and what its answer means.

Redirects are followed only where the request stays what it is (307 and 308);
after 301, 302 and 303 clients send a GET, which carries no notice. Every hop
goes to a checked address, never from https to http, and what may be secret
goes to no other origin than the one that was configured. Another host is
followed only to addresses that everybody may reach: whoever answers for a
target must not choose among our own.
"""

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
import msgspec

from sinks.addresses import CheckedBackend, RefusedAddressError
from sinks.outcome import Failed, Outcome, Reason, RetryLater, Sent
from sinks.proxies import proxy_for
from sinks.tls import client_context
from streams import trace_context
from streams.addresses import is_refused_host

MAX_ANSWER: Final = 65_536
MAX_HOPS: Final = 10
_MAX_DETAIL: Final = 300
_MAX_CLIENTS: Final = 64
_AGENT: Final = "llm-incident-manager"
_JSON: Final = "application/json"
_STAYS_POST: Final = frozenset({307, 308})

encode = msgspec.json.Encoder().encode


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent where. `options` are the integration's `http_config`; `key` is the idempotency key.

    Of a `secret` body no other origin is told.
    """

    url: str
    key: str
    body: bytes
    options: Mapping[str, Any] = {}
    headers: Mapping[str, str] = {}
    content_type: str = _JSON
    method: str = "POST"
    secret: bool = False

    def __repr__(self) -> str:
        return f"Request({self.method}, {self.key})"


class Answer(msgspec.Struct, frozen=True):
    """What a target answered; of a large or slow body only the start is there."""

    status: int
    retry_after: str | None
    body: bytes

    @property
    def outcome(self) -> Outcome:
        """What the status says, with the start of the body quoted."""
        return of_status(self.status, self.retry_after, quoted(self.body), datetime.now(UTC))

    def json(self) -> Mapping[str, Any]:
        """The body as a JSON object; empty where it is none."""
        try:
            said = msgspec.json.decode(self.body)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            return {}
        return said if isinstance(said, dict) else {}


class Http:
    """Sends requests; one for each process, closed at its end.

    `deadline` is of a whole request [s] whose options give no `timeout`.
    """

    def __init__(self, deadline: float, trusted: str | None = None) -> None:
        self._deadline = deadline
        self._trusted = trusted
        self._clients: dict[bytes, httpx.AsyncClient] = {}

    async def send(self, request: Request) -> Answer | Outcome:
        """The answer, or how there came to be none."""
        deadline = float(request.options.get("timeout") or self._deadline)
        until = asyncio.get_running_loop().time() + deadline
        try:
            async with asyncio.timeout_at(until):
                response = await self._answered(request)
        except TimeoutError:
            return RetryLater(Reason.TIMEOUT, f"no answer within {deadline:g} s")
        except (httpx.HTTPError, httpx.InvalidURL, RefusedAddressError, ValueError, ssl.SSLError) as error:
            return of_error(error)
        return await _read(response, until)

    async def told(self, request: Request) -> Outcome:
        """How a request ended whose answer's status says everything."""
        answer = await self.send(request)
        return answer.outcome if isinstance(answer, Answer) else answer

    async def close(self) -> None:
        """Close every connection."""
        for client in self._clients.values():
            await client.aclose()

    async def _answered(self, request: Request) -> httpx.Response:
        follows = request.options.get("follow_redirects", True)
        first = current = httpx.URL(request.url)
        for _ in range(MAX_HOPS):
            client = self._client(request.options, current, abroad=current.host != first.host)
            response = await client.send(_built(client, request, current, secret=_origin(first)), stream=True)
            place = response.headers.get("Location", "")
            if not (follows and place and response.status_code in _STAYS_POST):
                return response
            following = current.join(place)
            if following.scheme not in {"http", "https"} or (current.scheme == "https" and following.scheme == "http"):
                return response
            if not _may_leave(request, first, following):
                return response
            await response.aclose()
            current = following
        raise httpx.TooManyRedirects(f"more than {MAX_HOPS} redirects")

    def _client(self, options: Mapping[str, Any], url: httpx.URL, *, abroad: bool) -> httpx.AsyncClient:
        # Another host has connections of its own: those of targets may lead to private addresses.
        tls, proxy = options.get("tls_config") or {}, proxy_for(url, options)
        key = encode([sorted(tls.items()), proxy, abroad])
        if key not in self._clients:
            if len(self._clients) >= _MAX_CLIENTS:
                # Not closed: somebody may be sending with it; it ends with its last response.
                del self._clients[next(iter(self._clients))]
            self._clients[key] = _new_client(client_context(tls, self._trusted), proxy, abroad=abroad)
        return self._clients[key]


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
    whole, _, part = text.partition(".")
    if whole.isascii() and whole.isdecimal() and (not part or (part.isascii() and part.isdecimal())):
        return timedelta(seconds=min(float(f"{whole[:9]}.{part[:3] or 0}"), 86_400))
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(timedelta(0), min(at - now, timedelta(days=1)))


def of_error(error: Exception) -> Outcome:
    """What it means that there was no answer; no text of it tells the address, which may be secret."""
    chain = _causes(error)
    if any(isinstance(cause, RefusedAddressError) for cause in chain):
        return Failed(Reason.REFUSED_TARGET, "the target's address is not one that notices may go to")
    if any(isinstance(cause, ssl.SSLError) for cause in chain):
        return RetryLater(Reason.TLS, str(error)[:_MAX_DETAIL])
    if isinstance(error, httpx.UnsupportedProtocol | httpx.InvalidURL | ValueError):
        return Failed(Reason.REFUSED_TARGET, f"the target is not a usable URL: {type(error).__name__}")
    if isinstance(error, httpx.TooManyRedirects):
        return Failed(Reason.REDIRECTED, str(error))
    if isinstance(error, httpx.LocalProtocolError):
        return Failed(Reason.BAD_NOTICE, "a header has letters that may not stand there")
    return RetryLater(Reason.NETWORK, f"{type(error).__name__}: {error}"[:_MAX_DETAIL])


def quoted(body: bytes) -> str:
    """The start of what a target said, on one line."""
    text = body[: 4 * _MAX_DETAIL].decode(errors="replace")
    return "".join(letter if letter.isprintable() else " " for letter in text).strip()[:_MAX_DETAIL]


class _CheckedTransport(httpx.AsyncHTTPTransport):
    """httpx's transport over connections that `CheckedBackend` opens."""

    def __init__(self, verify: ssl.SSLContext, proxy: str | None, *, abroad: bool) -> None:
        super().__init__(verify=verify, trust_env=False)
        given: dict[str, Any] = {
            "ssl_context": verify,
            "max_connections": None,
            "max_keepalive_connections": 100,
            "keepalive_expiry": 30.0,
            "network_backend": CheckedBackend(abroad=abroad),
        }
        self._pool = _proxied(proxy, given) if proxy else httpcore.AsyncConnectionPool(**given)


def _proxied(proxy: str, given: dict[str, Any]) -> httpcore.AsyncConnectionPool:
    url = httpx.URL(proxy)
    auth = (url.username, url.password) if url.username else None
    bare = str(url.copy_with(username=None, password=None))
    if url.scheme.startswith("socks5"):
        return httpcore.AsyncSOCKSProxy(bare.replace("socks5h", "socks5", 1), proxy_auth=auth, **given)
    return httpcore.AsyncHTTPProxy(bare, proxy_auth=auth, **given)


def _new_client(verify: ssl.SSLContext, proxy: str | None, *, abroad: bool) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=_CheckedTransport(verify, proxy, abroad=abroad),
        follow_redirects=False,
        trust_env=False,
        timeout=None,  # noqa: S113 - the deadline over the whole send is ours
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
    )


def _built(client: httpx.AsyncClient, request: Request, url: httpx.URL, *, secret: tuple[str, ...]) -> httpx.Request:
    if is_refused_host(url.host):  # a proxy would resolve it for us
        raise RefusedAddressError(f"{url.host} is not an address that notices may go to")
    headers = httpx.Headers()
    if _origin(url) == secret:
        headers = httpx.Headers([(name, value) for name, value in request.options.get("headers", ())])
        if "basic_auth" in request.options:
            pair = b64encode(":".join(request.options["basic_auth"]).encode()).decode()
            headers["Authorization"] = f"Basic {pair}"
        if "authorization" in request.options:
            headers["Authorization"] = request.options["authorization"]
    headers["Accept-Encoding"] = "identity"
    headers["Content-Type"] = request.content_type
    headers["Idempotency-Key"] = request.key
    if context := trace_context.current.get():
        headers["traceparent"] = context
    headers.setdefault("User-Agent", _AGENT)
    for name, value in request.headers.items():
        if name.lower() != "authorization" or _origin(url) == secret:
            headers[name] = value
    server_name = (request.options.get("tls_config") or {}).get("server_name")
    extensions = {"sni_hostname": server_name} if server_name else None
    return client.build_request(request.method, url, content=request.body, headers=headers, extensions=extensions)


def _may_leave(request: Request, first: httpx.URL, following: httpx.URL) -> bool:
    if request.secret:
        return _origin(following) == _origin(first)
    # A proxy resolves the name, so nothing can be said of its address.
    return following.host == first.host or not request.options.get("proxy_url")


def _origin(url: httpx.URL) -> tuple[str, ...]:
    return url.scheme, url.host, str(url.port or {"http": 80, "https": 443}.get(url.scheme, 0))


async def _read(response: httpx.Response, until: float) -> Answer:
    # The status alone decides. The rest is read so that the connection can be
    # used again and a refusal be quoted, never past the bounds.
    start = bytearray()
    try:
        async with asyncio.timeout_at(until):
            async for part in response.aiter_raw():
                start += part
                if len(start) >= MAX_ANSWER:
                    break
    except (TimeoutError, httpx.HTTPError):
        pass
    finally:
        await response.aclose()
    return Answer(response.status_code, response.headers.get("Retry-After"), bytes(start[:MAX_ANSWER]))


def _causes(error: BaseException | None) -> list[BaseException]:
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain
