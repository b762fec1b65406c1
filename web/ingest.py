"""HTTP intake, plain ASGI: a body is read within bounds, judged, and answered 2xx once it is in durable hands.

`ROUTES` are the ones this app answers; everything around them is the gateway's.
"""

import contextlib
import time
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

import msgspec
import structlog

from streams import metrics, trace_context
from streams.capacity import Capacity, FullError
from streams.fallback import Fallback
from streams.handover import Handover, NowhereError
from streams.intake import Parsed, Refusal, parse_alertmanager, parse_own
from streams.observe import App, Receive, Scope, Send
from streams.producer import EventProducer
from streams.records import AlertBatch, Rejected, Traced
from streams.settings import Settings
from web.http_body import BodyError, BodyReader, headers_of
from web.principal import KEY, Principal
from web.traces import follow

OWN: Final = "/api/v1/alerts"
ALERTMANAGER: Final = "/api/v2/alerts"
ROUTES: Final = (("POST", OWN), ("POST", ALERTMANAGER))
RETRY_AFTER: Final = b"1"
OURS: Final = frozenset({b"same-origin", b"none"})
_MAX_KEY: Final = 255
_JSON: Final = b"application/json"
_PROBLEM: Final = b"application/problem+json"

_encode = msgspec.json.Encoder().encode
log = structlog.get_logger(__name__)

Answer = tuple[int, bytes, bytes]


class Refused(msgspec.Struct, frozen=True):
    """One item of a body that was not taken. `index` is its place in the body."""

    index: int
    field: str
    reason: str


class Taken(msgspec.Struct, frozen=True):
    """The answer to our own format: how many were taken, which not, and the id of each item's event."""

    accepted: int
    rejected: list[Refused]
    event_ids: list[str]


