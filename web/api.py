"""The JSON API that the page and other programs read: incidents, alerts, tables, totals, and what changes."""

import uuid
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, Final, cast

import msgspec
from litestar import Litestar, Request, Response, Router, get
from litestar.datastructures import State
from litestar.exceptions import NotFoundException
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.params import FromPath, FromQuery, QueryParameter
from litestar.response import Stream

from sinks.alert_reads import AlertPage, alerts_of_incident, current_alerts
from sinks.incident_reads import (
    MAX_PAGE,
    CursorError,
    IdRange,
    IncidentFilter,
    IncidentPage,
    IncidentSort,
    TimelineEntry,
    decode_cursor,
    incidents_by_id,
    list_incidents,
    patterns,
    timeline_before,
    timeline_of,
)
from sinks.progress_reads import OpenIncidents, Progress, Totals, read_open, read_progress, read_totals
from streams.records import IncidentStatus, Kind, Severity
from streams.settings import Settings
from web import (
    access,
    actions,
    alertmanager_errors,
    alertmanager_silences,
    alertmanager_status,
    dead_letters,
    heartbeats,
    jobs,
    login,
    problems,
    silences,
)
from web.action_sender import ActionSender
from web.alertmanager import alert_groups, gettable_alerts
from web.announcing import SilenceAnnouncer
from web.audit import audit_log
from web.beats import Beats
from web.credentials import Credentials
from web.database import Database, DatabaseAwayError
from web.explain import explain
from web.foreign import refuse_foreign
from web.incident_detail import IncidentDetail, detail_of, tagged
from web.live import Live
from web.openapi import openapi
from web.page import page_routes
from web.passwords import Passwords
from web.picture import Painter
from web.principal import AGAIN, Principal, principal
from web.receivers import receivers
from web.reloading import Reloader, reload
from web.rights import check_scope, teams_of
from web.silence_store import SilenceStore
from web.table_views import TableEntry, TablesView, TableViews, team_in

if TYPE_CHECKING:
    from web.database import Conn

MAX_SEQ: Final = 2**53 - 1
_NO_STORE: Final = {"cache-control": "no-store"}

Limit = Annotated[int, QueryParameter(ge=1, le=MAX_PAGE, description="Lines in one answer")]
Text = Annotated[str, QueryParameter(max_length=200, description="Words that must all be found")]
Team = Annotated[str | None, QueryParameter(max_length=200)]


class Sums(msgspec.Struct, frozen=True, kw_only=True):
    """Events by verdict, open incidents by severity, and how far each partition is."""

    totals: Totals
    open: OpenIncidents
    partitions: list[Progress]


@get("/api/v1/incidents", summary="Incidents, a page at a time", tags=["incidents"])
async def incidents(  # noqa: PLR0917 - query parameters, given by name
    state: State,
    request: Request[Any, Any, Any],
    status: FromQuery[list[IncidentStatus] | None] = None,
    severity: FromQuery[list[Severity] | None] = None,
    kind: FromQuery[list[Kind] | None] = None,
    team: Team = None,
    q: Text = "",
    starting: Annotated[
        str, QueryParameter(name="id", max_length=36, pattern="^[0-9a-fA-F-]*$", description="How the id begins")
    ] = "",
    assignee: Annotated[str | None, QueryParameter(max_length=200, description="Whose it is; empty: nobody's")] = None,
    sort: FromQuery[IncidentSort] = IncidentSort.UPDATED,
    limit: Limit = 50,
    cursor: Annotated[str, QueryParameter(max_length=400, description="`next` of the page before")] = "",
) -> IncidentPage:
    """Each of status, severity and kind may be given several times; `q` looks into labels of alerts too."""
    try:
        ids = IdRange.starting_with(starting) if starting else None
    except ValueError as error:
        raise problems.FieldProblemError("id", "no id begins so") from error
    wanted = IncidentFilter(
        status=tuple(status or ()),
        severity=tuple(severity or ()),
        kind=tuple(kind or ()),
        text=q,
        ids=ids,
        assignee=assignee,
        teams=teams_of(principal(request), team),
    )
    try:
        after = decode_cursor(cursor, sort) if cursor else None
    except CursorError as error:
        raise problems.FieldProblemError("cursor", str(error)) from error
    async with _database(state).reading() as conn:
        return await list_incidents(conn, wanted, sort, after, limit)


