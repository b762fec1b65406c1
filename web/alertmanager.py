"""Alertmanager's /api/v2/alerts and /alerts/groups: what fires now, and what mutes it."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import re2
from litestar import Request, get
from litestar.datastructures import State
from litestar.params import FromQuery, QueryParameter

from agents.rules import routing
from agents.rules.dedup import AlertState, Pulse
from sinks.alert_reads import firing_now
from streams import codec
from streams.rules_matchers import Matcher, MatcherError, parse
from streams.rules_routes import Route
from streams.settings import Settings
from web.database import Database
from web.picture import Painter, Picture, Standing
from web.principal import principal
from web.problems import FieldProblemError
from web.rights import teams_of

if TYPE_CHECKING:
    from asyncpg import Record

_pulse: Final = msgspec.msgpack.Decoder(Pulse)
_state: Final = msgspec.msgpack.Decoder(AlertState)
_AT_A_TIME: Final = 5
"""Alerts or groups made before whatever else waits, intake for one, has its turn."""

Filter = Annotated[list[str] | None, QueryParameter(name="filter", description="Matchers, all of which must hold")]
ReceiverName = Annotated[str | None, QueryParameter(description="Regular expression for a receiver's whole name")]


class GettableStatus(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Whether an alert may notify, and by what it is muted: silences, alerts, time intervals."""

    state: str
    silenced_by: list[str]
    inhibited_by: list[str]
    muted_by: list[str]


class Receiver(msgspec.Struct, frozen=True):
    """Who hears of it."""

    name: str


