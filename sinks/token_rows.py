"""Rows of API tokens."""

import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

import asyncpg
import msgspec

if TYPE_CHECKING:
    from asyncpg import Connection, Record
    from asyncpg.pool import PoolConnectionProxy

    Conn = Connection[Record] | PoolConnectionProxy[Record]

MOST: Final = 10_000
"""Tokens that may be live at a time: every gateway knows all of them."""

_ADD: Final = """
INSERT INTO api_tokens (id, name, hash, scopes, teams, created_by, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7)
RETURNING id, name, scopes, teams, created_by, created_at, expires_at, revoked_at, last_used_at
"""

# Revokes a token by its id, or by the name of one that is live; one that is revoked stays as it is.
_REVOKE: Final = """
UPDATE api_tokens SET revoked_at = coalesce(revoked_at, clock_timestamp()), updated_at = clock_timestamp()
 WHERE id = $1 OR ($2::text IS NOT NULL AND name = $2 AND revoked_at IS NULL)
RETURNING id, name, scopes, teams, created_by, created_at, expires_at, revoked_at, last_used_at
"""

# Live ones first, then by name.
_LISTED: Final = """
SELECT id, name, scopes, teams, created_by, created_at, expires_at, revoked_at, last_used_at
  FROM api_tokens WHERE ($1 OR revoked_at IS NULL)
   AND ($3::bool IS NULL OR (revoked_at IS NOT NULL, name, id) > ($3, $4::text, $5::uuid))
 ORDER BY revoked_at IS NOT NULL, name, id LIMIT $2
"""

# Changes with every token that is made or revoked.
_VERSION: Final = "SELECT count(*), max(updated_at) FROM api_tokens"

_LIVE: Final = """
SELECT hash, name, scopes, teams, expires_at FROM api_tokens
 WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp()) LIMIT $1
"""

_COUNT: Final = """
SELECT count(*) FROM api_tokens WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())
"""

_USED: Final = """
UPDATE api_tokens AS mine SET last_used_at = used.at
FROM unnest($1::bytea[], $2::timestamptz[]) AS used(hash, at)
WHERE mine.hash = used.hash AND (mine.last_used_at IS NULL OR mine.last_used_at < used.at)
"""


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """One token, without its secret; `teams` None means all of them, `expires_at` None that it does not expire."""

    id: uuid.UUID
    name: str
    scopes: list[str]
    teams: list[str] | None
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class LiveToken(msgspec.Struct, frozen=True):
    """What a gateway keeps of a token that may be used."""

    hash: bytes
    name: str
    scopes: list[str]
    teams: list[str] | None
    expires_at: datetime | None


class TakenError(Exception):
    """Raised where a live token has the name already."""


class TooManyError(Exception):
    """Raised where no more tokens may be live."""


async def add(
    conn: "Conn",
    *,
    name: str,
    hashed: bytes,
    scopes: Sequence[str],
    teams: Sequence[str] | None,
    created_by: str,
    expires_at: datetime | None,
) -> Token:
    """Keep a new token.

    Raises:
        TakenError: the name is in use.
        TooManyError: revoke others first.
    """
    if await conn.fetchval(_COUNT) >= MOST:
        raise TooManyError(f"{MOST} tokens are live already")
    kept = list(teams) if teams is not None else None
    try:
        row = await conn.fetchrow(_ADD, uuid.uuid4(), name, hashed, list(scopes), kept, created_by, expires_at)
    except asyncpg.UniqueViolationError as error:
        raise TakenError(name) from error
    return Token(**dict(row or {}))


async def revoke(conn: "Conn", token_id: uuid.UUID | None, name: str | None = None) -> Token | None:
    """End a token, by id or by the name of a live one; None where there is none."""
    row = await conn.fetchrow(_REVOKE, token_id, name)
    return Token(**dict(row)) if row is not None else None


async def listed(
    conn: "Conn", limit: int, *, revoked: bool = False, after: tuple[bool, str, uuid.UUID] | None = None
) -> list[Token]:
    """Tokens by name; those that were revoked only where asked for, and last.

    `after` is a place in that order: whether it was revoked, its name, its id.
    """
    place = after or (None, None, None)
    return [Token(**dict(row)) for row in await conn.fetch(_LISTED, revoked, limit, *place)]


async def version(conn: "Conn") -> tuple[int, datetime | None]:
    """Something that differs once a token was made or revoked."""
    row = await conn.fetchrow(_VERSION)
    return (row[0], row[1]) if row is not None else (0, None)


async def live(conn: "Conn") -> list[LiveToken]:
    """Every token that may be used now."""
    return [LiveToken(**dict(row)) for row in await conn.fetch(_LIVE, MOST)]


async def used(conn: "Conn", when: Iterable[tuple[bytes, datetime]]) -> None:
    """Remember when tokens were used last, by their hashes."""
    hashes, moments = zip(*when, strict=True)
    await conn.execute(_USED, list(hashes), list(moments))
