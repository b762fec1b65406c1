"""Pages of lists: opaque cursors, and for lists that are plain arrays the header Link, which names the next page."""

import base64
import binascii
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

import msgspec
from litestar import Request, Response
from litestar.datastructures import ResponseHeader

from web.problems import FieldProblemError

T = TypeVar("T")
LINKED: Final = [
    ResponseHeader(name="link", description='The next page, if there is one, as rel="next"', documentation_only=True)
]


def cursor_of(*place: object) -> str:
    """A place in a list as text that means nothing to anybody else."""
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def place_of(cursor: str, kind: type[T]) -> T:
    """The place that a cursor names: a tuple of the types that went into it.

    Raises:
        FieldProblemError: it is none of this list.
    """
    try:
        said = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        return msgspec.json.decode(said, type=kind)
    except (binascii.Error, ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise FieldProblemError("cursor", "it is not a cursor of this list") from error


def linked(request: Request[Any, Any, Any], items: list[T], following: str | None) -> Response[list[T]]:
    """The items, and the way to the following ones."""
    if following is None:
        return Response(items)
    asked = [pair for pair in request.query_params.multi_items() if pair[0] != "cursor"]
    query = urlencode([*asked, ("cursor", following)])
    return Response(items, headers={"link": f'<{request.url.path}?{query}>; rel="next"'})
