"""Rows of `config_versions`: every rules file that was ever applied, whole, under its number."""

from hashlib import sha256
from typing import Final

import msgspec
from asyncpg import Record

from sinks.postgres import Connection

# Adds a version, unless the newest one has the same text.
STORE: Final = """
WITH newest AS (SELECT version, digest FROM config_versions ORDER BY version DESC LIMIT 1),
added AS (
    INSERT INTO config_versions (digest, body, applied_by)
    SELECT $1, $2, $3 WHERE NOT EXISTS (SELECT FROM newest WHERE digest = $1)
    RETURNING version
)
SELECT version FROM added UNION ALL SELECT version FROM newest WHERE digest = $1
"""

# One version's text.
BY_VERSION: Final = "SELECT version, body FROM config_versions WHERE version = $1"

# The version applied last.
NEWEST: Final = "SELECT version, body FROM config_versions ORDER BY version DESC LIMIT 1"

# Partitions of the newest log that have not applied a version.
BEHIND: Final = """
SELECT topic, partition FROM stream_progress
WHERE config_version < $1 AND log_id = (SELECT log_id FROM log_lives ORDER BY accepted_at DESC LIMIT 1)
ORDER BY topic, partition
"""


class StoredConfig(msgspec.Struct, frozen=True):
    """One version and its text, to be read by `streams.rules_config.load`."""

    version: int
    text: str


async def store(conn: Connection, text: str, applied_by: str) -> int:
    """Keep a rules file that was checked; its version, the old one if the newest has the same text."""
    version: int = await conn.fetchval(STORE, sha256(text.encode()).hexdigest(), text, applied_by)
    return version


async def by_version(conn: Connection, version: int) -> StoredConfig | None:
    """The rules file of one version, None if there is none."""
    row = await conn.fetchrow(BY_VERSION, version)
    return StoredConfig(row["version"], row["body"]) if row else None


async def newest(conn: Connection) -> StoredConfig | None:
    """The rules file applied last, None before the first."""
    row = await conn.fetchrow(NEWEST)
    return StoredConfig(row["version"], row["body"]) if row else None


async def partitions_behind(conn: Connection, version: int) -> list[Record]:
    """(topic, partition) of every partition that a worker has taken and that has not applied `version`."""
    return list(await conn.fetch(BEHIND, version))
