"""Which tokens and sessions are good, as one gateway knows it: asking costs no round trip to Postgres.

Every live token is known here, and what changed is seen within a second. Sessions are known for two seconds at a
time. While Postgres is away, what was known stays good: a token until it expires, a session for some minutes.
"""

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

import structlog

from sinks import answer_rows, login_rows, token_rows, user_rows
from sinks.token_rows import LiveToken
from sinks.user_rows import Holder
from streams.credentials import GRANTS, ROLE_SCOPES, Role, Scope, digest
from web.database import Database, DatabaseAwayError
from web.login_rate import WINDOW
from web.principal import Principal

_INTERVAL: Final = 1.0
_WHOLE: Final = 5.0
_LEAST: Final = 0.2
"""Seconds between two looks at Postgres: guessing costs it no more than that."""
_SESSION: Final = 2.0
_SESSION_AWAY: Final = 300.0
_SESSIONS: Final = 10_000
_KEEPING_HOUSE: Final = 60.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Token:
    principal: Principal
    expires_at: datetime | None


@dataclass(frozen=True)
class _Session:
    principal: Principal
    expires_at: datetime
    checked: float


class Credentials:
    """What is known of tokens and sessions; `run` keeps it so. `database` is for what concerns signing in."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._tokens: dict[bytes, _Token] = {}
        self._version: tuple[int, datetime | None] | None = None
        self._looked = self._whole = float("-inf")
        self._good = float("-inf")
        self._one = asyncio.Lock()
        self._used: dict[bytes, datetime] = {}
        self._sessions: OrderedDict[bytes, _Session] = OrderedDict()

    async def run(self) -> None:
        """Look for changes until cancelled."""
        kept_house = time.monotonic()
        while True:
            try:
                await self.refresh()
                if time.monotonic() - kept_house > _KEEPING_HOUSE:
                    kept_house = time.monotonic()
                    await self._keep_house()
            except DatabaseAwayError as error:
                log.debug("credentials_wait", reason=str(error))
            await asyncio.sleep(_INTERVAL)

    async def refresh(self) -> None:
        """Take over what changed.

        Raises:
            DatabaseAwayError: Postgres is away; what was known stays.
        """
        arrived = time.monotonic()
        async with self._one:
            if self._looked > arrived:
                return  # somebody looked since this was asked for
            await asyncio.sleep(self._looked + _LEAST - time.monotonic())
            now = self._looked = time.monotonic()
            async with self.database.reading() as conn:
                version = await token_rows.version(conn)
                if version != self._version or now - self._whole > _WHOLE:
                    self._tokens = {one.hash: _known(one) for one in await token_rows.live(conn)}
                    self._version, self._whole = version, now
            self._good = now

    def of_token(self, token: str) -> Principal | None:
        """Whose token it is, as far as is known."""
        hashed = digest(token)
        known = self._tokens.get(hashed)
        now = datetime.now(UTC)
        if known is None or (known.expires_at is not None and known.expires_at <= now):
            return None
        self._used[hashed] = now
        return known.principal

    async def of_new_token(self, token: str) -> Principal | None:
        """Whose token it is, after a look for new ones.

        Raises:
            DatabaseAwayError: it cannot be known now.
        """
        try:
            await self.refresh()
        except DatabaseAwayError:
            if time.monotonic() - self._good > _WHOLE:
                raise
        return self.of_token(token)

    def knows_session(self, secret: str) -> bool:
        """Whether a session was good when it was asked about last."""
        return digest(secret) in self._sessions

    async def of_session(self, secret: str) -> Principal | None:
        """Whose session it is.

        Raises:
            DatabaseAwayError: it cannot be known now.
        """
        hashed, now = digest(secret), time.monotonic()
        known = self._sessions.get(hashed)
        if known is not None and now - known.checked < _SESSION and known.expires_at > datetime.now(UTC):
            return known.principal
        try:
            async with self.database.reading() as conn:
                holder = await user_rows.holder_of(conn, hashed)
        except DatabaseAwayError:
            if known is None or now - known.checked > _SESSION_AWAY or known.expires_at <= datetime.now(UTC):
                raise
            return known.principal
        self._sessions.pop(hashed, None)
        if holder is None:
            return None
        fresh = _Session(_person(holder), holder.expires_at, now)
        self._sessions[hashed] = fresh
        while len(self._sessions) > _SESSIONS:
            self._sessions.popitem(last=False)
        return fresh.principal

    def forget_sessions(self) -> None:
        """Ask Postgres anew about every session: some were ended here."""
        for hashed, known in self._sessions.items():
            self._sessions[hashed] = replace(known, checked=float("-inf"))

    async def _keep_house(self) -> None:
        used, self._used = self._used, {}
        async with self.database.writing() as conn:
            if used:
                await token_rows.used(conn, used.items())
            await user_rows.forget_sessions(conn)
            await answer_rows.forget(conn)
            await login_rows.forget(conn, datetime.now(UTC) - WINDOW)


def _known(token: LiveToken) -> _Token:
    scopes = frozenset(granted for name in token.scopes for granted in GRANTS[Scope(name)])
    role = Role.ADMIN if Scope.ADMIN in scopes else Role.RESPONDER if Scope.ACT in scopes else Role.VIEWER
    teams = frozenset(token.teams) if token.teams is not None else None
    return _Token(
        Principal(name=token.name, kind="token", role=role, scopes=scopes, teams=teams), token.expires_at
    )  # fmt: skip


def _person(holder: Holder) -> Principal:
    role = Role(holder.role)
    teams = frozenset(holder.teams) if holder.teams is not None else None
    return Principal(name=holder.name, kind="user", role=role, scopes=ROLE_SCOPES[role], teams=teams)
