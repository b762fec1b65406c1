"""Silences over HTTP: list, preview, create, edit, expire, and who did what."""

import uuid
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal

import msgspec
from litestar import Request, Response, get, post, put
from litestar.datastructures import ResponseHeader, State
from litestar.exceptions import NotFoundException, PermissionDeniedException
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from agents.rules import silence as rules
from agents.rules.silence import SilenceError
from agents.rules.silence import State as SilenceState
from sinks import silence_rows
from sinks.silence_rows import AuditEntry, Recurrence, StoredSilence
from streams.rules_matchers import Matcher, MatcherError, checked
from web.announcing import SilenceAnnouncer
from web.database import Database
from web.etags import check_match, tag_of
from web.paging import LINKED, cursor_of, linked, place_of
from web.principal import Principal, principal
from web.problems import FieldProblemError
from web.rights import team_for, teams_of
from web.silence_preview import Preview, preview_of
from web.silence_store import Draft, SilenceStore, UnknownSilenceError, moment, silence_of

MAX_LISTED = 10_000
_LONGEST_REMINDER = 366 * 86_400
_TAGGED: Final = [ResponseHeader(name="etag", description="What If-Match of a change names", documentation_only=True)]

Asked = Request[Any, Any, Any]
Words = Annotated[str, msgspec.Meta(max_length=4000)]
Name = Annotated[str, msgspec.Meta(max_length=200)]


class MatcherBody(msgspec.Struct, frozen=True, kw_only=True):
    """One condition on one label."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
    op: Literal["=", "!=", "=~", "!~"] = "="
    value: Annotated[str, msgspec.Meta(max_length=10_000)]


class SilenceBody(msgspec.Struct, frozen=True, kw_only=True):
    """What a silence shall be. One of the `matchers` lists must hold whole.

    Without a `team` it mutes alerts of all teams, or of the only one that its author sees.
    `starts_at` left out is now. With a `recurrence` the first window is from
    `starts_at` to `ends_at`, and the following ones are as long. `remind_before`
    (seconds before its last end) has `remind_to`, a receiver, told, or else the
    receivers of the groups that it mutes.
    """

    matchers: Annotated[
        list[Annotated[list[MatcherBody], msgspec.Meta(min_length=1, max_length=50)]],
        msgspec.Meta(min_length=1, max_length=50),
    ]
    starts_at: datetime | None = None
    ends_at: datetime
    created_by: Name
    comment: Words
    team: Name | None = None
    annotations: dict[str, str] = {}
    recurrence: Recurrence | None = None
    remind_before: Annotated[int, msgspec.Meta(ge=1, le=_LONGEST_REMINDER)] | None = None
    remind_to: Name = ""


class SilenceView(msgspec.Struct, frozen=True, kw_only=True):
    """One silence. `starts_at` and `ends_at` are of the window that is on or comes next; `over_at` is its last end."""

    id: uuid.UUID
    state: SilenceState
    matchers: list[list[MatcherBody]]
    starts_at: datetime
    ends_at: datetime
    over_at: datetime
    windows: int
    created_by: str
    comment: str
    team: str
    annotations: dict[str, str]
    recurrence: Recurrence | None
    remind_before: int | None
    remind_to: str
    replaces: uuid.UUID | None
    updated_at: datetime


def view_of(stored: StoredSilence, now: datetime) -> SilenceView:
    """A silence as it stands now."""
    silence = stored.silence
    start, end = rules.window_at(silence.windows, now)
    return SilenceView(
        id=uuid.UUID(silence.id),
        state=rules.state_at(silence.windows, now),
        matchers=[[MatcherBody(name=name, op=op, value=value) for name, op, value in one] for one in silence.sets],  # type: ignore[arg-type]  # checked when it was stored
        starts_at=start,
        ends_at=end,
        over_at=silence.windows[-1][1],
        windows=len(silence.windows),
        created_by=silence.created_by,
        comment=silence.comment,
        team=silence.team,
        annotations=stored.annotations,
        recurrence=stored.recurrence,
        remind_before=int(stored.remind_before.total_seconds()) if stored.remind_before else None,
        remind_to=silence.remind_to,
        replaces=stored.replaces,
        updated_at=stored.updated_at,
    )


def tagged(stored: StoredSilence, now: datetime, status: int = HTTPStatus.OK) -> Response[SilenceView]:
    """The answer that shows a silence, with its place in the directory to edit it by."""
    return Response(view_of(stored, now), status_code=status, headers={"etag": tag_of(stored.silence.sequence)})


@get("/api/v1/silences", summary="Silences", tags=["silences"], response_headers=LINKED)
async def silences(
    state: State,
    request: Asked,
    wanted: Annotated[list[SilenceState] | None, QueryParameter(name="state", description="Only these states")] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=MAX_LISTED)] = 1000,
    cursor: Annotated[
        str, QueryParameter(max_length=200, description="As the header Link of the page before has it")
    ] = "",
) -> Response[list[SilenceView]]:
    """Those that are on or to come, and those that ended within the last 120 hours; the latest end first."""
    now = datetime.now(UTC)
    place = place_of(cursor, tuple[datetime, uuid.UUID]) if cursor else None
    database: Database = state.database
    async with database.reading() as conn:
        found = await silence_rows.listed(conn, now - silence_rows.RETENTION, MAX_LISTED, place)
    who = principal(request)
    views = [view_of(stored, now) for stored in found if is_seen(who, stored)]
    shown = [view for view in views if not wanted or view.state in wanted]
    last = shown[limit - 1] if len(shown) > limit else None
    return linked(request, shown[:limit], cursor_of(last.over_at, last.id) if last is not None else None)


@get("/api/v1/silences/{silence_id:uuid}", summary="One silence", tags=["silences"], response_headers=_TAGGED)
async def silence(state: State, request: Asked, silence_id: FromPath[uuid.UUID]) -> Response[SilenceView]:
    """Whatever its state; with the ETag for a change."""
    return tagged(await stored_silence(state, principal(request), silence_id), datetime.now(UTC))


@get("/api/v1/silences/{silence_id:uuid}/audit", summary="Who changed a silence", tags=["silences"])
async def silence_audit(state: State, request: Asked, silence_id: FromPath[uuid.UUID]) -> list[AuditEntry]:
    """Every change in order, with the silence before and after it."""
    await stored_silence(state, principal(request), silence_id)
    database: Database = state.database
    async with database.reading() as conn:
        return await silence_rows.story(conn, silence_id)


@post("/api/v1/silences", summary="Create a silence", tags=["silences"], status_code=201, response_headers=_TAGGED)
async def create_silence(state: State, request: Asked, data: JSONBody[SilenceBody]) -> Response[SilenceView]:
    """It is on once this answers, and in every worker's view within a second."""
    return await _store(state, request, data, None)


