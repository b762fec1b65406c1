"""Signing in with a password, who one is, another password, and signing out."""

from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from math import ceil
from typing import Annotated, Any, Final, cast

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.datastructures import Cookie, State
from litestar.exceptions import HTTPException, PermissionDeniedException
from litestar.params import JSONBody

from sinks import login_rows, user_rows
from streams.credentials import MOST_PASSWORD, csrf_of, digest, new_session, refusal_of
from streams.observe import Scope as Connection
from streams.settings import Settings
from web.audit import address_of, note
from web.credentials import Credentials
from web.guard import cookie_name, session_of
from web.http_body import headers_of
from web.login_rate import WINDOW, keys_of, wait_of
from web.passwords import Passwords
from web.principal import NEEDS, Principal, Role, Scope, principal
from web.problems import FieldProblemError, Problem, respond

_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"
_SHOWN: Final = 64
AnyRequest = Request[Any, Any, Any]
Secret = Annotated[str, msgspec.Meta(max_length=MOST_PASSWORD)]


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """Who signs in."""

    name: Annotated[str, msgspec.Meta(max_length=200)]
    password: Secret


class NewPassword(msgspec.Struct, frozen=True, kw_only=True):
    """One's password, and what it shall be."""

    password: Secret
    new_password: Secret


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, and what they may. `csrf` goes into X-CSRF-Token with each change that a session makes.

    `signing_in` is False where nobody needs to; `teams` None means all of them.
    """

    name: str
    kind: str
    role: Role
    scopes: list[Scope]
    teams: list[str] | None
    signing_in: bool
    csrf: str


@get("/api/v1/session", summary="Who asks", tags=["access"])
async def session(state: State, request: AnyRequest) -> Session:
    """Of a token, a session, or anybody."""
    settings: Settings = state.settings
    return _shown(principal(request), settings, secret_of(request))


@post("/api/v1/session", summary="Sign in", tags=["access"], status_code=200, opt={NEEDS: None})
async def sign_in(state: State, request: AnyRequest, data: JSONBody[Login]) -> Response[Session] | Response[Problem]:
    """Sets the session's cookie. After some failures the next try of this account or address must wait (429)."""
    settings: Settings = state.settings
    passwords: Passwords = state.passwords
    credentials: Credentials = state.credentials
    database = credentials.database
    name, address, now = data.name.strip().lower(), address_of(cast("Connection", request.scope)), datetime.now(UTC)
    note(request, actor=name[:_SHOWN] or "nobody")
    keys = keys_of(name, address)
    async with database.writing() as conn:
        await conn.execute(_LOCK, next(iter(keys)))
        wait = wait_of(keys, await login_rows.known(conn, list(keys), now - WINDOW), now)
        if wait > timedelta(0):
            return _later(wait)
        # Counted before it is judged, so that many at once are many.
        await login_rows.count(conn, list(keys), now, now - WINDOW)
        kept = await user_rows.password_of(conn, name)
    if not await passwords.is_good(kept, data.password):
        raise HTTPException("Name or password is wrong", status_code=HTTPStatus.UNAUTHORIZED)
    secret = new_session()
    async with database.writing() as conn:
        await login_rows.clear(conn, list(keys)[:2])
        await login_rows.take_back(conn, list(keys)[2:])
        await user_rows.open_session(
            conn, digest(secret), name, address=address, agent=request.headers.get("user-agent", "")[:200],
            expires_at=now + timedelta(hours=settings.session_hours),
        )  # fmt: skip
    who = await credentials.of_session(secret)
    if who is None:
        raise HTTPException("The user was disabled meanwhile", status_code=HTTPStatus.UNAUTHORIZED)
    cookie = _cookie(request, secret, settings.session_hours * 3600)
    return Response(_shown(who, settings, secret), cookies=[cookie])


@delete("/api/v1/session", summary="Sign out", tags=["access"], status_code=200, opt={NEEDS: Scope.READ})
async def sign_out(state: State, request: AnyRequest) -> Response[None]:
    """Ends the session everywhere."""
    secret = secret_of(request)
    if secret:
        await _ended(state, secret)
    return Response(None, status_code=200, cookies=[_cookie(request, "", 0)])


@post("/api/v1/session/password", summary="Change one's password", tags=["access"], status_code=200,
      opt={NEEDS: Scope.READ})  # fmt: skip
async def change_password(state: State, request: AnyRequest, data: JSONBody[NewPassword]) -> Session:
    """Ends all other sessions of this user."""
    who = principal(request)
    secret = secret_of(request)
    if who.kind != "user":
        raise PermissionDeniedException("Only somebody who signed in with a password has one")
    refused = refusal_of(data.new_password)
    if refused:
        raise FieldProblemError("new_password", refused)
    credentials: Credentials = state.credentials
    database = credentials.database
    passwords: Passwords = state.passwords
    async with database.reading() as conn:
        kept = await user_rows.password_of(conn, who.name)
    if not await passwords.is_good(kept, data.password):
        raise FieldProblemError("password", "it is not the present one")
    fresh = await passwords.kept(data.new_password)
    async with database.writing() as conn:
        await user_rows.set_password(conn, who.name, fresh, kept=digest(secret))
    credentials.forget_sessions()
    settings: Settings = state.settings
    return _shown(who, settings, secret)


ROUTES: Final = (session, sign_in, sign_out, change_password)


async def _ended(state: State, secret: str) -> None:
    credentials: Credentials = state.credentials
    database = credentials.database
    async with database.writing() as conn:
        await user_rows.close_session(conn, digest(secret))
    credentials.forget_sessions()


def _shown(who: Principal, settings: Settings, secret: str) -> Session:
    return Session(
        name=who.name,
        kind=who.kind,
        role=who.role,
        scopes=sorted(who.scopes),
        teams=sorted(who.teams) if who.teams is not None else None,
        signing_in=settings.signing_in,
        csrf=csrf_of(secret) if secret and who.kind == "user" else "",
    )


def secret_of(request: AnyRequest) -> str:
    """The secret in the cookie of a request, '' if there is none."""
    scope = cast("Connection", request.scope)
    return session_of(scope, headers_of(scope))


def _cookie(request: AnyRequest, value: str, seconds: int) -> Cookie:
    return Cookie(
        key=cookie_name(cast("Connection", request.scope)),
        value=value,
        max_age=seconds,
        httponly=True,
        samesite="lax",
        secure=request.scope["scheme"] == "https",
    )


def _later(wait: timedelta) -> Response[Problem]:
    answer = respond(Problem(title="Too Many Requests", status=429, detail="Too many wrong passwords: try again later"))
    answer.headers["retry-after"] = str(ceil(wait.total_seconds()))
    return answer
