"""Heartbeats over HTTP: a thing says that it is there, and how soon it will say so again."""

import re
from datetime import timedelta
from typing import Annotated, Any

import msgspec
from litestar import Request, delete, get, post
from litestar.datastructures import State
from litestar.exceptions import NotFoundException
from litestar.params import FromPath, QueryParameter

from sinks import heartbeat_rows
from sinks.heartbeat_rows import Beat, HeartbeatView
from streams.records import Severity
from streams.rules_yaml import duration
from web.beats import Beats
from web.database import Database
from web.principal import NEEDS, Scope, principal
from web.problems import FieldProblemError, own_team
from web.rights import teams_of

_LONGEST = timedelta(days=366)
_MAX_NAME = 200
_MAX_BODY = 65_536
_MAX_LABELS = 32
_MAX_LABEL = 1000
_SECONDS = re.compile(r"[0-9]{1,8}")

AnyRequest = Request[Any, Any, Any]
Length = Annotated[str | None, QueryParameter(max_length=60, description="A length of time, as 90s or 5m")]


class HeartbeatBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a beat may say; each may stand in the query instead, and what is left out stays as it was.

    The thing is missing when nothing has come for `interval` and then `grace` (a tenth of it, at least 5 s).
    """

    interval: str | None = None
    grace: str | None = None
    severity: Severity | None = None
    labels: dict[str, str] | None = None
    team: str | None = None


@post(
    "/api/v1/heartbeats/{name:str}", summary="Say that a thing is there", tags=["heartbeats"], status_code=200,
    opt={NEEDS: Scope.INGEST},
)  # fmt: skip
async def beat(
    state: State,
    request: AnyRequest,
    name: FromPath[str],
    interval: Length = None,
    grace: Length = None,
) -> HeartbeatView:
    """The first beat needs an `interval`, here or in a JSON body (see HeartbeatBody); it is stored once answered."""
    said = await _said(request)
    team = own_team(principal(request), said.team)
    for field, text in (("name", name), ("team", team)):
        if not text.isprintable() or len(text) > _MAX_NAME:
            raise FieldProblemError(field, f"use at most {_MAX_NAME} printable letters")
    beats: Beats = state.beats
    found = await beats.take(
        Beat(
            team=team,
            name=name,
            interval=_length("interval", interval or said.interval),
            grace=_length("grace", grace or said.grace),
            severity=said.severity,
            labels=msgspec.json.encode(_labels(said.labels)).decode() if said.labels is not None else None,
            actor=principal(request).name,
        )
    )
    if found is None:
        raise FieldProblemError("interval", "is missing: the first beat says when the next one comes, as 60s")
    return found


@get("/api/v1/heartbeats", summary="Things that are watched", tags=["heartbeats"])
async def heartbeats(state: State, request: AnyRequest) -> list[HeartbeatView]:
    """Those that are missing first."""
    async with _database(state).reading() as conn:
        return await heartbeat_rows.listed(conn, teams_of(principal(request)))


@delete("/api/v1/heartbeats/{name:str}", summary="Watch a thing no more", tags=["heartbeats"], status_code=204)
async def forget(state: State, request: AnyRequest, name: FromPath[str]) -> None:
    """If it is missing, its alert ends."""
    async with _database(state).writing() as conn:
        if not await heartbeat_rows.delete(conn, name, teams_of(principal(request))):
            raise NotFoundException("Nothing of this name is watched")


async def _said(request: AnyRequest) -> HeartbeatBody:
    """The body, where there is one: beats are often sent with none."""
    body = await request.body()
    if not body.strip():
        return HeartbeatBody()
    try:
        return msgspec.json.decode(body[:_MAX_BODY], type=HeartbeatBody)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise FieldProblemError("body", str(error)) from error


def _length(field: str, text: str | None) -> timedelta | None:
    if text is None:
        return None
    try:
        span = timedelta(seconds=int(text)) if _SECONDS.fullmatch(text) else duration(text)
    except ValueError as error:
        raise FieldProblemError(field, f"{text!r} is not a length of time; write it like 90s or 5m") from error
    if span > _LONGEST or (field == "interval" and span < timedelta(seconds=1)):
        raise FieldProblemError(field, "is out of bounds: from 1 s to 366 days")
    return span


def _labels(labels: dict[str, str]) -> dict[str, str]:
    if len(labels) > _MAX_LABELS or any(len(name) + len(value) > _MAX_LABEL for name, value in labels.items()):
        raise FieldProblemError("labels", f"at most {_MAX_LABELS}, each of at most {_MAX_LABEL} letters")
    if not all(labels):
        raise FieldProblemError("labels", "has one without a name")
    if any("\x00" in text for label in labels.items() for text in label):
        raise FieldProblemError("labels", "a text holds a character that cannot be kept, such as NUL")
    return labels


def _database(state: State) -> Database:
    database: Database = state.database
    return database


ROUTES = (beat, heartbeats, forget)
