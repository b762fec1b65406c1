"""Errors as application/problem+json (RFC 9457), naming the field where there is one."""

from http import HTTPStatus
from typing import Any, Final

import asyncpg
import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, PermissionDeniedException, ValidationException

from web.database import DatabaseAwayError, UnkeptTextError
from web.principal import Principal
from web.rights import team_for

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER: Final = "2"

log = structlog.get_logger(__name__)
AnyRequest = Request[Any, Any, Any]


class FieldError(msgspec.Struct, frozen=True):
    """Which field was refused and why."""

    field: str
    reason: str


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of every error."""

    title: str
    status: int
    type: str = "about:blank"
    detail: str = ""
    errors: list[FieldError] = []


class FieldProblemError(Exception):
    """Raised by a route for a value that only it can judge; it becomes a 400."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class ConflictError(Exception):
    """Raised where a thing's state does not allow what is asked; it becomes a 409 with the reason."""


class OutdatedError(Exception):
    """Raised where a thing has changed since whoever edits it read it; it becomes a 412."""


class PartAwayError(Exception):
    """Raised when a part that the answer needs is away; it becomes a 503."""


def own_team(who: Principal, wanted: str | None) -> str:
    """The team that something new belongs to, as `team_for` has it.

    Raises:
        FieldProblemError: it is not theirs, or must be named.
    """
    try:
        return team_for(who, wanted)
    except PermissionDeniedException as error:
        raise FieldProblemError("team", error.detail) from error


def respond(problem: Problem) -> Response[Problem]:
    """The answer for a problem."""
    headers = {"retry-after": RETRY_AFTER} if problem.status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    return Response(problem, status_code=problem.status, media_type=MEDIA_TYPE, headers=headers)


def on_field(_request: AnyRequest, error: FieldProblemError) -> Response[Problem]:
    """400 for a value that a route refused."""
    return respond(_bad_request([FieldError(error.field, error.reason)]))


def on_unkept(_request: AnyRequest, error: UnkeptTextError) -> Response[Problem]:
    """400 for text that Postgres cannot keep."""
    return respond(_bad_request([], str(error)))


def on_validation(_request: AnyRequest, error: ValidationException) -> Response[Problem]:
    """400 for parameters that do not fit their types."""
    extra = error.extra if isinstance(error.extra, list) else []
    errors = [FieldError(str(item.get("key", "")), str(item.get("message", ""))) for item in extra]
    return respond(_bad_request(errors, error.detail if not errors else ""))


def on_data(_request: AnyRequest, _error: asyncpg.DataError) -> Response[Problem]:
    """400 for a value that no column can hold, such as one with a NUL in it."""
    return respond(_bad_request([], "A value has characters, or a size, that cannot be stored"))


def on_depth(_request: AnyRequest, _error: RecursionError) -> Response[Problem]:
    """400 for JSON that is nested without end."""
    return respond(_bad_request([], "The body is nested too deeply"))


def on_http(_request: AnyRequest, error: HTTPException) -> Response[Problem]:
    """What Litestar itself refuses: unknown paths, wrong methods; with its headers, such as Allow."""
    title = HTTPStatus(error.status_code).phrase
    detail = "" if error.detail == title else error.detail
    answer = respond(Problem(title=title, status=error.status_code, detail=detail))
    answer.headers.update(error.headers or {})
    return answer


def on_away(_request: AnyRequest, error: DatabaseAwayError | PartAwayError) -> Response[Problem]:
    """503 while a part is away."""
    return respond(Problem(title="Not available right now", status=503, detail=str(error)))


def on_conflict(_request: AnyRequest, error: ConflictError) -> Response[Problem]:
    """409 with the reason."""
    return respond(Problem(title="Not possible now", status=409, detail=str(error)))


def on_outdated(_request: AnyRequest, error: OutdatedError) -> Response[Problem]:
    """412: read it again."""
    return respond(Problem(title="It has changed meanwhile", status=412, detail=str(error)))


def on_mistake(request: AnyRequest, error: Exception) -> Response[Problem]:
    """500 for what is our own fault; the text stays in the log."""
    log.error("request_failed", path=request.url.path, exc_info=error)
    return respond(Problem(title="Internal error", status=500, detail="It was logged."))


def _bad_request(errors: list[FieldError], detail: str = "") -> Problem:
    said = detail or "; ".join(f"{error.field}: {error.reason}" for error in errors)
    return Problem(title="Bad request", status=400, detail=said, errors=errors)


HANDLERS: Final[dict[int | type[Exception], Any]] = {
    FieldProblemError: on_field,
    UnkeptTextError: on_unkept,
    ValidationException: on_validation,
    HTTPException: on_http,
    asyncpg.DataError: on_data,
    RecursionError: on_depth,
    DatabaseAwayError: on_away,
    PartAwayError: on_away,
    ConflictError: on_conflict,
    OutdatedError: on_outdated,
    Exception: on_mistake,
}
