"""Rows of `config_versions`: every rules file that was ever applied, whole, under its number."""

from hashlib import sha256
from typing import Any, Final

import msgspec
from asyncpg import Connection

# The same text is the same version; applying it again makes it the newest again.
STORE: Final = """
INSERT INTO config_versions (digest, body, applied_by) VALUES ($1, $2, $3)
ON CONFLICT (digest) DO UPDATE SET applied_at = clock_timestamp(), applied_by = EXCLUDED.applied_by
RETURNING version
"""

# One version's text.
BY_VERSION: Final = "SELECT version, body FROM config_versions WHERE version = $1"

# The version applied last.
NEWEST: Final = "SELECT version, body FROM config_versions ORDER BY applied_at DESC, version DESC LIMIT 1"


class StoredConfig(msgspec.Struct, frozen=True):
    """One version and its text, to be read by `streams.rules_config.load`."""

    version: int
    text: str


async def store(conn: "Connection[Any]", text: str, applied_by: str) -> int:
    """Keep a rules file that was checked; its version, the old one if the text is known."""
    version: int = await conn.fetchval(STORE, sha256(text.encode()).hexdigest(), text, applied_by)
    return version


async def by_version(conn: "Connection[Any]", version: int) -> StoredConfig | None:
    """The rules file of one version, None if there is none."""
    row = await conn.fetchrow(BY_VERSION, version)
    return StoredConfig(row["version"], row["body"]) if row else None


async def newest(conn: "Connection[Any]") -> StoredConfig | None:
    """The rules file applied last, None before the first."""
    row = await conn.fetchrow(NEWEST)
    return StoredConfig(row["version"], row["body"]) if row else None
