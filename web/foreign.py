"""Requests that change something and that another site had a browser make are refused."""

from typing import Any, Final

from litestar import Request
from litestar.exceptions import ClientException, PermissionDeniedException

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_OURS: Final = frozenset({"same-origin", "none"})


async def refuse_foreign(request: Request[Any, Any, Any]) -> None:
    """Browsers say where a request comes from; a body that is not JSON could come from any site's form.

    Raises:
        PermissionDeniedException: another site asks.
        ClientException: the body is of another type (415).
    """
    if request.method in _SAFE:
        return
    if request.headers.get("sec-fetch-site", "none") not in _OURS:
        raise PermissionDeniedException("This came from another site")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and (kind or int(request.headers.get("content-length") or 0)):
        raise ClientException("Send application/json", status_code=415)
