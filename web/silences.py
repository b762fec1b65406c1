"""Silences over HTTP: list, preview, create, edit, expire, and who did what."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

import msgspec
from litestar import get, post, put
from litestar.datastructures import State
from litestar.exceptions import NotFoundException
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from agents.rules import silence as rules
from agents.rules.silence import SilenceError
from agents.rules.silence import State as SilenceState
from sinks import silence_rows
from sinks.silence_rows import AuditEntry, Recurrence, StoredSilence
from streams.rules_matchers import Matcher, MatcherError, checked
from web.announcing import SilenceAnnouncer
from web.database import Database
from web.problems import FieldProblemError
from web.silence_preview import Preview, preview_of
from web.silence_store import Draft, SilenceStore, UnknownSilenceError, moment, silence_of

MAX_LISTED = 10_000
_LONGEST_REMINDER = 366 * 86_400

Words = Annotated[str, msgspec.Meta(max_length=4000)]
Name = Annotated[str, msgspec.Meta(max_length=200)]


class MatcherBody(msgspec.Struct, frozen=True, kw_only=True):
    """One condition on one label."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
    op: Literal["=", "!=", "=~", "!~"] = "="
    value: Annotated[str, msgspec.Meta(max_length=10_000)]


class SilenceBody(msgspec.Struct, frozen=True, kw_only=True):
    """What a silence shall be. One of the `matchers` lists must hold whole.

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
        annotations=stored.annotations,
        recurrence=stored.recurrence,
        remind_before=int(stored.remind_before.total_seconds()) if stored.remind_before else None,
        remind_to=silence.remind_to,
        replaces=stored.replaces,
        updated_at=stored.updated_at,
    )


@get("/api/v1/silences", summary="Silences", tags=["silences"])
async def silences(
    state: State,
    wanted: Annotated[list[SilenceState] | None, QueryParameter(name="state", description="Only these states")] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=MAX_LISTED)] = 1000,
) -> list[SilenceView]:
    """Those that are on or to come, and those that ended within the last 120 hours; the latest end first."""
    now = datetime.now(UTC)
    database: Database = state.database
    async with database.reading() as conn:
        found = await silence_rows.listed(conn, now - silence_rows.RETENTION, MAX_LISTED)
    views = [view_of(stored, now) for stored in found]
    return [view for view in views if not wanted or view.state in wanted][:limit]


@get("/api/v1/silences/{silence_id:uuid}", summary="One silence", tags=["silences"])
async def silence(state: State, silence_id: FromPath[uuid.UUID]) -> SilenceView:
    """Whatever its state."""
    return view_of(await stored_silence(state, silence_id), datetime.now(UTC))


@get("/api/v1/silences/{silence_id:uuid}/audit", summary="Who changed a silence", tags=["silences"])
async def silence_audit(state: State, silence_id: FromPath[uuid.UUID]) -> list[AuditEntry]:
    """Every change in order, with the silence before and after it."""
    await stored_silence(state, silence_id)
    database: Database = state.database
    async with database.reading() as conn:
        return await silence_rows.story(conn, silence_id)


@post("/api/v1/silences", summary="Create a silence", tags=["silences"], status_code=201)
async def create_silence(state: State, data: JSONBody[SilenceBody]) -> SilenceView:
    """It is on once this answers, and in every worker's view within a second."""
    return await _store(state, data, None)


@put("/api/v1/silences/{silence_id:uuid}", summary="Edit a silence", tags=["silences"])
async def edit_silence(state: State, silence_id: FromPath[uuid.UUID], data: JSONBody[SilenceBody]) -> SilenceView:
    """Another end or comment keeps the id; other matchers, or another past, end it and make a new one."""
    return await _store(state, data, silence_id)


@post("/api/v1/silences/{silence_id:uuid}/expire", summary="End a silence now", tags=["silences"], status_code=200)
async def expire_silence(state: State, silence_id: FromPath[uuid.UUID], by: FromQuery[str] = "api") -> SilenceView:
    """One that has ended stays as it is. `by` is who does it, for the audit."""
    now = datetime.now(UTC)
    try:
        ended = await store_of(state).expire(silence_id, by[:200] or "api", now)
    except UnknownSilenceError as error:
        raise NotFoundException("No silence has this id") from error
    announce(state)
    return view_of(ended, now)


@post("/api/v1/silences/preview", summary="Whom a silence would mute", tags=["silences"], status_code=200)
async def preview_silence(state: State, data: JSONBody[SilenceBody]) -> Preview:
    """Firing alerts that meet its matchers, and their incidents; nothing is stored."""
    now = datetime.now(UTC)
    try:
        wanted = silence_of(_draft(data, now))
    except SilenceError as error:
        raise FieldProblemError(error.field, error.reason) from error
    database: Database = state.database
    async with database.reading() as conn:
        return await preview_of(conn, rules.sets_of(wanted))


def store_of(state: State) -> SilenceStore:
    """The gateway's silences."""
    store: SilenceStore = state.silences
    return store


def announce(state: State) -> None:
    """Have the workers told now."""
    announcer: SilenceAnnouncer = state.announcer
    announcer.soon()


async def stored_silence(state: State, silence_id: uuid.UUID) -> StoredSilence:
    """One silence.

    Raises:
        NotFoundException: there is none of that id.
    """
    database: Database = state.database
    async with database.reading() as conn:
        found = await silence_rows.by_id(conn, silence_id)
    if found is None:
        raise NotFoundException("No silence has this id")
    return found


async def _store(state: State, body: SilenceBody, silence_id: uuid.UUID | None) -> SilenceView:
    now = datetime.now(UTC)
    try:
        stored = await store_of(state).store(_draft(body, now), body.created_by, silence_id, now)
    except SilenceError as error:
        raise FieldProblemError(error.field, error.reason) from error
    except UnknownSilenceError as error:
        raise NotFoundException("No silence has this id") from error
    announce(state)
    return view_of(stored, now)


def _draft(body: SilenceBody, now: datetime) -> Draft:
    return Draft(
        sets=tuple(tuple(_matcher(item) for item in one) for one in body.matchers),
        starts_at=moment("starts_at", body.starts_at or now),
        ends_at=moment("ends_at", body.ends_at),
        created_by=body.created_by,
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
