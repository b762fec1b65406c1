"""Every action is audited: who did what to which object, from where, and how it ended, before it is answered.

What Postgres cannot take at that moment stands in the log at once and is written once it is back.
"""

import asyncio
from collections import deque
from collections.abc import MutableMapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal

import msgspec
import structlog
from litestar import get
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.params import FromQuery, QueryParameter

from sinks import audit_rows
from sinks.audit_rows import AuditRow, Deed
from streams.observe import App, Receive, Scope, Send
from web.database import Database, DatabaseAwayError, UnkeptTextError
from web.principal import KEY, NEEDS, Principal, anonymous
from web.principal import Scope as Needed

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_DETAIL: Final = "incidents.audit"
_PENDING: Final = 10_000
_LONGEST: Final = 300
_MAX_SEQ: Final = 2**53 - 1

log = structlog.get_logger(__name__)


class AuditPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of the audit, the latest first; `next` asks for the following one and is absent on the last."""

    items: list[AuditRow]
    next: str | None = None


class Audit:
    """Writes deeds."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pending: deque[Deed] = deque(maxlen=_PENDING)

    async def write(self, deed: Deed) -> None:
        """Keep a deed, now or once Postgres is back."""
        try:
            await self._add([deed])
        except DatabaseAwayError as error:
            self._pending.append(deed)
            log.warning("audit_waits", reason=str(error), **msgspec.to_builtins(deed))

    async def run(self) -> None:
        """Write what waits, until cancelled."""
        while True:
            await asyncio.sleep(1)
            try:
                while self._pending:
                    await self._add([self._pending[0]])
                    self._pending.popleft()
            except DatabaseAwayError:
                continue

    async def _add(self, deeds: list[Deed]) -> None:
        try:
            async with self._database.writing() as conn:
                await audit_rows.add(conn, deeds)
        except UnkeptTextError as error:
            log.warning("audit_unkept", reason=str(error), deeds=msgspec.to_builtins(deeds))


def audited(app: App, audit: Audit) -> App:
    """The app, whose actions are written down before they are answered."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in _SAFE:
            await app(scope, receive, send)
            return

        async def sending(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                handler, status = scope.get("route_handler"), int(message["status"])
                if handler is not None and handler.opt.get(NEEDS) != Needed.INGEST and _counts(scope, status):
                    await audit.write(_deed(scope, status))
            await send(message)

        await app(scope, receive, sending)

    return wrapped


def note(request: ASGIConnection[Any, Any, Any, Any], *, actor: str = "", **detail: object) -> None:
    """Add to what the audit will say of this request."""
    known: dict[str, Any] = dict(request.scope.get(_DETAIL) or {})  # type: ignore[call-overload]  # our own key
    known.update(detail, **({"actor": actor} if actor else {}))
    request.scope[_DETAIL] = known  # type: ignore[typeddict-unknown-key]  # likewise


def address_of(scope: MutableMapping[str, Any]) -> str:
    """Where a request comes from."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def _counts(scope: Scope, status: int) -> bool:
    """Of strangers only passwords that were judged: anybody could fill the disk with the rest."""
    who = scope.get(KEY)
    is_stranger = isinstance(who, Principal) and not who.scopes
    return not is_stranger or status in {HTTPStatus.OK, HTTPStatus.UNAUTHORIZED}


def _deed(scope: Scope, status: int) -> Deed:
    detail: dict[str, Any] = dict(scope.get(_DETAIL) or {})
    named = scope.get(KEY)
    headers = dict(scope["headers"])
    who = named if isinstance(named, Principal) else anonymous(headers.get(b"x-incidents-actor", b"").decode("latin-1"))
    outcome = "failed" if status >= 500 else "refused" if status >= 400 else "done"  # noqa: PLR2004 - HTTP's classes
    return Deed(
        at=datetime.now(UTC),
        actor=_kept(detail.pop("actor", who.name)),
        actor_kind=who.kind,
        address=address_of(scope),
        action=f"{scope['method']} {scope.get('path_template') or scope['path']}"[:_LONGEST],
        object=_kept(scope["path"]),
        outcome=outcome,
        detail={"status": status, **detail},
    )


def _kept(text: str) -> str:
    """The text as it may stand in a row and on a terminal."""
    return "".join(sign if sign.isprintable() else "�" for sign in text[:_LONGEST])


@get("/api/v1/audit", summary="Who did what", tags=["access"], opt={NEEDS: Needed.ADMIN})
async def audit_log(
    state: State,
    actor: FromQuery[str | None] = None,
    outcome: FromQuery[Literal["done", "refused", "failed"] | None] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=200)] = 50,
    cursor: Annotated[
        str, QueryParameter(max_length=20, pattern="^[0-9]*$", description="`next` of the page before")
    ] = "",
) -> AuditPage:
    """The latest first."""
    database: Database = state.database
    before = min(int(cursor), _MAX_SEQ) if cursor else None
    async with database.reading() as conn:
        rows = await audit_rows.newest(conn, before=before, actor=actor, outcome=outcome, limit=limit + 1)
    return AuditPage(items=rows[:limit], next=str(rows[limit - 1].seq) if len(rows) > limit else None)
