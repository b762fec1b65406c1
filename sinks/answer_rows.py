"""Rows of answers that are kept, so that a request that is repeated with its Idempotency-Key is done once."""

from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from asyncpg import Connection, Record
    from asyncpg.pool import PoolConnectionProxy

    Conn = Connection[Record] | PoolConnectionProxy[Record]

# Takes a key that nobody has; one that was given up by its gateway a minute ago counts as free.
_TAKE: Final = """
INSERT INTO kept_answers AS mine (actor, key, request) VALUES ($1, $2, $3)
ON CONFLICT (actor, key) DO UPDATE SET created_at = clock_timestamp(), request = excluded.request
    WHERE mine.status IS NULL AND mine.created_at < clock_timestamp() - interval '1 minute'
RETURNING key
"""

_KNOWN: Final = "SELECT request, status, content_type, body, etag FROM kept_answers WHERE actor = $1 AND key = $2"

_KEEP: Final = """
UPDATE kept_answers SET status = $3, content_type = $4, body = $5, etag = $6 WHERE actor = $1 AND key = $2
"""

_RELEASE: Final = "DELETE FROM kept_answers WHERE actor = $1 AND key = $2 AND status IS NULL"

_FORGET: Final = "DELETE FROM kept_answers WHERE created_at < clock_timestamp() - interval '24 hours'"


class KeptAnswer(msgspec.Struct, frozen=True):
    """What a key was used for; `status` None while the first request is under way."""

    request: bytes
    status: int | None
    content_type: str
    body: bytes
    etag: str = ""


async def take(conn: "Conn", actor: str, key: str, request: bytes) -> KeptAnswer | None:
    """Take a key for a request (its hash); None if it is the caller's now, else what it was used for."""
    if await conn.fetchval(_TAKE, actor, key, request) is not None:
        return None
    row = await conn.fetchrow(_KNOWN, actor, key)
    return KeptAnswer(**dict(row)) if row is not None else KeptAnswer(request, None, "", b"")


async def keep(conn: "Conn", actor: str, key: str, status: int, content_type: str, body: bytes, etag: str = "") -> None:
    """Keep the answer under a key that was taken."""
    await conn.execute(_KEEP, actor, key, status, content_type, body, etag)


async def release(conn: "Conn", actor: str, key: str) -> None:
    """Give a key back: the request came to nothing, and may be tried again."""
    await conn.execute(_RELEASE, actor, key)


async def forget(conn: "Conn") -> None:
    """Drop what is older than a day."""
    await conn.execute(_FORGET)
