"""Rows of the audit: who did what to which object, from where, when, and how it ended. They are only added and read."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from asyncpg import Connection, Record
    from asyncpg.pool import PoolConnectionProxy

    Conn = Connection[Record] | PoolConnectionProxy[Record]

_ADD: Final = """
INSERT INTO audit_log (at, actor, actor_kind, address, action, object, outcome, detail)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text::jsonb)
"""

# The newest entries before a place, narrowed to an actor or an outcome.
_BEFORE: Final = """
SELECT seq, at, actor, actor_kind, address, action, object, outcome, detail FROM audit_log
 WHERE ($1::bigint IS NULL OR seq < $1) AND ($2::text IS NULL OR actor = $2) AND ($3::text IS NULL OR outcome = $3)
 ORDER BY seq DESC LIMIT $4
"""


class Deed(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that somebody did or tried; `outcome` is done, refused or failed."""

    at: datetime
    actor: str
    actor_kind: str
    address: str
    action: str
    object: str
    outcome: str
    detail: dict[str, Any] = {}


class AuditRow(Deed, frozen=True, kw_only=True):
    """One deed with its place."""

    seq: int


async def add(conn: "Conn", deeds: Sequence[Deed]) -> None:
    """Keep deeds."""
    for deed in deeds:
        *texts, detail = (getattr(deed, name) for name in Deed.__struct_fields__)
        await conn.execute(_ADD, *texts, msgspec.json.encode(detail).decode())


async def newest(
    conn: "Conn", *, before: int | None, actor: str | None, outcome: str | None, limit: int
) -> list[AuditRow]:  # fmt: skip
    """The latest first."""
    return [AuditRow(**dict(row)) for row in await conn.fetch(_BEFORE, before, actor, outcome, limit)]
