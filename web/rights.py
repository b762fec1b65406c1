"""Who may do what: the scope that each route needs, and objects of other teams, which look as if they did not exist."""

from typing import Any

from litestar.connection import ASGIConnection
from litestar.exceptions import PermissionDeniedException
from litestar.handlers import BaseRouteHandler

from web.principal import NEEDS, Principal, Scope, principal

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
AnyConnection = ASGIConnection[Any, Any, Any, Any]


def needed(method: str, options: dict[str, Any]) -> Scope | None:
    """The scope that a route needs; None for one that is open to everybody."""
    if NEEDS in options:
        found: Scope | None = options[NEEDS]
        return found
    return Scope.READ if method.upper() in _SAFE else Scope.ACT


def check_scope(connection: AnyConnection, handler: BaseRouteHandler) -> None:
    """A guard of every route.

    Raises:
        PermissionDeniedException: whoever asks may not.
    """
    scope = needed(str(connection.scope.get("method", "GET")), handler.opt)
    if scope is not None and scope not in principal(connection).scopes:
        raise PermissionDeniedException(f"This needs the scope {scope}")


def teams_of(who: Principal, wanted: str | None = None) -> list[str] | None:
    """The teams whose objects are listed: all (None), or those that may be seen and are asked for."""
    if wanted is not None:
        return [wanted] if who.sees(wanted) else []
    return sorted(who.teams) if who.teams is not None else None


def team_for(who: Principal, wanted: str | None = None) -> str:
    """The team that something new belongs to: the one asked for, or else the only one there can be, or `default`.

    Raises:
        PermissionDeniedException: it is not theirs.
    """
    if wanted:
        if not who.sees(wanted):
            raise PermissionDeniedException(f"The team {wanted} is not yours")
        return wanted
    if who.teams is None or "default" in who.teams:
        return "default"
    if len(who.teams) == 1:
        return next(iter(who.teams))
    raise PermissionDeniedException(f"Name one of your teams: {', '.join(sorted(who.teams))}")
