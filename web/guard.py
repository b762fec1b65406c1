"""The door: nothing but health is open without a credential, and whoever has one is known behind it.

A token comes as `Authorization: Bearer`, a session as a cookie, and what a session changes comes with its CSRF token
too. What is asked for, and who may, is judged here for the plain routes, and in `rights` for all others.
"""

import hmac
import time
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import quote

import msgspec

from sinks.audit_rows import Deed
from streams import metrics
from streams.credentials import MOST_TOKEN, csrf_of
from streams.observe import App, Receive, Send
from streams.observe import Scope as Connection
from streams.settings import Settings
from web.audit import Audit, address_of
from web.credentials import Credentials
from web.database import DatabaseAwayError
from web.http_body import headers_of, is_drained
from web.ingest import ROUTES as INGEST
from web.page import OPEN_FILES
from web.principal import AGAIN, KEY, Principal, Role, Scope
from web.problems import MEDIA_TYPE, RETRY_AFTER, Problem

PROBES: Final = frozenset({"/healthz", "/readyz", "/-/healthy", "/-/ready"})
OPEN: Final = frozenset({
    *(("GET", path) for path in PROBES | OPEN_FILES), *(("HEAD", path) for path in PROBES | OPEN_FILES),
    ("POST", "/api/v1/session"),
})  # fmt: skip
NOBODY: Final = Principal(name="nobody", kind="anonymous", role=Role.VIEWER, scopes=frozenset(), teams=frozenset())
SENDER: Final = Principal(name="anybody", kind="anonymous", role=Role.VIEWER, scopes=frozenset({Scope.INGEST}))
_COOKIE: Final = "incidents_session"
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_FREE: Final = 20
_ADDRESSES: Final = 10_000
_TOLD: Final = 60.0


class RefusedError(Exception):
    """Raised for a request that ends at the door."""

    def __init__(self, status: HTTPStatus, detail: str, reason: str) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason


class Strangers:
    """Bad credentials by address: some are free, then one a second; and when they were last audited."""

    def __init__(self) -> None:
        self._tries: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._told: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def may_try(self, address: str, now: float) -> bool:
        """Whether another bad credential of this address is looked at."""
        left, at = self._tries.pop(address, (float(_FREE), now))
        left = min(float(_FREE), left + now - at)
        self._tries[address] = (left - 1 if left >= 1 else left, now)
        _bounded(self._tries)
        return left >= 1

    def was_good(self, address: str) -> None:
        """Give a try back: many people may share an address, and come at once."""
        left, at = self._tries.get(address, (float(_FREE), 0.0))
        self._tries[address] = (min(float(_FREE), left + 1), at)

    def to_tell(self, address: str, now: float) -> int | None:
        """How many were refused since this address was audited; None while that was a moment ago."""
        at, count = self._told.pop(address, (float("-inf"), 0))
        due = now - at > _TOLD
        self._told[address] = (now, 0) if due else (at, count + 1)
        _bounded(self._told)
        return count + 1 if due else None


