"""Why: one alert's story over HTTP."""

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec
from litestar import Request, get
from litestar.datastructures import State
from litestar.exceptions import NotFoundException
from litestar.params import FromPath

from agents.rules.dedup import Pulse
from sinks import silence_rows, story_reads
from sinks.story_reads import StoryAlert
from streams.records import Silence
from streams.settings import Settings
from web import story
from web.alertmanager import GettableStatus, status_of
from web.database import Database
from web.picture import Painter
from web.principal import principal
from web.rights import teams_of
from web.story import Line, Upcoming

if TYPE_CHECKING:
    from web.database import Conn

_pulse: Final = msgspec.msgpack.Decoder(Pulse)


class StoryIncident(msgspec.Struct, frozen=True, kw_only=True):
    """An incident that holds the alert now."""

    id: uuid.UUID
    title: str
    status: str


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """An alert, how it stands, what happened in order, and what happens next; at most 100 lines of each kind."""

    alert: StoryAlert
    standing: GettableStatus
    receivers: list[str]
    incidents: list[StoryIncident]
    lines: list[Line]
    next: list[Upcoming]


@get("/api/v1/alerts/{fingerprint:str}/explain", summary="The story of one alert", tags=["alerts"])
async def explain(state: State, request: Request[Any, Any, Any], fingerprint: FromPath[str]) -> Story:
    """In plain words: what came, what was decided and by which rule, who was told and when, what happens next."""
    settings: Settings = state.settings
    database: Database = state.database
    painter: Painter = state.painter
    async with database.reading() as conn:
        found = await story_reads.alert_of(conn, fingerprint, teams_of(principal(request)))
        if found is None:
            raise NotFoundException("No alert has this fingerprint")
        alert, pulse = found
        material = await story_reads.material_of(conn, alert)
        picture = await painter.picture(conn, datetime.now(UTC))
        named = await _named(conn, story.silence_ids(material.decisions))
    standing = picture.of(alert.labels, alert.team)
    known = _pulse.decode(pulse) if pulse else None
    return Story(
        alert=alert,
        standing=status_of(standing),
        receivers=list(dict.fromkeys(route.receiver for route in standing.routes)),
        incidents=[
            StoryIncident(id=row["incident_id"], title=row["title"], status=row["status"]) for row in material.groups
        ],
        lines=story.lines(alert, material, named),
        next=story.upcoming(alert, known, material, picture, settings.reopen_within),
    )


async def _named(conn: "Conn", ids: set[str]) -> dict[str, Silence]:
    """Silences that decisions name, whatever has become of them."""
    wanted = []
    for text in ids:
        try:
            wanted.append(uuid.UUID(text))
        except ValueError:
            continue
    return {one.id: one for one in await silence_rows.by_ids(conn, wanted)}