class IngestProblem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of every error (RFC 9457)."""

    title: str
    status: int
    type: str = "about:blank"
    detail: str = ""
    errors: list[Refused] = []
    event_ids: list[str] = []


def ingest_app(settings: Settings, producer: EventProducer, fallback: Fallback, capacity: Capacity) -> App:
    """The ASGI app for `ROUTES`; anything else it answers with 404."""
    return Ingest(settings, Handover(producer, fallback), capacity)


class Ingest:
    """Answers the ingest routes."""

    def __init__(self, settings: Settings, handover: Handover, capacity: Capacity | None = None) -> None:
        self._settings = settings
        self._handover = handover
        self._capacity = capacity
        self._reader = BodyReader(settings.max_message_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        began = time.perf_counter()
        route = scope["path"]
        if (scope["method"], route) not in ROUTES:
            await _respond(send, _problem(HTTPStatus.NOT_FOUND, "there is no such ingest route"))
            return
        following = follow(scope)
        answer = await self._answer(route, scope, receive)
        metrics.ingest_requests.labels(route, str(answer[0])).inc()
        metrics.observe(metrics.ingest_seconds.labels(route), time.perf_counter() - began)
        if following is not None:
            following.ended(began, "POST", route, int(answer[0]))
        await _respond(send, answer)

    async def _answer(self, route: str, scope: Scope, receive: Receive) -> Answer:
        headers = headers_of(scope)
        key = headers.get(b"idempotency-key", b"").decode("latin-1").strip()
        if headers.get(b"sec-fetch-site", b"none") not in OURS:
            return _refusal(route, HTTPStatus.FORBIDDEN, "This came from another site")
        if len(key) > _MAX_KEY:
            return _refusal(route, HTTPStatus.BAD_REQUEST, f"Idempotency-Key: longer than {_MAX_KEY} characters")
        try:
            async with self._reader.read(headers, receive) as body:
                answer = self._own if route == OWN else self._alertmanager
                return await answer(body, key, headers, _team(scope))
        except BodyError as error:
            return _refusal(route, _busy(route) if error.busy else error.status, str(error))
        except (NowhereError, FullError) as error:
            return _refusal(route, _busy(route), str(error))

    async def _own(self, body: bytes, key: str, headers: dict[bytes, bytes], team: str) -> Answer:
        accepted_at = datetime.now(UTC)
        parsed = parse_own(
            body,
            accepted_at=accepted_at,
            limits=self._settings,
            team=team,
            header_event_id=key or None,
            content_type=_content_type(headers),
        )
        await self._take(parsed, accepted_at, "http", headers)
        refused, event_ids = _refused(parsed), [item.event_id for item in parsed.items]
        if parsed.items and len(refused) == len(parsed.items):
            status = _status_of(parsed.refusal)
            return _problem(status, refused[0].reason, refused, event_ids)
        taken = Taken(len(parsed.items) - len(refused), refused, event_ids)
        return HTTPStatus.ACCEPTED, _JSON, _encode(taken)

    async def _alertmanager(self, body: bytes, key: str, headers: dict[bytes, bytes], team: str) -> Answer:
        accepted_at = datetime.now(UTC)
        parsed = parse_alertmanager(
            body,
            accepted_at=accepted_at,
            limits=self._settings,
            team=team,
            header_event_id=key or None,
            content_type=_content_type(headers),
        )
        await self._take(parsed, accepted_at, "alertmanager", headers)
        refused = _refused(parsed)
        if refused:
            return _refusal(ALERTMANAGER, _status_of(parsed.refusal), refused[0].reason)
        return HTTPStatus.OK, _JSON, b""

    async def _take(self, parsed: Parsed, accepted_at: datetime, via: str, headers: dict[bytes, bytes]) -> None:
        """Bring the items into durable hands; what was refused is told to the sender even where its record is lost.

        Raises:
            NowhereError: neither Kafka nor RabbitMQ took them.
            FullError: some are new alerts for which there is no room; the others were taken.
        """
        full = await self._capacity.without_room(parsed.items) if self._capacity is not None else set()
        if full:
            kept = [item for place, item in enumerate(parsed.items) if place not in full]
            if kept:
                await self._take(msgspec.structs.replace(parsed, items=kept), accepted_at, via, headers)
            raise FullError(f"there is no room for {len(full)} new of {len(parsed.items)} alerts; come again")
        refused = sum(isinstance(item, Rejected) for item in parsed.items)
        metrics.intake_items.labels(via, "rejected").inc(refused)
        metrics.dead_letters.labels("http").inc(refused)
        metrics.intake_items.labels(via, "accepted").inc(len(parsed.items) - refused)
        trace = trace_context.usable(headers.get(b"traceparent", b"").decode("latin-1"))
        context = trace_context.current.get()
        traced = (Traced(context, tuple(range(len(parsed.items)))),) if context else ()
        batch = AlertBatch(accepted_at=accepted_at, items=tuple(parsed.items), via=via, trace=trace, traced=traced)
        if refused < len(parsed.items):
            await self._handover.take(batch)
        elif refused:
            with contextlib.suppress(NowhereError):
                await self._handover.take(batch)


def _refused(parsed: Parsed) -> list[Refused]:
    return [
        Refused(index, item.field, item.reason) for index, item in enumerate(parsed.items) if isinstance(item, Rejected)
    ]


def _status_of(refusal: Refusal | None) -> HTTPStatus:
    match refusal:
        case Refusal.TOO_LARGE | Refusal.TOO_MANY:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        case Refusal.MISSING_LABELS:
            return HTTPStatus.UNPROCESSABLE_ENTITY
        case _:
            return HTTPStatus.BAD_REQUEST


def _busy(route: str) -> HTTPStatus:
    """What makes this sender come again: Prometheus and Alertmanager drop what was answered 429."""
    return HTTPStatus.TOO_MANY_REQUESTS if route == OWN else HTTPStatus.SERVICE_UNAVAILABLE


def _team(scope: Scope) -> str:
    """The team that alerts of this sender belong to: the only one of its token, or else `default`."""
    found = scope.get(KEY)
    teams = found.teams if isinstance(found, Principal) else None
    return next(iter(teams)) if teams is not None and len(teams) == 1 else "default"


def _content_type(headers: dict[bytes, bytes]) -> str:
    return headers.get(b"content-type", _JSON).decode("latin-1")


def _refusal(route: str, status: HTTPStatus, detail: str) -> Answer:
    """A problem, or where Alertmanager's clients listen, its text as a JSON string."""
    return _problem(status, detail) if route == OWN else (status, _JSON, _encode(detail))


def _problem(
    status: HTTPStatus, detail: str, errors: list[Refused] | None = None, event_ids: list[str] | None = None
) -> Answer:
    problem = IngestProblem(
        title=status.phrase, status=status, detail=detail, errors=errors or [], event_ids=event_ids or []
    )
    return status, _PROBLEM, _encode(problem)


async def _respond(send: Send, answer: Answer) -> None:
    status, content_type, body = answer
    headers = [(b"content-length", str(len(body)).encode())]
    if body:
        headers.append((b"content-type", content_type))
    if status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
        headers.append((b"retry-after", RETRY_AFTER))
    await send({"type": "http.response.start", "status": int(status), "headers": headers})
    await send({"type": "http.response.body", "body": body})
