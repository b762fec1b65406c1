"""A rules file keeps its version, and applying it again makes it the newest again."""

import asyncpg

from sinks import config_rows
from sinks.config_rows import StoredConfig


async def test_a_version_is_newer_than_all_before_unless_the_newest_says_the_same(conn: asyncpg.Connection) -> None:
    assert await config_rows.newest(conn) is None
    first = await config_rows.store(conn, "one", "start")
    second = await config_rows.store(conn, "two", "start")
    assert second > first
    assert await config_rows.newest(conn) == StoredConfig(second, "two")
    assert await config_rows.store(conn, "two", "reload") == second
    third = await config_rows.store(conn, "one", "reload")
    assert third > second
    assert await config_rows.newest(conn) == StoredConfig(third, "one")
    assert await config_rows.by_version(conn, second) == StoredConfig(second, "two")
    assert await config_rows.by_version(conn, 99) is None
