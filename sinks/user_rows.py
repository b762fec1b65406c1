"""Rows of users and of their sessions."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from asyncpg import Connection, Record
    from asyncpg.pool import PoolConnectionProxy

    Conn = Connection[Record] | PoolConnectionProxy[Record]

# A new user, unless the name is taken.
_ADD: Final = """
INSERT INTO users (name, role, teams, password_hash) VALUES ($1, $2, $3, $4)
ON CONFLICT (name) DO NOTHING
RETURNING name, role, teams, disabled_at, created_at, updated_at
"""

# A new admin, if there is no user at all.
_ADD_FIRST: Final = """
INSERT INTO users (name, role, teams, password_hash)
SELECT $1, 'admin', NULL, $2 WHERE NOT EXISTS (SELECT 1 FROM users)
ON CONFLICT (name) DO NOTHING
RETURNING name
"""

# A user as it shall be.
_CHANGE: Final = """
UPDATE users SET role = $2, teams = $3, disabled_at = $4, updated_at = clock_timestamp() WHERE name = $1
RETURNING name, role, teams, disabled_at, created_at, updated_at
"""

_RENEW: Final = """
UPDATE users SET password_hash = $2, updated_at = clock_timestamp() WHERE name = $1 RETURNING name
"""

_LISTED: Final = """
SELECT name, role, teams, disabled_at, created_at, updated_at FROM users WHERE name > $2 ORDER BY name LIMIT $1
"""

_NAMED: Final = "SELECT name, role, teams, disabled_at, created_at, updated_at FROM users WHERE name = $1"

# One user, kept from changing until the transaction ends.
_HELD: Final = """
SELECT name, role, teams, disabled_at, created_at, updated_at FROM users WHERE name = $1 FOR UPDATE
"""

# What a login is compared with.
_PASSWORD: Final = "SELECT password_hash FROM users WHERE name = $1 AND disabled_at IS NULL"  # noqa: S105 - a query

# Admins that can sign in, kept from changing until the transaction ends.
_ADMINS: Final = """
SELECT name FROM users WHERE role = 'admin' AND disabled_at IS NULL ORDER BY name FOR UPDATE
"""

_OPEN: Final = """
INSERT INTO sessions (hash, user_name, address, agent, expires_at) VALUES ($1, $2, $3, $4, $5)
"""

# Who has the session, if it goes on and its user may still sign in.
_HOLDER: Final = """
SELECT u.name, u.role, u.teams, s.expires_at
  FROM sessions s JOIN users u ON u.name = s.user_name
 WHERE s.hash = $1 AND s.expires_at > clock_timestamp() AND u.disabled_at IS NULL
"""

_CLOSE: Final = "DELETE FROM sessions WHERE hash = $1"

# Ends a user's sessions, all but one.
_CLOSE_ALL: Final = "DELETE FROM sessions WHERE user_name = $1 AND hash IS DISTINCT FROM $2"

_FORGET: Final = "DELETE FROM sessions WHERE expires_at < clock_timestamp()"


class User(msgspec.Struct, frozen=True, kw_only=True):
    """One user; `teams` None means all of them, `disabled_at` since when nobody can sign in so."""

    name: str
    role: str
    teams: list[str] | None
    disabled_at: datetime | None
    created_at: datetime
    updated_at: datetime


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """Who a session belongs to, and until when."""

    name: str
    role: str
    teams: list[str] | None
    expires_at: datetime


async def add(
    conn: "Conn", name: str, *, role: str, teams: Sequence[str] | None, password_hash: str
) -> User | None:  # fmt: skip
    """A new user; None where the name is taken."""
    row = await conn.fetchrow(_ADD, name, role, _listed(teams), password_hash)
    return User(**dict(row)) if row is not None else None


async def add_first(conn: "Conn", name: str, password_hash: str) -> bool:
    """An admin, where there is no user yet; whether that was so."""
    return await conn.fetchval(_ADD_FIRST, name, password_hash) is not None


async def held(conn: "Conn", name: str) -> User | None:
    """One user, who stays so until the transaction ends."""
    row = await conn.fetchrow(_HELD, name)
    return User(**dict(row)) if row is not None else None


async def named(conn: "Conn", name: str) -> User | None:
    """One user."""
    row = await conn.fetchrow(_NAMED, name)
    return User(**dict(row)) if row is not None else None


async def change(conn: "Conn", wanted: User) -> User:
    """Write role, teams and whether it is disabled; sessions of a user who is end."""
    row = await conn.fetchrow(_CHANGE, wanted.name, wanted.role, _listed(wanted.teams), wanted.disabled_at)
    if wanted.disabled_at is not None:
        await conn.execute(_CLOSE_ALL, wanted.name, None)
    return User(**dict(row)) if row is not None else wanted


async def set_password(conn: "Conn", name: str, password_hash: str, *, kept: bytes | None = None) -> bool:
    """Another password; sessions end, all but the one `kept`. False where there is no such user."""
    found = await conn.fetchval(_RENEW, name, password_hash) is not None
    await conn.execute(_CLOSE_ALL, name, kept)
    return found


async def listed(conn: "Conn", limit: int, after: str = "") -> list[User]:
    """Users by name, those after one."""
    return [User(**dict(row)) for row in await conn.fetch(_LISTED, limit, after)]


async def admins(conn: "Conn") -> list[str]:
    """Admins that can sign in, who stay so until the transaction ends."""
    return [row["name"] for row in await conn.fetch(_ADMINS)]


async def password_of(conn: "Conn", name: str) -> str | None:
    """What is kept of a user's password; None for one that does not exist or is disabled."""
    found: str | None = await conn.fetchval(_PASSWORD, name)
    return found


async def open_session(
    conn: "Conn", session: bytes, name: str, *, address: str, agent: str, expires_at: datetime
) -> None:  # fmt: skip
    """Keep a login."""
    await conn.execute(_OPEN, session, name, address, agent, expires_at)


async def holder_of(conn: "Conn", session: bytes) -> Holder | None:
    """Who a session belongs to; None for one that is over, or of a disabled user."""
    row = await conn.fetchrow(_HOLDER, session)
    return Holder(**dict(row)) if row is not None else None


async def close_session(conn: "Conn", session: bytes) -> None:
    """End a login."""
    await conn.execute(_CLOSE, session)


async def forget_sessions(conn: "Conn") -> None:
    """Drop those that are over."""
    await conn.execute(_FORGET)


def _listed(teams: Sequence[str] | None) -> list[str] | None:
    return list(teams) if teams is not None else None