class Guard:
    """Lets in whoever has a credential."""

    def __init__(self, settings: Settings, credentials: Credentials, audit: Audit, app: App) -> None:
        self._settings = settings
        self._credentials = credentials
        self._audit = audit
        self._app = app
        self._strangers = Strangers()

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Answer one request, or have it answered."""
        if scope["type"] != "http":
            return
        try:
            scope[KEY] = await self._who(scope)
            scope[AGAIN] = partial(self._again, scope)
        except RefusedError as error:
            metrics.auth_refused.labels(error.reason).inc()
            await _refuse(scope, receive, send, error)
        except DatabaseAwayError as error:
            await _refuse(scope, receive, send, RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, str(error), "away"))
        else:
            await self._app(scope, receive, send)

    async def _again(self, scope: Connection) -> Principal | None:
        """Whoever the credential of a request is of by now; None once it is over."""
        headers = headers_of(scope)
        said = headers.get(b"authorization", b"").decode("latin-1")
        if said:
            return self._credentials.of_token(said.partition(" ")[2].strip())
        return await self._credentials.of_session(session_of(scope, headers))

    async def _who(self, scope: Connection) -> Principal:
        """Whoever asks, checked as far as the plain routes need it.

        Raises:
            RefusedError: nobody, or not for this.
            DatabaseAwayError: it cannot be known now.
        """
        method, path = scope["method"], scope["path"]
        headers = headers_of(scope)
        if (method, path) in OPEN:
            return NOBODY
        found = await self._shown(scope, headers)
        if (method, path) in INGEST:
            return self._for(Scope.INGEST, found, SENDER if self._settings.open_ingest == "on" else None)
        if path == "/metrics":
            return self._for(Scope.READ, found, NOBODY if self._settings.open_metrics == "on" else None)
        if found is None:
            raise RefusedError(HTTPStatus.UNAUTHORIZED, "Sign in, or show a token", "nothing")
        return found

    def _for(self, needed: Scope, found: Principal | None, otherwise: Principal | None) -> Principal:
        who = found or otherwise
        if who is None:
            raise RefusedError(HTTPStatus.UNAUTHORIZED, f"Show a token with the scope {needed}", "nothing")
        if found is not None and needed not in found.scopes:
            raise RefusedError(HTTPStatus.FORBIDDEN, f"This needs the scope {needed}", "scope")
        return who

    async def _shown(self, scope: Connection, headers: Mapping[bytes, bytes]) -> Principal | None:
        """Whoever the credential is of; None where there is none."""
        said = headers.get(b"authorization", b"")
        if said:
            kind, _, token = said.decode("latin-1").partition(" ")
            if kind.lower() != "bearer" or len(token) > MOST_TOKEN:
                raise await self._bad(scope, "Authorization must be: Bearer TOKEN")
            return await self._of_token(scope, token.strip())
        session = session_of(scope, headers)
        if not session:
            return None
        is_new = not self._credentials.knows_session(session)
        if is_new:
            self._may_try(scope)
        found = await self._credentials.of_session(session)
        if found is None:
            raise await self._bad(scope, "The session is over: sign in again")
        if is_new:
            self._strangers.was_good(address_of(scope))
        if scope["method"] not in _SAFE and not hmac.compare_digest(
            headers.get(b"x-csrf-token", b""), csrf_of(session).encode()
        ):
            raise RefusedError(HTTPStatus.FORBIDDEN, "X-CSRF-Token is not this session's", "csrf")
        return found

    async def _of_token(self, scope: Connection, token: str) -> Principal:
        found = self._credentials.of_token(token)
        if found is not None:
            return found
        self._may_try(scope)
        found = await self._credentials.of_new_token(token)
        if found is None:
            raise await self._bad(scope, "The token is unknown, revoked or expired")
        self._strangers.was_good(address_of(scope))
        return found

    def _may_try(self, scope: Connection) -> None:
        if not self._strangers.may_try(address_of(scope), time.monotonic()):
            raise RefusedError(HTTPStatus.TOO_MANY_REQUESTS, "Too many bad credentials from this address", "rate")

    async def _bad(self, scope: Connection, detail: str) -> RefusedError:
        address = address_of(scope)
        count = self._strangers.to_tell(address, time.monotonic())
        if count is not None:
            deed = Deed(
                at=datetime.now(UTC),
                actor="unknown",
                actor_kind="anonymous",
                address=address,
                action="show a credential",
                object=scope["path"][:200],
                outcome="refused",
                detail={"reason": detail, "times": count},
            )
            await self._audit.write(deed)
        return RefusedError(HTTPStatus.UNAUTHORIZED, detail, "credential")


def cookie_name(scope: Connection) -> str:
    """The name of the session's cookie: over https one that no other host, path or plain page can set."""
    return f"__Host-{_COOKIE}" if scope.get("scheme") == "https" else _COOKIE


def session_of(scope: Connection, headers: Mapping[bytes, bytes]) -> str:
    """The secret in the session's cookie, '' if there is none."""
    said = headers.get(b"cookie", b"").decode("latin-1")
    if _COOKIE not in said:
        return ""
    try:
        found = SimpleCookie(said).get(cookie_name(scope))
    except CookieError:
        return ""
    return found.value if found is not None and len(found.value) <= MOST_TOKEN else ""


async def _refuse(scope: Connection, receive: Receive, send: Send, error: RefusedError) -> None:
    """A problem; a text where Alertmanager's clients listen; and a browser that opens the page may sign in."""
    status, path = error.status, scope["path"]
    headers = headers_of(scope)
    extra: list[tuple[bytes, bytes]] = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
    browses = scope["method"] == "GET" and b"text/html" in headers.get(b"accept", b"") and "/api/" not in path
    if status == HTTPStatus.UNAUTHORIZED and browses:
        target = path + (f"?{scope['query_string'].decode('latin-1')}" if scope.get("query_string") else "")
        status = HTTPStatus.SEE_OTHER
        extra.append((b"location", f"/login?next={quote(target, safe='')}".encode()))
    elif status == HTTPStatus.UNAUTHORIZED:
        extra.append((b"www-authenticate", b"Bearer"))
    elif status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
        extra.append((b"retry-after", RETRY_AFTER.encode()))
    if path.startswith("/api/v2/"):
        kind, body = "application/json", msgspec.json.encode(str(error))
    else:
        kind, body = MEDIA_TYPE, msgspec.json.encode(Problem(title=status.phrase, status=status, detail=str(error)))
    extra += [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
    if not await is_drained(receive):
        extra.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": int(status), "headers": extra})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def _bounded(known: "OrderedDict[str, tuple[float, float]] | OrderedDict[str, tuple[float, int]]") -> None:
    while len(known) > _ADDRESSES:
        known.popitem(last=False)
