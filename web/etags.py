"""Edits that meet what their author saw: an ETag with each object, and If-Match on what changes it (RFC 9110)."""

from http import HTTPStatus
from typing import Any

from litestar import Request
from litestar.exceptions import HTTPException


def tag_of(version: object) -> str:
    """The ETag of an object whose version is any text without quotes."""
    return f'"{version}"'


def check_match(request: Request[Any, Any, Any], version: object) -> None:
    """Refuse a change to another version than its author saw; without If-Match anything may be changed.

    Raises:
        HTTPException: 412, the object has changed meanwhile.
    """
    said = request.headers.get("if-match")
    if said is None or said.strip() == "*":
        return
    if tag_of(version) not in [one.strip() for one in said.split(",")]:
        raise HTTPException(
            "If-Match: it has changed meanwhile; read it again", status_code=HTTPStatus.PRECONDITION_FAILED
        )
