"""Refused events over HTTP: what waits and why, judged again once the cause is mended, or given up."""

import asyncio
import base64
import binascii
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec
from litestar import Request, get, post
from litestar.datastructures import State
from litestar.exceptions import NotFoundException
from litestar.params import FromQuery, JSONBody, QueryParameter

from agents.replay import Replayer
from sinks import dead_letter_rows as rows
from sinks.dead_letter_rows import Letter, LetterState
from streams.producer import EventProducer
from streams.settings import Settings
from web.audit import note
from web.database import Database
from web.paging import cursor_of, place_of
from web.principal import principal
from web.problems import FieldProblemError, PartAwayError
from web.rights import teams_of

AT_ONCE: Final = 100
_LONGEST_WAIT: Final = 10.0
_SHOWN: Final = 20

Asked = Request[Any, Any, Any]
EventId = Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]
EventIds = Annotated[list[EventId], msgspec.Meta(min_length=1, max_length=AT_ONCE)]


class LetterView(msgspec.Struct, frozen=True, kw_only=True):
    """One refused event: the field and the reason, and what became of it. `size` is that of the body that was kept.

    `body` is there where it was asked for, in base64: it may be anything.
    """

    event_id: str
    state: LetterState
    received_at: datetime
    changed_at: datetime
    source: str
    via: str
    team: str
    field: str
    reason: str
    content_type: str
    size: int
    body: str | None = None


class LetterPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some dead letters, the newest first; `next` asks for the following ones and is absent on the last page."""

    items: list[LetterView]
    next: str | None = None


class ReplayBody(msgspec.Struct, frozen=True, kw_only=True):
    """Which are judged again; with a `body` (base64) exactly one, as if it had said that.

    `wait` is how many seconds the verdicts are waited for.
    """

    event_ids: EventIds
    body: Annotated[str, msgspec.Meta(max_length=4 << 20)] | None = None
    wait: Annotated[float, msgspec.Meta(ge=0, le=_LONGEST_WAIT)] = 5.0


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """What one came to, and the verdict or the reason. An `unconfirmed` one may be replayed again: it counts once."""

    event_id: str
    outcome: Literal["replayed", "refused", "dropped", "unconfirmed"]
    why: str


class DropBody(msgspec.Struct, frozen=True, kw_only=True):
    """Which are given up."""

    event_ids: EventIds


class Dropped(msgspec.Struct, frozen=True, kw_only=True):
    """How many of them were waiting."""

    dropped: int


@get("/api/v1/dead-letters", summary="Events that were refused", tags=["dead letters"])
async def dead_letters(
    state: State,
    request: Asked,
    event_id: Annotated[list[str] | None, QueryParameter(max_items=AT_ONCE, description="Only these")] = None,
    source: FromQuery[str | None] = None,
    letter_state: Annotated[LetterState | None, QueryParameter(name="state")] = None,
    bodies: Annotated[bool, QueryParameter(description="With their bodies, at most 100 at once")] = False,  # noqa: FBT002 - a query parameter
    limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 50,
    cursor: Annotated[str, QueryParameter(max_length=4000, description="`next` of the page before")] = "",
) -> LetterPage:
    """The newest first, of the teams that whoever asks sees."""
    limit = min(limit, AT_ONCE) if bodies else limit
    async with _database(state).reading() as conn:
        found = await rows.page(
            conn, teams=teams_of(principal(request)), event_ids=event_id, source=source, state=letter_state,
            after=place_of(cursor, tuple[datetime, str]) if cursor else None, limit=limit + 1, with_bodies=bodies,
        )  # fmt: skip
    more = cursor_of(found[limit - 1].received_at, found[limit - 1].event_id) if len(found) > limit else None
    return LetterPage(items=[_view(letter, with_body=bodies) for letter in found[:limit]], next=more)


@post("/api/v1/dead-letters/replay", summary="Judge refused events again", tags=["dead letters"], status_code=200)
async def replay(state: State, request: Asked, data: JSONBody[ReplayBody]) -> list[Replayed]:
    """By the limits of this gateway. Each keeps its event id, takes its refusal's place, and counts once."""
    ids = list(dict.fromkeys(data.event_ids))
    mended = _decoded(data.body) if data.body is not None else None
    if mended is not None and len(ids) != 1:
        raise FieldProblemError("body", "belongs to exactly one event")
    note(request, events=ids[:_SHOWN], count=len(ids))
    settings: Settings = state.settings
    producer: EventProducer = state.producer
    one_at_a_time: asyncio.Semaphore = state.replaying
    if not producer.connected:
        raise PartAwayError(f"Kafka does not answer ({producer.detail}); nothing was replayed")
    async with one_at_a_time, _database(state).reading() as conn:
        letters = await _named(conn, request, ids)
        left = [letter for letter in letters if letter.state is not LetterState.REPLAYED]
        outcomes = await Replayer(settings, conn, producer, data.wait).replay(left, mended) if left else []
    told = {one.event_id: Replayed(event_id=one.event_id, outcome=one.word, why=one.why) for one in outcomes}
    earlier = {
        letter.event_id: Replayed(event_id=letter.event_id, outcome="replayed", why="by an earlier replay")
        for letter in letters
    }
    return [told.get(event_id, earlier[event_id]) for event_id in ids]


@post("/api/v1/dead-letters/drop", summary="Give refused events up", tags=["dead letters"], status_code=200)
async def drop(state: State, request: Asked, data: JSONBody[DropBody]) -> Dropped:
    """They stay refused, and wait no longer."""
    note(request, events=data.event_ids[:_SHOWN], count=len(data.event_ids))
    async with _database(state).writing() as conn:
        await _named(conn, request, data.event_ids)
        return Dropped(dropped=await rows.drop(conn, data.event_ids))


async def _named(conn: Any, request: Asked, ids: list[str]) -> list[Letter]:  # noqa: ANN401 - a connection
    """All of these letters.

    Raises:
        NotFoundException: there is none of one of the ids, or it is another team's.
    """
    who = principal(request)
    found = {name: letter for name, letter in (await rows.named(conn, ids)).items() if who.sees(letter.team)}
    missing = [event_id for event_id in ids if event_id not in found]
    if missing:
        raise NotFoundException(f"No dead letter has the event id {missing[0][:200]}")
    return list(found.values())


def _view(letter: Letter, *, with_body: bool) -> LetterView:
    told = {name: getattr(letter, name) for name in LetterView.__struct_fields__ if name != "body"}
    return LetterView(**told, body=base64.b64encode(letter.body).decode() if with_body else None)


def _decoded(body: str) -> bytes:
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise FieldProblemError("body", "is not base64") from error


def _database(state: State) -> Database:
    database: Database = state.database
    return database


ROUTES: Final = (dead_letters, replay, drop)
