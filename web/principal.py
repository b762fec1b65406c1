"""Who asks: a user, a token, or with INCIDENTS_AUTH=off anybody; and what they may do in which teams.

Whoever checks credentials puts the principal into the request's scope; everyone who writes an actor takes it from here.
"""

from typing import Any, Final, Literal

import msgspec
from litestar.connection import ASGIConnection

from streams.credentials import Role, Scope

__all__ = ["AGAIN", "KEY", "NEEDS", "Principal", "Role", "Scope", "anonymous", "principal"]

NEEDS: Final = "needs"
"""A route's option that names the scope it needs; without it reading needs `read` and anything else `act`."""
KEY: Final = "incidents.principal"
AGAIN: Final = "incidents.again"
"""Where the request's scope holds what tells who its credential is of by now; absent where nobody signs in."""
ACTOR_HEADER: Final = "x-incidents-actor"
_ANONYMOUS: Final = "anonymous"
_MAX_NAME: Final = 200


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Whoever asks. `scopes` holds everything that is allowed; `teams` None means all of them."""

    name: str
    kind: Literal["user", "token", "anonymous"]
    role: Role
    scopes: frozenset[Scope]
    teams: frozenset[str] | None = None

    def sees(self, team: str) -> bool:
        """Whether what belongs to a team may be shown; what may not must look as if it did not exist."""
        return self.teams is None or team in self.teams


def principal(request: ASGIConnection[Any, Any, Any, Any]) -> Principal:
    """Who made a request; where nobody is asked to say so, an admin by the name in X-Incidents-Actor."""
    found = request.scope.get(KEY)
    return found if isinstance(found, Principal) else anonymous(request.headers.get(ACTOR_HEADER, ""))


def anonymous(said: str) -> Principal:
    """Somebody of whom nothing was asked, under the name they gave, if it can be one."""
    name = said.strip()[:_MAX_NAME]
    usable = name if name.isprintable() else ""
    return Principal(name=usable or _ANONYMOUS, kind="anonymous", role=Role.ADMIN, scopes=frozenset(Scope))
