"""A rules file keeps its version, and applying it again makes it the newest again."""

import asyncpg

from sinks import config_rows
from sinks.config_rows import StoredConfig


async def test_the_same_text_is_the_same_version(conn: asyncpg.Connection) -> None:
    assert await config_rows.newest(conn) is None
    first = await config_rows.store(conn, "one", "start")
    second = await config_rows.store(conn, "two", "start")
    assert first != second
    assert await config_rows.newest(conn) == StoredConfig(second, "two")
    assert await config_rows.store(conn, "one", "reload") == first
    assert await config_rows.newest(conn) == StoredConfig(first, "one")
    assert await config_rows.by_version(conn, second) == StoredConfig(second, "two")
    assert await config_rows.by_version(conn, 99) is None
