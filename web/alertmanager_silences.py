"""Alertmanager's /api/v2/silences and /silence/{id}, over the same silences as our own API."""

import uuid
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.datastructures import State
from litestar.exceptions import NotFoundException
from litestar.params import FromPath, JSONBody, QueryParameter

from agents.rules import silence as rules
from agents.rules.silence import SilenceError
from agents.rules.silence import State as SilenceState
from sinks import silence_rows
from sinks.silence_rows import StoredSilence
from streams.rules_matchers import Matcher, MatcherError, checked
from web.alertmanager import Filter, matchers_of
from web.alertmanager_errors import RefusedError
from web.database import Database
from web.principal import Principal, principal
from web.silence_store import Draft, UnknownSilenceError, moment
from web.silences import MAX_LISTED, announce, author, changeable, is_seen, silence_team, store_of

Asked = Request[Any, Any, Any]

_ORDER = {SilenceState.ACTIVE: 1, SilenceState.PENDING: 2, SilenceState.EXPIRED: 3}


class SilenceMatcher(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """One condition on one label."""

    name: str
    value: str
    is_regex: bool
    is_equal: bool = True


class SilenceStatus(msgspec.Struct, frozen=True):
    """Where a silence stands."""

    state: SilenceState


class GettableSilence(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """One silence in Alertmanager's shape; of several alternatives, `matchers` is the first."""

    id: str
    status: SilenceStatus
    updated_at: datetime
    comment: str
    created_by: str
    ends_at: datetime
    matchers: list[SilenceMatcher]
    starts_at: datetime
    annotations: dict[str, str] = {}


class PostableSilence(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A silence to create, or with an id to edit."""

    id: str = ""
    matchers: Annotated[list[SilenceMatcher], msgspec.Meta(min_length=1)]
    starts_at: datetime
    ends_at: datetime
    created_by: str
    comment: str
    annotations: dict[str, str] = {}


class StoredId(msgspec.Struct, frozen=True):
    """The silence's id; another one than was posted where the edit made a new silence."""

    silence_id: str = msgspec.field(name="silenceID")


@get("/api/v2/silences", summary="Silences, as Alertmanager lists them", tags=["alertmanager"])
async def gettable_silences(
    state: State,
    request: Asked,
    matchers: Filter = None,
    creator: Annotated[list[str] | None, QueryParameter(description="Only silences that these created")] = None,
) -> list[GettableSilence]:
    """Active ones by end, pending ones by start, then those that ended lately."""
    wanted, now, who = matchers_of(matchers or []), datetime.now(UTC), principal(request)
    database: Database = state.database
    async with database.reading() as conn:
        stored = await silence_rows.listed(conn, now - silence_rows.RETENTION, MAX_LISTED)
    found = [
        _gettable(one, now)
        for one in stored
        if is_seen(who, one) and _named(one, wanted) and (not creator or one.silence.created_by in creator)
    ]
    return sorted(found, key=_place)


@post("/api/v2/silences", summary="Create or edit a silence", tags=["alertmanager"], status_code=200)
async def post_silence(state: State, request: Asked, data: JSONBody[PostableSilence]) -> StoredId:
    """An id that is given must exist; other matchers end that silence and make a new one."""
    now = datetime.now(UTC)
    if data.starts_at.tzinfo is None or data.ends_at.tzinfo is None:
        raise RefusedError(HTTPStatus.BAD_REQUEST, "startsAt and endsAt need a time zone")
    if data.starts_at >= data.ends_at:
        raise RefusedError(HTTPStatus.BAD_REQUEST, "Failed to create silence: start time must be before end time")
    if data.ends_at < now:
        raise RefusedError(HTTPStatus.BAD_REQUEST, "Failed to create silence: end time can't be in the past")
    who = principal(request)
    known = _id(data.id) if data.id else None
    if known is not None:
        await _changeable(state, who, known)
    try:
        actor = author(who, data.created_by)
        stored = await store_of(state).store(_draft(who, data, now), actor, known, now)
    except SilenceError as error:
        raise RefusedError(HTTPStatus.BAD_REQUEST, f"Failed to create silence: {error.reason}") from error
    except UnknownSilenceError as error:
        raise RefusedError(HTTPStatus.NOT_FOUND, f"silence {data.id} not found") from error
    announce(state)
    return StoredId(stored.silence.id)


@get("/api/v2/silence/{silence_id:str}", summary="One silence, as Alertmanager shows it", tags=["alertmanager"])
async def gettable_silence(state: State, request: Asked, silence_id: FromPath[str]) -> GettableSilence:
    """Whatever its state."""
    database: Database = state.database
    async with database.reading() as conn:
        found = await silence_rows.by_id(conn, _id(silence_id))
    if found is None or not is_seen(principal(request), found):
        raise RefusedError(HTTPStatus.NOT_FOUND, f"silence {silence_id} not found")
    return _gettable(found, datetime.now(UTC))


@delete("/api/v2/silence/{silence_id:str}", summary="End a silence now", tags=["alertmanager"], status_code=200)
async def delete_silence(state: State, request: Asked, silence_id: FromPath[str]) -> Response[None]:
    """One that has ended stays as it is, and that is no error."""
    who, known = principal(request), _id(silence_id)
    await _changeable(state, who, known)
    try:
        await store_of(state).expire(known, author(who, "alertmanager api"), datetime.now(UTC))
    except UnknownSilenceError as error:
        raise RefusedError(HTTPStatus.NOT_FOUND, f"silence {silence_id} not found") from error
    announce(state)
    return Response(None, status_code=200)


ROUTES = (gettable_silences, post_silence, gettable_silence, delete_silence)


def _id(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError as error:
        reason = f"silenceID in path must be of type uuid: {text!r}"
        raise RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, reason) from error


async def _changeable(state: State, who: Principal, silence_id: uuid.UUID) -> None:
    try:
        await changeable(state, who, silence_id)
    except NotFoundException as error:
        raise RefusedError(HTTPStatus.NOT_FOUND, f"silence {silence_id} not found") from error


def _draft(who: Principal, data: PostableSilence, now: datetime) -> Draft:
    return Draft(
        sets=(tuple(_matcher(item) for item in data.matchers),),
        starts_at=moment("startsAt", data.starts_at if data.id else max(data.starts_at, now)),
        ends_at=moment("endsAt", data.ends_at),
        created_by=data.created_by,
        team=silence_team(who),
        comment=data.comment,
        annotations=data.annotations,
    )


def _matcher(item: SilenceMatcher) -> Matcher:
    op = {(True, False): "=", (False, False): "!=", (True, True): "=~", (False, True): "!~"}
    try:
        return checked(item.name, op[item.is_equal, item.is_regex], item.value)
    except MatcherError as error:
        raise SilenceError("matchers", str(error)) from error


def _gettable(stored: StoredSilence, now: datetime) -> GettableSilence:
    silence = stored.silence
    start, end = rules.window_at(silence.windows, now)
    return GettableSilence(
        id=silence.id,
        status=SilenceStatus(rules.state_at(silence.windows, now)),
        updated_at=stored.updated_at,
        comment=silence.comment,
        created_by=silence.created_by,
        ends_at=end,
        matchers=[
            SilenceMatcher(name=name, value=value, is_regex="~" in op, is_equal=not op.startswith("!"))
            for name, op, value in silence.sets[0]
        ],
        starts_at=start,
        annotations=stored.annotations,
    )


def _named(stored: StoredSilence, wanted: list[Matcher]) -> bool:
    """Whether the silence's own matchers, read as labels, meet a filter."""
    for one in stored.silence.sets:
        named = {name: value for name, _, value in one}
        if all(_asks_nothing(matcher, named) or matcher.matches(named) for matcher in wanted):
            return True
    return False


def _asks_nothing(matcher: Matcher, named: dict[str, str]) -> bool:
    return not matcher.value and (matcher.name in named) == (matcher.op in {"!=", "!~"})


def _place(silence: GettableSilence) -> tuple[int, float]:
    state = silence.status.state
    at = silence.starts_at if state is SilenceState.PENDING else silence.ends_at
    seconds = at.timestamp()
    return _ORDER[state], -seconds if state is SilenceState.EXPIRED else seconds