@get("/api/v1/incidents/{incident_id:uuid}", summary="One incident", tags=["incidents"])
async def incident(
    state: State, request: Request[Any, Any, Any], incident_id: FromPath[uuid.UUID]
) -> Response[IncidentDetail]:
    """With its alerts and notices. The header ETag is its revision, for If-Match when it is edited."""
    painter: Painter = state.painter
    async with _database(state).reading() as conn:
        found = await detail_of(conn, incident_id, await painter.config(conn), teams_of(principal(request)))
    if found is None or not principal(request).sees(found.incident.team):
        raise NotFoundException("No incident has this id")
    return tagged(found)


@get("/api/v1/incidents/{incident_id:uuid}/timeline", summary="What happened to it", tags=["incidents"])
async def timeline(
    state: State,
    request: Request[Any, Any, Any],
    incident_id: FromPath[uuid.UUID],
    after: Annotated[int, QueryParameter(ge=0, le=MAX_SEQ, description="Sequence number to go on from")] = 0,
    before: Annotated[
        int | None, QueryParameter(ge=1, le=MAX_SEQ, description="Instead: the last entries before this one")
    ] = None,
    limit: Limit = MAX_PAGE,
) -> list[TimelineEntry]:
    """In order; ask again after the last `seq` for more."""
    async with _database(state).reading() as conn:
        if before is None:
            entries = await timeline_of(conn, incident_id, after, limit)
        else:
            entries = await timeline_before(conn, incident_id, before, limit)
        await _seen(conn, request, incident_id)
        return entries


@get("/api/v1/alerts", summary="Alerts, newest occurrence of each", tags=["alerts"])
async def alerts(
    state: State,
    request: Request[Any, Any, Any],
    status: Annotated[str | None, QueryParameter(pattern="^(firing|resolved)$")] = None,
    team: Team = None,
    q: Text = "",
    incident: Annotated[uuid.UUID | None, QueryParameter(description="Only alerts of this one")] = None,
    limit: Limit = 50,
    cursor: Annotated[str, QueryParameter(max_length=100, description="`next` of the page before")] = "",
) -> AlertPage:
    """By identity; with `incident`, every occurrence of its alerts, firing first."""
    async with _database(state).reading() as conn:
        if incident is not None:
            found = await incidents_by_id(conn, [incident])
            if not found or not principal(request).sees(found[0].team):
                return AlertPage(items=[])
            offset = _offset(cursor)
            rows = await alerts_of_incident(conn, incident, limit + 1, offset)
            return AlertPage(items=rows[:limit], next=str(offset + limit) if len(rows) > limit else None)
        teams = teams_of(principal(request), team)
        rows = await current_alerts(
            conn, status=status, teams=teams, patterns=patterns(q), after=cursor, limit=limit + 1
        )  # fmt: skip
        return AlertPage(items=rows[:limit], next=rows[limit - 1].identity if len(rows) > limit else None)


@get("/api/v1/tables", summary="Stream tables by partition", tags=["streams"])
async def tables(state: State) -> TablesView:
    """Entries and bytes of each table, with the owner's epoch and the saved offset."""
    views: TableViews = state.tables
    return await views.read()


@get("/api/v1/tables/{table:str}/{key:str}", summary="One key of a stream table", tags=["streams"])
async def table_entry(
    state: State, request: Request[Any, Any, Any], table: FromPath[str], key: FromPath[str]
) -> list[TableEntry]:
    """As last committed, from each partition that has it; the owner is not asked."""
    views: TableViews = state.tables
    try:
        found = await views.look_up(table, key)
    except LookupError as error:
        raise NotFoundException(f"There is no table {table}") from error
    who = principal(request)
    seen = [entry for entry in found if who.teams is None or who.sees(team_in(entry))]
    if not seen:
        raise NotFoundException(f"No entry of {table} has this key")
    return seen


