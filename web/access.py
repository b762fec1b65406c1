"""Users and tokens, as admins see and change them."""

import uuid
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, delete, get, patch, post
from litestar.datastructures import State
from litestar.exceptions import HTTPException, NotFoundException
from litestar.params import FromPath, JSONBody, QueryParameter

from sinks import token_rows, user_rows
from sinks.token_rows import TakenError, Token, TooManyError
from sinks.user_rows import User
from streams.credentials import MOST_PASSWORD, Role, Scope, digest, new_password, new_token, refusal_of
from web.credentials import Credentials
from web.database import Database
from web.etags import check_match, tag_of
from web.paging import LINKED, cursor_of, linked, place_of
from web.passwords import Passwords
from web.principal import NEEDS, principal
from web.problems import FieldProblemError

_MOST: Final = 1000
_LONGEST_DAYS: Final = 3660
Team = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
Teams = Annotated[list[Team], msgspec.Meta(min_length=1, max_length=100)] | None
Password = Annotated[str, msgspec.Meta(max_length=MOST_PASSWORD)]
UserName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9._@+-]{0,63}$")]
Limit = Annotated[int, QueryParameter(ge=1, le=_MOST, description="Lines in one answer")]
Cursor = Annotated[str, QueryParameter(max_length=1000, description="As the header Link of the page before has it")]
ADMIN: Final = {NEEDS: Scope.ADMIN}


class NewUser(msgspec.Struct, frozen=True, kw_only=True):
    """A user to make. Without `teams` they see all; without a password one is made."""

    name: UserName
    role: Role = Role.VIEWER
    teams: Teams = None
    password: Password | None = None


class MadeUser(msgspec.Struct, frozen=True, kw_only=True):
    """The user, and the password that was made, which is shown this once."""

    user: User
    password: str | None


class UserChange(msgspec.Struct, frozen=True, kw_only=True):
    """What shall change; what is left out stays, `teams` null means all of them."""

    role: Role | msgspec.UnsetType = msgspec.UNSET
    teams: Teams | msgspec.UnsetType = msgspec.UNSET
    disabled: bool | msgspec.UnsetType = msgspec.UNSET
    password: Password | msgspec.UnsetType = msgspec.UNSET


class NewToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token to make, good for `days` (null: until it is revoked). One for ingest belongs to one team at most."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    scopes: Annotated[list[Scope], msgspec.Meta(min_length=1, max_length=4)]
    teams: Teams = None
    days: Annotated[int, msgspec.Meta(ge=1, le=_LONGEST_DAYS)] | None = 365


class MadeToken(msgspec.Struct, frozen=True, kw_only=True):
    """The token, and its secret, which is shown this once."""

    token: Token
    secret: str


@get("/api/v1/users", summary="Users", tags=["access"], opt=ADMIN, response_headers=LINKED)
async def users(
    state: State, request: Request[Any, Any, Any], limit: Limit = _MOST, cursor: Cursor = ""
) -> Response[list[User]]:
    """By name, a page at a time."""
    [after] = place_of(cursor, tuple[str]) if cursor else [""]
    async with _database(state).reading() as conn:
        found = await user_rows.listed(conn, limit + 1, after)
    return linked(request, found[:limit], cursor_of(found[limit - 1].name) if len(found) > limit else None)


@get("/api/v1/users/{name:str}", summary="One user", tags=["access"], opt=ADMIN)
async def user(state: State, name: FromPath[str]) -> Response[User]:
    """With the ETag for a change."""
    async with _database(state).reading() as conn:
        found = await user_rows.named(conn, name)
    if found is None:
        raise NotFoundException("No user has this name")
    return Response(found, headers={"etag": _tag(found)})


@post("/api/v1/users", summary="Make a user", tags=["access"], status_code=201, opt=ADMIN)
async def add_user(state: State, data: JSONBody[NewUser]) -> Response[MadeUser]:
    """Admins see all teams."""
    _check_teams(data.role is Role.ADMIN, data.teams)
    password = _usable(data.password) if data.password is not None else new_password()
    passwords: Passwords = state.passwords
    kept = await passwords.kept(password)
    async with _database(state).writing() as conn:
        made = await user_rows.add(conn, data.name, role=data.role, teams=data.teams, password_hash=kept)
    if made is None:
        raise HTTPException("name: this user exists already", status_code=HTTPStatus.CONFLICT)
    shown = MadeUser(user=made, password=password if data.password is None else None)
    return Response(shown, headers={"etag": _tag(made)})


