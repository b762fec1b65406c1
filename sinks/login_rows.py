"""Rows of wrong passwords, counted for all gateways together."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from asyncpg import Connection, Record
    from asyncpg.pool import PoolConnectionProxy

    Conn = Connection[Record] | PoolConnectionProxy[Record]

# How often each key failed, and when last; what nobody tried for so long is forgotten.
_KNOWN: Final = "SELECT key, failures, last_at FROM login_failures WHERE key = ANY ($1) AND last_at > $2"

_COUNT: Final = """
INSERT INTO login_failures AS mine (key, failures, last_at)
SELECT key, 1, $2 FROM unnest($1::text[]) AS new(key) ORDER BY key
ON CONFLICT (key) DO UPDATE SET last_at = excluded.last_at,
    failures = CASE WHEN mine.last_at > $3 THEN mine.failures + 1 ELSE 1 END
"""

_CLEAR: Final = "DELETE FROM login_failures WHERE key = ANY ($1)"

# A try that was counted and did not fail.
_TAKE_BACK: Final = "UPDATE login_failures SET failures = failures - 1 WHERE key = ANY ($1) AND failures > 0"

_FORGET: Final = "DELETE FROM login_failures WHERE last_at < $1"

Failures = Mapping[str, tuple[int, datetime]]


async def known(conn: "Conn", keys: Sequence[str], since: datetime) -> Failures:
    """(failures, when last) of those keys that failed after `since`."""
    rows = await conn.fetch(_KNOWN, list(keys), since)
    return {row["key"]: (row["failures"], row["last_at"]) for row in rows}


async def count(conn: "Conn", keys: Sequence[str], at: datetime, since: datetime) -> None:
    """One more failure for each key; what happened before `since` no longer counts."""
    await conn.execute(_COUNT, list(keys), at, since)


async def clear(conn: "Conn", keys: Sequence[str]) -> None:
    """Forget failures of these keys."""
    await conn.execute(_CLEAR, list(keys))


async def take_back(conn: "Conn", keys: Sequence[str]) -> None:
    """One failure less for each key."""
    await conn.execute(_TAKE_BACK, list(keys))


async def forget(conn: "Conn", before: datetime) -> None:
    """Drop what nobody tried since."""
    await conn.execute(_FORGET, before)