@put("/api/v1/silences/{silence_id:uuid}", summary="Edit a silence", tags=["silences"], response_headers=_TAGGED)
async def edit_silence(
    state: State, request: Asked, silence_id: FromPath[uuid.UUID], data: JSONBody[SilenceBody]
) -> Response[SilenceView]:
    """Another end or comment keeps the id; other matchers, or another past, end it and make a new one.

    `starts_at` left out is as it was, where the silence is not over.
    """
    known = (await changeable(state, principal(request), silence_id)).silence
    if data.starts_at is None and rules.state_at(known.windows, datetime.now(UTC)) is not rules.State.EXPIRED:
        data = msgspec.structs.replace(data, starts_at=known.windows[0][0])
    return await _store(state, request, data, silence_id)


@post("/api/v1/silences/{silence_id:uuid}/expire", summary="End a silence now", tags=["silences"], status_code=200)
async def expire_silence(
    state: State, request: Asked, silence_id: FromPath[uuid.UUID], by: FromQuery[str] = "api"
) -> SilenceView:
    """One that has ended stays as it is. `by` is who does it, for its audit, where nobody signs in."""
    who = principal(request)
    await changeable(state, who, silence_id)
    now = datetime.now(UTC)
    try:
        ended = await store_of(state).expire(silence_id, author(who, by[:200] or "api"), now)
    except UnknownSilenceError as error:
        raise NotFoundException("No silence has this id") from error
    announce(state)
    return view_of(ended, now)


