"""Rows of `config_versions`: every rules file that was ever applied, with the files it names, under its number."""

from hashlib import sha256
from typing import Final

import msgspec
from asyncpg import Record

from sinks.postgres import Connection
from streams import codec
from streams.rules_files import Files

# Adds a version, unless the newest one has the same text and files.
STORE: Final = """
WITH newest AS (SELECT version, digest FROM config_versions ORDER BY version DESC LIMIT 1),
added AS (
    INSERT INTO config_versions (digest, body, applied_by, files)
    SELECT $1, $2, $3, $4::json WHERE NOT EXISTS (SELECT FROM newest WHERE digest = $1)
    RETURNING version
)
SELECT version FROM added UNION ALL SELECT version FROM newest WHERE digest = $1
"""

# One version's text.
BY_VERSION: Final = "SELECT version, body, files FROM config_versions WHERE version = $1"

# The version applied last.
NEWEST: Final = "SELECT version, body, files FROM config_versions ORDER BY version DESC LIMIT 1"

# Its number; 0 before the first.
NEWEST_VERSION: Final = "SELECT coalesce(max(version), 0) FROM config_versions"

# Partitions of the newest log that have not applied a version.
BEHIND: Final = """
SELECT topic, partition FROM stream_progress
WHERE config_version < $1 AND log_id = (SELECT log_id FROM log_lives ORDER BY accepted_at DESC LIMIT 1)
ORDER BY topic, partition
"""

_NONE: Final = Files()
_files = msgspec.json.Decoder(Files)


class StoredConfig(msgspec.Struct, frozen=True):
    """One version, to be read by `streams.rules_config.load`."""

    version: int
    text: str
    files: Files = Files()


async def store(conn: Connection, text: str, applied_by: str, files: Files = _NONE) -> int:
    """Keep a rules file that was checked; its version, the old one if the newest has the same text and files."""
    kept = codec.to_json(files)
    digest = sha256(f"{text}\x00{kept}".encode()).hexdigest()
    version: int = await conn.fetchval(STORE, digest, text, applied_by, kept)
    return version


async def by_version(conn: Connection, version: int) -> StoredConfig | None:
    """The rules file of one version, None if there is none."""
    row = await conn.fetchrow(BY_VERSION, version)
    return _stored(row)


async def newest(conn: Connection) -> StoredConfig | None:
    """The rules file applied last, None before the first."""
    row = await conn.fetchrow(NEWEST)
    return _stored(row)


async def newest_version(conn: Connection) -> int:
    """The number of the rules file applied last, 0 before the first."""
    version: int = await conn.fetchval(NEWEST_VERSION)
    return version


def _stored(row: Record | None) -> StoredConfig | None:
    return StoredConfig(row["version"], row["body"], _files.decode(row["files"])) if row else None


async def partitions_behind(conn: Connection, version: int) -> list[Record]:
    """(topic, partition) of every partition that a worker has taken and that has not applied `version`."""
    return list(await conn.fetch(BEHIND, version))
