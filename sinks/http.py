"""Sends HTTP requests to targets, each within one deadline.

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
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final

import httpcore
import httpx

from sinks.addresses import CheckedBackend, RefusedAddressError
from sinks.oauth import Tokens
from sinks.outcome import Outcome, Reason, RetryLater
from sinks.proxies import proxy_for
from sinks.request import Answer, Request, encode, of_error
from sinks.tls import client_context
from streams import trace_context
from streams.addresses import is_refused_host

MAX_ANSWER: Final = 65_536
MAX_HOPS: Final = 10
_MAX_CLIENTS: Final = 64
_AGENT: Final = "llm-incident-manager"
_STAYS_POST: Final = frozenset({307, 308})


class Http:
    """Sends requests; one for each process, closed at its end.

    `deadline` is of a whole request [s] whose options give no `timeout`.
    """

    def __init__(self, deadline: float, trusted: str | None = None) -> None:
        self._deadline = deadline
        self._trusted = trusted
        self._clients: dict[bytes, httpx.AsyncClient] = {}
        self._tokens = Tokens()

    async def send(self, request: Request) -> Answer | Outcome:
        """The answer, or how there came to be none."""
        deadline = float(request.options.get("timeout") or self._deadline)
        until = asyncio.get_running_loop().time() + deadline
        if "oauth2" in request.options:
            # With what it takes to get a token it is still one send, and has one deadline.
            return await self._tokens.send(request, lambda asked: self._within(asked, until, deadline))
        return await self._within(request, until, deadline)

    async def _within(self, request: Request, until: float, deadline: float) -> Answer | Outcome:
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
    if request.key:
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