@patch("/api/v1/users/{name:str}", summary="Change a user", tags=["access"], opt=ADMIN)
async def change_user(
    state: State, request: Request[Any, Any, Any], name: FromPath[str], data: JSONBody[UserChange]
) -> Response[User]:
    """A disabled user, or one with another password, is signed out. The last admin stays one (409)."""
    passwords: Passwords = state.passwords
    kept = await passwords.kept(_usable(data.password)) if isinstance(data.password, str) else None
    async with _database(state).writing() as conn:
        admins = await user_rows.admins(conn)
        known = await user_rows.held(conn, name)
        if known is None:
            raise NotFoundException("No user has this name")
        check_match(request, _version(known))
        wanted = _changed(known, data)
        _check_teams(wanted.role == Role.ADMIN, wanted.teams)
        if admins == [name] and (wanted.role != Role.ADMIN or wanted.disabled_at is not None):
            raise HTTPException("This is the last admin who can sign in", status_code=HTTPStatus.CONFLICT)
        if kept is not None:
            await user_rows.set_password(conn, name, kept)
        changed = await user_rows.change(conn, wanted)
    credentials: Credentials = state.credentials
    credentials.forget_sessions()
    return Response(changed, headers={"etag": _tag(changed)})


@get("/api/v1/tokens", summary="API tokens", tags=["access"], opt=ADMIN, response_headers=LINKED)
async def tokens(
    state: State,
    request: Request[Any, Any, Any],
    limit: Limit = _MOST,
    cursor: Cursor = "",
    revoked: Annotated[bool, QueryParameter(description="Also those that were revoked")] = False,  # noqa: FBT002 - a query parameter
) -> Response[list[Token]]:
    """By name, without their secrets, a page at a time."""
    after = place_of(cursor, tuple[bool, str, uuid.UUID]) if cursor else None
    async with _database(state).reading() as conn:
        found = await token_rows.listed(conn, limit + 1, revoked=revoked, after=after)
    last = found[limit - 1] if len(found) > limit else None
    following = cursor_of(last.revoked_at is not None, last.name, last.id) if last is not None else None
    return linked(request, found[:limit], following)


@post("/api/v1/tokens", summary="Make an API token", tags=["access"], status_code=201, opt=ADMIN)
async def add_token(state: State, request: Request[Any, Any, Any], data: JSONBody[NewToken]) -> MadeToken:
    """Its secret is in this answer and never again: a repeated Idempotency-Key is refused."""
    _check_teams(Scope.ADMIN in data.scopes, data.teams)
    if Scope.INGEST in data.scopes and data.teams is not None and len(data.teams) > 1:
        raise FieldProblemError("teams", "what a token sends belongs to one team")
    secret = new_token()
    now = datetime.now(UTC)
    try:
        async with _database(state).writing() as conn:
            made = await token_rows.add(
                conn,
                name=data.name,
                hashed=digest(secret),
                scopes=sorted(set(data.scopes)),
                teams=data.teams,
                created_by=principal(request).name,
                expires_at=now + timedelta(days=data.days) if data.days is not None else None,
            )
    except TakenError as error:
        raise HTTPException("name: a live token has it already", status_code=HTTPStatus.CONFLICT) from error
    except TooManyError as error:
        raise HTTPException(str(error), status_code=HTTPStatus.CONFLICT) from error
    await _refreshed(state)
    return MadeToken(token=made, secret=secret)


@delete("/api/v1/tokens/{token_id:uuid}", summary="Revoke an API token", tags=["access"], status_code=200, opt=ADMIN)
async def revoke_token(state: State, token_id: FromPath[uuid.UUID]) -> Token:
    """Here at once, at other gateways within a second or two."""
    async with _database(state).writing() as conn:
        found = await token_rows.revoke(conn, token_id)
    if found is None:
        raise NotFoundException("No token has this id")
    await _refreshed(state)
    return found


ROUTES: Final = (users, user, add_user, change_user, tokens, add_token, revoke_token)


def _database(state: State) -> Database:
    database: Database = state.database
    return database


async def _refreshed(state: State) -> None:
    credentials: Credentials = state.credentials
    await credentials.refresh()


def _changed(known: User, wanted: UserChange) -> User:
    disabled_at = known.disabled_at
    if wanted.disabled is not msgspec.UNSET:
        disabled_at = (known.disabled_at or datetime.now(UTC)) if wanted.disabled else None
    return msgspec.structs.replace(
        known,
        role=known.role if wanted.role is msgspec.UNSET else wanted.role,
        teams=known.teams if wanted.teams is msgspec.UNSET else wanted.teams,
        disabled_at=disabled_at,
    )


def _usable(password: str) -> str:
    refused = refusal_of(password)
    if refused:
        raise FieldProblemError("password", refused)
    return password


def _check_teams(is_admin: bool, teams: list[str] | None) -> None:  # noqa: FBT001 - one of two facts
    if is_admin and teams is not None:
        raise FieldProblemError("teams", "an admin sees all teams: leave it out")


def _tag(user: User) -> str:
    return tag_of(_version(user))


def _version(user: User) -> int:
    return int(user.updated_at.timestamp() * 1_000_000)