class GettableAlert(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """One alert in Alertmanager's shape."""

    annotations: dict[str, str]
    ends_at: datetime
    fingerprint: str
    receivers: list[Receiver]
    starts_at: datetime
    status: GettableStatus
    updated_at: datetime
    generator_url: str = msgspec.field(name="generatorURL", default="")
    labels: dict[str, str]


class AlertGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Alerts that one route puts together."""

    labels: dict[str, str]
    receiver: Receiver
    alerts: list[GettableAlert]


class PostableAlert(msgspec.Struct, rename="camel", kw_only=True):
    """One alert as Prometheus sends it: described here, read in `streams.intake_alertmanager`."""

    labels: dict[str, str]
    annotations: dict[str, str] = {}
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    generator_url: str = msgspec.field(name="generatorURL", default="")


class Wanted:
    """What a request asks for."""

    def __init__(
        self, texts: Iterable[str], receiver: str | None, *, active: bool, silenced: bool, inhibited: bool
    ) -> None:
        self.matchers = matchers_of(texts)
        self.certain = {m.name: m.value for m in self.matchers if m.op == "=" and m.value}
        self._receiver = _expression(receiver) if receiver else None
        self._active, self._silenced, self._inhibited = active, silenced, inhibited

    def takes(self, labels: dict[str, str], standing: Standing) -> bool:
        """Whether an alert is asked for, wherever it goes."""
        if (standing.silenced_by and not self._silenced) or (standing.inhibited_by and not self._inhibited):
            return False
        if not self._active and not standing.suppressed:
            return False
        return all(matcher.matches(labels) for matcher in self.matchers)

    def receives(self, name: str) -> bool:
        """Whether a receiver is asked for."""
        return self._receiver is None or self._receiver.fullmatch(name) is not None


@get("/api/v2/alerts", summary="Firing alerts, as Alertmanager lists them", tags=["alertmanager"])
async def gettable_alerts(
    state: State,
    request: Request[Any, Any, Any],
    matchers: Filter = None,
    receiver: ReceiverName = None,
    active: FromQuery[bool] = True,  # noqa: FBT002 - a query parameter
    silenced: FromQuery[bool] = True,  # noqa: FBT002 - a query parameter
    inhibited: FromQuery[bool] = True,  # noqa: FBT002 - a query parameter
    unprocessed: FromQuery[bool] = True,  # noqa: ARG001, FBT002 - a query parameter; nothing stays unprocessed here
) -> list[GettableAlert]:
    """Alertmanager's own parameters; `filter` may be given several times."""
    teams = teams_of(principal(request))
    wanted = Wanted(matchers or [], receiver, active=active, silenced=silenced, inhibited=inhibited)
    return [alert async for alert, standing, _ in _firing(state, wanted, teams) if _any_receives(wanted, standing)]


@get("/api/v2/alerts/groups", summary="Firing alerts by group, as Alertmanager lists them", tags=["alertmanager"])
async def alert_groups(
    state: State,
    request: Request[Any, Any, Any],
    matchers: Filter = None,
    receiver: ReceiverName = None,
    active: FromQuery[bool] = True,  # noqa: FBT002 - a query parameter
    silenced: FromQuery[bool] = True,  # noqa: FBT002 - a query parameter
    inhibited: FromQuery[bool] = True,  # noqa: FBT002 - a query parameter
    muted: FromQuery[bool] = True,  # noqa: FBT002 - a query parameter
) -> list[AlertGroup]:
    """One group for each route and values of its `group_by`; an alert may be in several."""
    teams = teams_of(principal(request))
    wanted = Wanted(matchers or [], receiver, active=active, silenced=silenced, inhibited=inhibited)
    groups: dict[tuple[str, tuple[tuple[str, str], ...]], tuple[Route, list[GettableAlert]]] = {}
    async for alert, standing, picture in _firing(state, wanted, teams):
        for route in standing.routes:
            by = picture.muted_by(route)
            if not wanted.receives(route.receiver) or (by and not muted):
                continue
            labels = tuple(sorted(routing.group_labels(route, alert.labels).items()))
            groups.setdefault((route.id, labels), (route, []))[1].append(_muted_on(alert, by))
    found: list[AlertGroup] = []
    for (_, labels), (route, alerts) in sorted(groups.items(), key=lambda one: (one[0][1], one[1][0].receiver)):
        if len(found) % _AT_A_TIME == 0:
            await asyncio.sleep(0)
        ordered = sorted(alerts, key=_place)
        found.append(AlertGroup(labels=dict(labels), receiver=Receiver(route.receiver), alerts=ordered))
    return found


def matchers_of(texts: Iterable[str]) -> list[Matcher]:
    """The matchers of a request's `filter`.

    Raises:
        FieldProblemError: one of them is none.
    """
    try:
        return [matcher for text in texts for matcher in parse(text)]
    except MatcherError as error:
        raise FieldProblemError("filter", str(error)) from error


def status_of(standing: Standing) -> GettableStatus:
    """How an alert stands, in Alertmanager's words."""
    return GettableStatus(
        state="suppressed" if standing.suppressed else "active",
        silenced_by=list(standing.silenced_by),
        inhibited_by=list(standing.inhibited_by),
        muted_by=list(standing.muted_by),
    )


async def _firing(
    state: State, wanted: Wanted, teams: list[str] | None
) -> AsyncIterator[tuple[GettableAlert, Standing, Picture]]:
    """Alerts that are asked for, by fingerprint."""
    database: Database = state.database
    painter: Painter = state.painter
    settings: Settings = state.settings
    now = datetime.now(UTC)
    async with database.reading() as conn:
        picture = await painter.picture(conn, now)
        async for rows in firing_now(conn, wanted.certain, teams):
            for number, row in enumerate(rows):
                if number % _AT_A_TIME == 0:
                    await asyncio.sleep(0)
                until = _until(row, settings)
                standing = picture.of(row["labels"], row["team"], row["fingerprint"])
                if until >= now and wanted.takes(row["labels"], standing):
                    yield _gettable(row, standing, until), standing, picture


def _until(row: "Record", settings: Settings) -> datetime:
    """When it ends if nothing more is heard: as the sender said, or after the resolve timeout."""
    timeout_at = _pulse.decode(row["pulse"]).timeout_at if row["pulse"] else None
    silent: datetime = row["last_seen_at"] + timedelta(seconds=settings.resolve_timeout)
    return timeout_at or max(silent, datetime.now(UTC) + timedelta(seconds=settings.resolve_timeout))


def _gettable(row: "Record", standing: Standing, until: datetime) -> GettableAlert:
    body = codec.decode_body(_state.decode(row["state"]).body) if row["state"] else None
    said = {"summary": row["summary"], "description": row["description"]}
    return GettableAlert(
        annotations=row["annotations"] or {name: text for name, text in said.items() if text},
        ends_at=until,
        fingerprint=row["fingerprint"],
        receivers=[Receiver(name) for name in dict.fromkeys(route.receiver for route in standing.routes)],
        starts_at=row["starts_at"],
        status=status_of(standing),
        updated_at=row["last_seen_at"],
        generator_url=body.generator_url if body is not None else "",
        labels=row["labels"],
    )


def _any_receives(wanted: Wanted, standing: Standing) -> bool:
    return any(wanted.receives(route.receiver) for route in standing.routes)


def _muted_on(alert: GettableAlert, by: tuple[str, ...]) -> GettableAlert:
    """The alert as it stands on one route."""
    status = alert.status
    suppressed = bool(by or status.silenced_by or status.inhibited_by)
    there = msgspec.structs.replace(status, muted_by=list(by), state="suppressed" if suppressed else "active")
    return msgspec.structs.replace(alert, status=there)


def _place(alert: GettableAlert) -> tuple[str, str, list[tuple[str, str]]]:
    return alert.labels.get("job", ""), alert.labels.get("instance", ""), sorted(alert.labels.items())


def _expression(text: str) -> Any:  # noqa: ANN401 - google-re2 has no types
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(text, options)
    except re2.error as error:
        raise FieldProblemError("receiver", "the regular expression is refused") from error
