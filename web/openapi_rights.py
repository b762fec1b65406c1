"""What /openapi.json says of credentials: the schemes, the scope or role that each operation needs, and refusals."""

import re
from collections.abc import Iterator
from typing import Any, Final

from litestar import Litestar
from litestar.handlers import HTTPRouteHandler

from streams.credentials import ROLE_SCOPES, Role, Scope
from web.rights import needed

SCHEMES: Final = {
    "token": {"type": "http", "scheme": "bearer", "description": "An API token; its scopes are named as roles."},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "incidents_session",
        "description": "Of a login (over https `__Host-incidents_session`); changes need X-CSRF-Token, "
        "which GET /api/v1/session tells.",
    },
}
_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A repeat under the same key, within a day, is answered as the first one was.",
    "schema": {"type": "string", "maxLength": 255},
}
_MATCH: Final = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "description": "The ETag of what is edited: 412 if it has changed meanwhile.",
    "schema": {"type": "string"},
}


def scopes_of(app: Litestar) -> dict[tuple[str, str], Scope | None]:
    """The scope that each (method, path) of the app needs; None for what is open."""
    return {
        (method.lower(), path): needed(method, handler.opt)
        for path, handler in _handlers(app)
        for method in handler.http_methods
    }


def security_of(scope: Scope | None) -> list[dict[str, list[str]]]:
    """An operation's `security`: either a token with the scope, or a session of a user with at least the role."""
    if scope is None:
        return []
    role = next(role for role in Role if scope in ROLE_SCOPES[role])
    return [{"token": [scope.value]}, {"session": [role.value]}]


def headers_of(method: str, path: str) -> list[dict[str, Any]]:
    """Header parameters that the plumbing understands for an operation."""
    if method in {"patch", "put"}:
        return [_MATCH]
    is_plain = method == "post" and path.startswith("/api/v1/") and not path.startswith("/api/v1/session")
    return [_KEY] if is_plain else []


def refusals(method: str) -> list[str]:
    """Statuses with which credentials, keys, ETags and sizes are refused."""
    found = ["401", "403", "429"]
    if method != "get":
        found += ["408", "409", "413", "415"]
    if method in {"patch", "put"}:
        found.append("412")
    if method == "post":
        found.append("422")
    return found


def _handlers(app: Litestar) -> Iterator[tuple[str, HTTPRouteHandler]]:
    for route in app.routes:
        for handler in getattr(route, "route_handlers", ()):
            if isinstance(handler, HTTPRouteHandler):
                yield re.sub(r":[a-z]+}", "}", route.path), handler
