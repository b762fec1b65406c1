"""The page: static files of this package, read once, with the headers that keep foreign text harmless."""

import gzip
import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

from litestar import Request, Response, get
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from web.principal import NEEDS

_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "webmanifest": "application/manifest+json",
}
HEADERS: Final = {
    "content-security-policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-cache",
}


OPEN_FILES: Final = frozenset({"/login", "/favicon.ico", "/static/login.js", "/static/page.css", "/static/icon.svg"})
"""What is needed to sign in."""


@dataclass(frozen=True)
class File:
    """One static file; `tag` changes with its content."""

    body: bytes
    packed: bytes
    media_type: str
    tag: str


def _load() -> dict[str, File]:
    files = {}
    for item in resources.files("web").joinpath("static").iterdir():
        kind = item.name.rpartition(".")[2]
        if kind in _TYPES:
            body = item.read_bytes()
            tag = hashlib.sha256(body).hexdigest()[:16]
            files[item.name] = File(body, gzip.compress(body, mtime=0), _TYPES[kind], f'"{tag}"')
    return files


_FILES: Final = _load()


@get(["/", "/incidents/{_id:uuid}", "/silences", "/jobs", "/tables"], include_in_schema=False)
async def index(request: Request[Any, Any, Any]) -> Response[bytes]:
    """The page; it finds its view from the address."""
    return _answer(request, "index.html")


@get("/login", include_in_schema=False, opt={NEEDS: None})
async def login_page(request: Request[Any, Any, Any]) -> Response[bytes]:
    """The page that asks who it is."""
    return _answer(request, "login.html")


@get("/static/{name:str}", include_in_schema=False, opt={NEEDS: None})
async def static(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
    """One of the page's files."""
    return _answer(request, name)


@get("/favicon.ico", include_in_schema=False, opt={NEEDS: None})
async def favicon(request: Request[Any, Any, Any]) -> Response[bytes]:
    """The icon where browsers look by themselves."""
    return _answer(request, "icon.svg")


def page_routes() -> list[HTTPRouteHandler]:
    """Everything the page needs."""
    return [index, login_page, static, favicon]


def _answer(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
    file = _FILES.get(name)
    if file is None:
        raise NotFoundException("No such file")
    headers = {**HEADERS, "etag": file.tag, "vary": "accept-encoding"}
    if request.headers.get("if-none-match") == file.tag:
        return Response(b"", status_code=304, headers=headers, media_type=file.media_type)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(file.packed, headers={**headers, "content-encoding": "gzip"}, media_type=file.media_type)
    return Response(file.body, headers=headers, media_type=file.media_type)
