"""OAuth 2.0 by client credentials (RFC 6749, section 4.4): tokens are kept until they end or are refused.

Where there is no token nothing is sent, and why there is none is how the send ended.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import quote_plus, urlencode

import httpx
import msgspec

from sinks.outcome import Failed, Outcome, Reason, RetryLater
from sinks.request import Answer, Request, encode

EARLY: Final = 10.0
"""Seconds before its end at which a token counts as over."""
_LONGEST: Final = 86_400.0 * 365
_MAX_CLIENTS: Final = 256
_FORM: Final = "application/x-www-form-urlencoded"
_WAYS: Final = ("tls_config", "proxy_url", "no_proxy")
_REFUSED: Final = frozenset({httpx.codes.BAD_REQUEST, httpx.codes.UNAUTHORIZED})

Ask = Callable[[Request], Awaitable[Answer | Outcome]]


class Token(msgspec.Struct, frozen=True):
    """The header that shows it, and when it ends (time of the event loop)."""

    header: str
    until: float

    def __repr__(self) -> str:
        return f"Token(until={self.until})"


class Tokens:
    """The tokens of this process, one for each `oauth2` of an `http_config`."""

    def __init__(self) -> None:
        self._clients: dict[bytes, _Client] = {}

    async def send(self, request: Request, ask: Ask) -> Answer | Outcome:
        """Send with a token; one that was kept and is refused is taken for over, and a new one tried once."""
        client = self._client(request.options["oauth2"])
        kept = client.kept()
        token = kept or await client.fetched(ask)
        answer = await _shown(request, token, ask)
        if kept is not None and isinstance(answer, Answer) and answer.status == httpx.codes.UNAUTHORIZED:
            client.forget(kept)
            answer = await _shown(request, await client.fetched(ask), ask)
        return answer

    def _client(self, settings: Mapping[str, Any]) -> "_Client":
        key = encode(settings)
        if key not in self._clients and len(self._clients) >= _MAX_CLIENTS:
            del self._clients[next(iter(self._clients))]
        return self._clients.setdefault(key, _Client(settings))


class _Client:
    """One client at one token endpoint."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        self._token: Token | None = None
        self._in_body = False  # whether the endpoint wants the client's secret in the body
        self._fetching = asyncio.Lock()

    def kept(self) -> Token | None:
        """The token, while it is good."""
        return self._token if self._token is not None and _now() < self._token.until else None

    def forget(self, token: Token) -> None:
        """It was refused; perhaps another send has fetched the next already."""
        if self._token is token:
            self._token = None

    async def fetched(self, ask: Ask) -> Token | Outcome:
        """A good token, of one request for all that wait for it."""
        async with self._fetching:
            found = self.kept() or await self._ask(ask)
            if isinstance(found, Token):
                self._token = found
            return found

    async def _ask(self, ask: Ask) -> Token | Outcome:
        answer = await ask(_request(self._settings, in_body=self._in_body))
        if isinstance(answer, Answer) and answer.status in _REFUSED and not self._in_body:
            other = await ask(_request(self._settings, in_body=True))
            if isinstance(other, Answer) and other.status < httpx.codes.MULTIPLE_CHOICES:
                self._in_body, answer = True, other
        return _token(answer, _now())


async def _shown(request: Request, token: Token | Outcome, ask: Ask) -> Answer | Outcome:
    if not isinstance(token, Token):
        return token
    options = {**request.options, "authorization": token.header}
    return await ask(msgspec.structs.replace(request, options=options))


def _request(settings: Mapping[str, Any], *, in_body: bool) -> Request:
    client, secret = settings["client_id"], settings["client_secret"]
    said = {"grant_type": "client_credentials", **settings.get("endpoint_params", {})}
    if scopes := settings.get("scopes"):
        said["scope"] = " ".join(scopes)
    options: dict[str, Any] = {name: settings[name] for name in _WAYS if name in settings}
    if in_body:
        said |= {"client_id": client, "client_secret": secret}
    else:
        options["basic_auth"] = [quote_plus(client), quote_plus(secret)]
    return Request(
        url=settings["token_url"], key="", body=urlencode(said).encode(), options=options, content_type=_FORM,
        headers={"Accept": "application/json"}, secret=True,
    )  # fmt: skip


def _token(answer: Answer | Outcome, now: float) -> Token | Outcome:
    """What an endpoint gave. No text of it is quoted that may be a token."""
    if not isinstance(answer, Answer):
        return msgspec.structs.replace(answer, detail=f"no token: {answer.detail}")
    outcome = answer.outcome
    if isinstance(outcome, RetryLater):
        return msgspec.structs.replace(outcome, detail=f"no token: {outcome.detail}")
    if isinstance(outcome, Failed):
        return Failed(Reason.AUTH, f"no token: {outcome.detail}")
    said = answer.json()
    given, kind = said.get("access_token"), str(said.get("token_type") or "bearer")
    if not isinstance(given, str) or not given:
        return RetryLater(Reason.SERVER_ERROR, f"no token: HTTP {answer.status} without an access_token")
    kind = "Bearer" if kind.lower() == "bearer" else kind
    return Token(f"{kind} {given}", now + _lifetime(said.get("expires_in")))


def _lifetime(said: object) -> float:
    """Seconds for which a token is used; one that names no end is used until it is refused."""
    try:
        seconds = float(said) if isinstance(said, int | float | str) else 0.0
    except (ValueError, OverflowError):
        seconds = 0.0
    return min(seconds, _LONGEST) - EARLY if seconds > 0 else _LONGEST


def _now() -> float:
    return asyncio.get_running_loop().time()
