"""Errors of Alertmanager's API: the reason as a JSON string, which its clients expect."""

from http import HTTPStatus
from typing import Any, Final

import asyncpg
import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from web.database import DatabaseAwayError, UnkeptTextError
from web.problems import RETRY_AFTER, FieldProblemError, PartAwayError

log = structlog.get_logger(__name__)
AnyRequest = Request[Any, Any, Any]


class RefusedError(Exception):
    """Raised by a route of this API; it becomes the status and text that Alertmanager answers."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status


def answer(status: int, text: str) -> Response[bytes]:
    """A reason as its clients read it."""
    headers = {"retry-after": RETRY_AFTER} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    return Response(msgspec.json.encode(text), status_code=status, media_type="application/json", headers=headers)


def _on_refused(_request: AnyRequest, error: RefusedError) -> Response[bytes]:
    return answer(error.status, str(error))


def _on_value(_request: AnyRequest, error: FieldProblemError | UnkeptTextError) -> Response[bytes]:
    return answer(HTTPStatus.BAD_REQUEST, str(error))


def _on_validation(_request: AnyRequest, error: ValidationException) -> Response[bytes]:
    found = error.extra if isinstance(error.extra, list) else []
    said = "; ".join(f"{item.get('key', '')}: {item.get('message', '')}" for item in found)
    return answer(HTTPStatus.BAD_REQUEST, said or error.detail)


def _on_http(_request: AnyRequest, error: HTTPException) -> Response[bytes]:
    return answer(error.status_code, error.detail)


def _on_data(_request: AnyRequest, _error: Exception) -> Response[bytes]:
    return answer(HTTPStatus.BAD_REQUEST, "A value has characters, or a size, that cannot be stored")


def _on_depth(_request: AnyRequest, _error: Exception) -> Response[bytes]:
    return answer(HTTPStatus.BAD_REQUEST, "The body is nested too deeply")


def _on_away(_request: AnyRequest, error: Exception) -> Response[bytes]:
    return answer(HTTPStatus.SERVICE_UNAVAILABLE, str(error))


def _on_mistake(request: AnyRequest, error: Exception) -> Response[bytes]:
    log.error("request_failed", path=request.url.path, exc_info=error)
    return answer(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal error; it was logged.")


HANDLERS: Final[dict[int | type[Exception], Any]] = {
    RefusedError: _on_refused,
    FieldProblemError: _on_value,
    UnkeptTextError: _on_value,
    ValidationException: _on_validation,
    HTTPException: _on_http,
    asyncpg.DataError: _on_data,
    RecursionError: _on_depth,
    DatabaseAwayError: _on_away,
    PartAwayError: _on_away,
    Exception: _on_mistake,
}
