"""A canary's rows go when they have had their time and its group's owner holds it no more; all others stay."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from sinks import canary_rows
from streams.rules_canary import NAME
from tests.web.rows import add_alert, add_entry, add_incident, add_task

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    Conn = Connection[Record]

pytestmark = pytest.mark.postgres
OLD = datetime.now(UTC) - timedelta(hours=2)
ENDED: dict[str, Any] = {"status": "resolved", "resolved_at": OLD, "updated_at": OLD}
TABLES = ("timeline", "incident_alerts", "notification_tasks", "notices")


async def test_only_what_nobody_holds_goes_with_all_that_belongs_to_it(conn: "Conn") -> None:
    gone = await add_incident(conn, "Gone", route=NAME, group_key="gone", **ENDED)
    await add_alert(conn, gone, {"alertname": "A"})
    await add_entry(conn, gone, 1, "opened")
    await add_task(conn, gone, 1)
    await conn.execute("UPDATE notification_tasks SET state = 'sent', finished_at = now()")
    held = await add_incident(conn, "Held", route=NAME, group_key="held", **ENDED)
    await conn.execute("INSERT INTO groups VALUES ('held', 0, 'default', $1, '{}', 1, '', now())", NAME)
    young = await add_incident(
        conn, "Young", route=NAME, group_key="young", **{**ENDED, "updated_at": datetime.now(UTC)}
    )
    other = await add_incident(conn, "Other", group_key="other", **ENDED)
    assert await canary_rows.forget(conn, timedelta(hours=1), 100) == 1
    assert {row["id"] for row in await conn.fetch("SELECT id FROM incidents")} == {held, young, other}
    for table in TABLES:
        assert await conn.fetchval(f"SELECT count(*) FROM {table}") == 0
    await conn.execute("DELETE FROM groups")
    assert await canary_rows.forget(conn, timedelta(hours=1), 100) == 1
