"""GET /api/v2/alerts as Alertmanager answers it, from the alerts that are firing now."""

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

import msgspec
import re2
from litestar import get
from litestar.datastructures import State
from litestar.params import FromQuery, QueryParameter

from sinks.alert_reads import AlertRow, current_alerts
from streams.rules_matchers import Matcher, MatcherError, parse
from streams.settings import Settings
from web.database import Database
from web.problems import FieldProblemError

_BATCH: Final = 2000


class GettableStatus(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Whether an alert may notify. Silences and inhibition do not exist yet, so it is active."""

    state: str = "active"
    silenced_by: list[str] = []
    inhibited_by: list[str] = []
    muted_by: list[str] = []


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


class PostableAlert(msgspec.Struct, rename="camel", kw_only=True):
    """One alert as Prometheus sends it: described here, read in `streams.intake_alertmanager`."""

    labels: dict[str, str]
    annotations: dict[str, str] = {}
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    generator_url: str = msgspec.field(name="generatorURL", default="")


@get("/api/v2/alerts", summary="Firing alerts, as Alertmanager lists them", tags=["alertmanager"])
async def gettable_alerts(
    state: State,
    matchers: Annotated[
        list[str] | None, QueryParameter(name="filter", description="Matchers, all of which must hold")
    ] = None,
    receiver: Annotated[
        str | None, QueryParameter(description="Regular expression for a receiver's whole name")
    ] = None,
    active: FromQuery[bool] = True,  # noqa: FBT002 - a query parameter
    silenced: FromQuery[bool] = True,  # noqa: ARG001, FBT002 - nothing is silenced yet
    inhibited: FromQuery[bool] = True,  # noqa: ARG001, FBT002 - nothing is inhibited yet
    unprocessed: FromQuery[bool] = True,  # noqa: ARG001, FBT002 - nothing stays unprocessed
) -> list[GettableAlert]:
    """Alertmanager's own parameters; every firing alert is active here."""
    wanted = _matchers(matchers or [])
    name = _expression(receiver) if receiver else None
    if not active:
        return []
    settings: Settings = state.settings
    database: Database = state.database
    found: list[GettableAlert] = []
    after = ""
    async with database.reading() as conn:
        while True:
            rows = await current_alerts(conn, status="firing", team=None, patterns=[], after=after, limit=_BATCH)
            found += [_gettable(row, settings) for row in rows if _passes(row, wanted, name)]
            if len(rows) < _BATCH:
                return sorted(found, key=lambda alert: alert.fingerprint)
            after = rows[-1].identity


def _matchers(texts: Iterable[str]) -> list[Matcher]:
    try:
        return [matcher for text in texts for matcher in parse(text)]
    except MatcherError as error:
        raise FieldProblemError("filter", str(error)) from error


def _expression(text: str) -> Any:  # noqa: ANN401 - google-re2 has no types
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(text, options)
    except re2.error as error:
        raise FieldProblemError("receiver", "the regular expression is refused") from error


def _passes(row: AlertRow, matchers: list[Matcher], receiver: Any) -> bool:  # noqa: ANN401 - as above
    if receiver is not None and not any(receiver.fullmatch(name) for name in row.receivers):
        return False
    return all(matcher.matches(row.labels) for matcher in matchers)


def _gettable(row: AlertRow, settings: Settings) -> GettableAlert:
    until = row.ends_at or row.last_seen_at + timedelta(seconds=settings.resolve_timeout)
    return GettableAlert(
        annotations=row.annotations,
        ends_at=until,
        fingerprint=row.fingerprint,
        receivers=[Receiver(name) for name in row.receivers],
        starts_at=row.starts_at,
        status=GettableStatus(),
        updated_at=row.last_seen_at,
        generator_url=next((link.href for link in row.links if re.match(r"https?://", link.href)), ""),
        labels=row.labels,
    )
