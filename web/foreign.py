"""Requests that another site had a browser make are refused: those that change something, and those by a false name."""

import ipaddress
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from litestar import Request
from litestar.exceptions import ClientException, PermissionDeniedException

from streams.observe import App, Receive, Scope, Send
from streams.settings import PREFIX, Settings
from web.http_body import is_drained
from web.problems import MEDIA_TYPE, Problem

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


def known_host(settings: Settings, app: App) -> App:
    """The app of a gateway on loopback that asks nobody who they are, for whoever calls it by a name of its own.

    A page of any site may have its own name lead here (DNS rebinding), and would then be taken for ours. An address
    is no such name, and neither is localhost.
    """
    own = {settings.http_host.lower(), (urlsplit(settings.page_url).hostname or "").lower(), "localhost"}

    @lru_cache(maxsize=256)
    def is_ours(host: bytes) -> bool:
        try:
            name = urlsplit(f"//{host.decode('latin-1')}").hostname or ""
        except ValueError:
            return False
        return name in own or name.endswith(".localhost") or _is_address(name)

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        host = next((value for name, value in scope.get("headers", ()) if name == b"host"), None)
        if host is None or is_ours(host):
            await app(scope, receive, send)
            return
        status = HTTPStatus.FORBIDDEN
        detail = f"The header Host names none of ours: {PREFIX}EXTERNAL_URL says under which name the page is reached"
        body = msgspec.json.encode(Problem(title=status.phrase, status=status, detail=detail))
        headers = [
            (b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"), *([] if await is_drained(receive) else [(b"connection", b"close")]),
        ]  # fmt: skip
        await send({"type": "http.response.start", "status": int(status), "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return wrapped


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