@post("/api/v1/silences/preview", summary="Whom a silence would mute", tags=["silences"], status_code=200)
async def preview_silence(state: State, request: Asked, data: JSONBody[SilenceBody]) -> Preview:
    """Firing alerts that meet its matchers, and their incidents; nothing is stored."""
    now, who = datetime.now(UTC), principal(request)
    try:
        wanted = silence_of(_draft(who, data, now))
    except SilenceError as error:
        raise FieldProblemError(error.field, error.reason) from error
    database: Database = state.database
    async with database.reading() as conn:
        return await preview_of(conn, rules.sets_of(wanted), teams_of(who, data.team or None))


def store_of(state: State) -> SilenceStore:
    """The gateway's silences."""
    store: SilenceStore = state.silences
    return store


def announce(state: State) -> None:
    """Have the workers told now."""
    announcer: SilenceAnnouncer = state.announcer
    announcer.soon()


def author(who: Principal, said: str) -> str:
    """Who it was: whoever signed in or showed a token, or else what was said."""
    return said if who.kind == "anonymous" else who.name


def is_seen(who: Principal, stored: StoredSilence) -> bool:
    """Whether a silence may be shown: it is of one of their teams, or mutes all of them."""
    return not stored.silence.team or who.sees(stored.silence.team)


def silence_team(who: Principal, wanted: str | None = None) -> str:
    """The team of a new silence; '' is all of them, for those who see all.

    Raises:
        PermissionDeniedException: it is not theirs, or must be named.
    """
    return "" if who.teams is None and not wanted else team_for(who, wanted)


async def changeable(state: State, who: Principal, silence_id: uuid.UUID) -> StoredSilence:
    """One silence. What may be seen and not changed, one of all teams by somebody of some, is refused.

    Raises:
        NotFoundException: there is none, or it is not theirs to see.
        PermissionDeniedException: it mutes other teams too.
    """
    stored = await stored_silence(state, who, silence_id)
    if who.teams is not None and not stored.silence.team:
        raise PermissionDeniedException("It mutes other teams too")
    return stored


async def stored_silence(state: State, who: Principal, silence_id: uuid.UUID) -> StoredSilence:
    """One silence.

    Raises:
        NotFoundException: there is none of that id, or it is another team's.
    """
    database: Database = state.database
    async with database.reading() as conn:
        found = await silence_rows.by_id(conn, silence_id)
    if found is None or not is_seen(who, found):
        raise NotFoundException("No silence has this id")
    return found


async def _store(
    state: State, request: Asked, body: SilenceBody, silence_id: uuid.UUID | None
) -> Response[SilenceView]:
    now, who = datetime.now(UTC), principal(request)

    def check(known: StoredSilence) -> None:
        check_match(request, known.silence.sequence)

    try:
        actor = author(who, body.created_by)
        stored = await store_of(state).store(_draft(who, body, now), actor, silence_id, now, check)
    except SilenceError as error:
        raise FieldProblemError(error.field, error.reason) from error
    except UnknownSilenceError as error:
        raise NotFoundException("No silence has this id") from error
    announce(state)
    return tagged(stored, now, HTTPStatus.CREATED if silence_id is None else HTTPStatus.OK)


def _draft(who: Principal, body: SilenceBody, now: datetime) -> Draft:
    return Draft(
        sets=tuple(tuple(_matcher(item) for item in one) for one in body.matchers),
        starts_at=moment("starts_at", body.starts_at or now),
        ends_at=moment("ends_at", body.ends_at),
        created_by=who.name if who.kind == "user" else body.created_by,
        team=silence_team(who, body.team),
        comment=body.comment,
        annotations=body.annotations,
        recurrence=body.recurrence,
        remind_before=timedelta(seconds=body.remind_before) if body.remind_before else None,
        remind_to=body.remind_to,
    )


def _matcher(body: MatcherBody) -> Matcher:
    try:
        return checked(body.name, body.op, body.value)
    except MatcherError as error:
        raise FieldProblemError("matchers", str(error)) from error


ROUTES = (silences, silence, silence_audit, create_silence, edit_silence, expire_silence, preview_silence)