@get("/api/v1/totals", summary="Sums of what came in", tags=["streams"])
async def totals(state: State, request: Request[Any, Any, Any]) -> Sums:
    """The sum: received = new + changed + resolved + duplicate + late + rejected + redelivered."""
    teams = teams_of(principal(request))
    async with _database(state).reading() as conn:
        opened = await read_open(conn, teams)
        return Sums(totals=await read_totals(conn), open=opened, partitions=await read_progress(conn))


@get("/api/v1/stream", summary="Server-sent events of what changes", tags=["streams"], media_type="text/event-stream")
async def stream(state: State, request: Request[Any, Any, Any]) -> Stream:
    """Events: hello, changed, sample, away, reset. Last-Event-ID goes on where it broke; signing out ends it."""
    live: Live = state.live
    who = principal(request)
    again = cast("Callable[[], Awaitable[Principal | None]] | None", request.scope.get(AGAIN))

    async def may_listen() -> bool:
        try:
            return again is None or await again() == who
        except DatabaseAwayError:
            return True

    return Stream(
        live.listen(request.headers.get("last-event-id", ""), who.teams, may_listen),
        media_type="text/event-stream",
        headers={**_NO_STORE, "x-accel-buffering": "no"},
    )


def build(
    settings: Settings,
    database: Database,
    live: Live,
    tables_view: TableViews,
    announcer: SilenceAnnouncer,
    reloader: Reloader,
    sender: ActionSender,
    credentials: Credentials,
) -> Litestar:
    """The Litestar app over its parts."""
    return Litestar(
        route_handlers=[
            incidents, incident, timeline, alerts, tables, table_entry, totals, stream, openapi, _alertmanager(),
            explain, receivers, reload, *silences.ROUTES, *jobs.ROUTES, *heartbeats.ROUTES, *actions.ROUTES,
            *dead_letters.ROUTES,
            *login.ROUTES, *access.ROUTES, audit_log, *page_routes(),
        ],
        guards=[check_scope],
        request_max_body_size=settings.max_message_bytes,
        exception_handlers=problems.HANDLERS,
        before_request=refuse_foreign,
        state=State(
            {
                "settings": settings,
                "database": database,
                "live": live,
                "tables": tables_view,
                "announcer": announcer,
                "reloader": reloader,
                "sender": sender,
                "silences": SilenceStore(database),
                "beats": Beats(database),
                "painter": Painter(),
                "credentials": credentials,
                "passwords": Passwords(),
            }
        ),
        openapi_config=OpenAPIConfig(
            title="LLM Incident Manager",
            version="1",
            use_handler_docstrings=True,
            render_plugins=[JsonRenderPlugin()],
            path="/openapi",
        ),
        after_request=_guarded,
        logging_config=None,
    )  # fmt: skip


def _alertmanager() -> Router:
    """Alertmanager's API, with errors as its clients read them."""
    handlers = [gettable_alerts, alert_groups, *alertmanager_silences.ROUTES, *alertmanager_status.ROUTES]
    return Router("/", route_handlers=handlers, exception_handlers=alertmanager_errors.HANDLERS)


async def _guarded(response: Response[Any]) -> Response[Any]:
    response.headers.setdefault("x-content-type-options", "nosniff")
    response.headers.setdefault("cache-control", "no-store")
    return response


def _database(state: State) -> Database:
    database: Database = state.database
    return database


async def _seen(conn: "Conn", request: Request[Any, Any, Any], incident_id: uuid.UUID) -> None:
    """Refuse an incident that does not exist, or is another team's."""
    found = await incidents_by_id(conn, [incident_id])
    if not found or not principal(request).sees(found[0].team):
        raise NotFoundException("No incident has this id")


def _offset(cursor: str) -> int:
    if not cursor:
        return 0
    if not cursor.isdecimal() or len(cursor) > 9:  # noqa: PLR2004 - below the range of Postgres' int
        raise problems.FieldProblemError("cursor", "it is not a cursor of this list")
    return int(cursor)
