"""Lines for incidents of the past find a place of their own in the timeline."""

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from sinks import action_rows
from sinks.incident_rows import TimelineRow
from tests.web.rows import add_entry, add_incident

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    Conn = Connection[Record]

pytestmark = pytest.mark.postgres
AT = datetime(2026, 1, 1, tzinfo=UTC)


def line(incident: uuid.UUID, seq: int) -> TimelineRow:
    return TimelineRow(incident_id=str(incident), seq=seq, at=AT, event="comment", actor="ada", detail="{}")


async def test_two_lines_of_one_moment_do_not_share_a_place(conn: "Conn") -> None:
    known, bare = await add_incident(conn, "Known"), await add_incident(conn, "Bare")
    await add_entry(conn, known, 640, "comment")
    lines = [line(known, 640), line(known, 640), line(bare, 640), line(known, 9000)]
    placed = await action_rows.at_the_end(conn, lines)
    assert [(one.incident_id, one.seq) for one in placed] == [
        (str(known), 641), (str(known), 642), (str(bare), 640), (str(known), 9000),
    ]  # fmt: skip
    assert await action_rows.at_the_end(conn, []) == []
