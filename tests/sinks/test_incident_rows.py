"""Rows of what people work on: written whole, by revision, with at most one open incident a group."""

import uuid
from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from sinks import incident_rows
from sinks.incident_rows import DecisionRow, GroupRow, IncidentRow, LinkRow, TimelineRow
from tests.sinks.outbox import MADE_AT

ONE, TWO = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))
LATER = MADE_AT + timedelta(minutes=10)


def incident(name: str = ONE, **changes: Any) -> IncidentRow:
    made = IncidentRow(
        id=name, title="Down", description="", severity="error", status="open", created_at=MADE_AT, updated_at=MADE_AT,
        team="default", kind="other", predecessor_id="", group_key="g", group_labels="{}", route="{}", receiver="ops",
        partition=0, revision=1, reopened=0, acknowledged_at=None, resolved_at=None,
    )  # fmt: skip
    return replace(made, **changes)


def link(name: str = ONE, **changes: Any) -> LinkRow:
    made = LinkRow(name, "a", 1, "g", 0, firing=True, revision=1, joined_at=MADE_AT, ended_at=None, state=b"\x00m")
    return replace(made, **changes)


def group(key: str = "g", **changes: Any) -> GroupRow:
    return replace(GroupRow(key, 0, "default", "{}", "{}", 1, b"\x00g", MADE_AT), **changes)


async def test_a_steps_rows_are_written_together(conn: asyncpg.Connection) -> None:
    story = TimelineRow(ONE, 64, MADE_AT, "opened", "system", "{}")
    decision = DecisionRow("g", 1024, ONE, "a", "grouped", "route {}", "{}", MADE_AT)
    await incident_rows.write(conn, [incident()], [group()], [story], [decision], [link()])
    for table in ("incidents", "groups", "timeline", "decisions", "incident_alerts"):
        assert await conn.fetchval(f"SELECT count(*) FROM {table}") == 1, table
    assert await conn.fetchval("SELECT predecessor_id FROM incidents") is None
    await incident_rows.write(conn, [], [], [story], [], [])
    assert await conn.fetchval("SELECT count(*) FROM timeline") == 1


@pytest.mark.parametrize(("revision", "title"), [(4, "Down"), (5, "Down"), (6, "Worse")])
async def test_only_a_newer_revision_changes_an_incident_or_a_group(
    conn: asyncpg.Connection, revision: int, title: str
) -> None:
    await incident_rows.write(conn, [incident(revision=5)], [group(revision=5)], [], [], [])
    newer = incident(revision=revision, title="Worse"), group(revision=revision, state=b"new")
    await incident_rows.write(conn, [newer[0]], [newer[1]], [], [], [])
    assert await conn.fetchval("SELECT title FROM incidents") == title
    assert await conn.fetchval("SELECT state FROM groups") == (b"new" if title == "Worse" else b"\x00g")


async def test_one_incident_ends_and_its_successor_opens_in_one_step(conn: asyncpg.Connection) -> None:
    await incident_rows.upsert(conn, [incident()])
    successor = incident(TWO, predecessor_id=ONE, created_at=LATER, updated_at=LATER)
    resolved = incident(revision=2, status="resolved", resolved_at=LATER)
    async with conn.transaction():
        await incident_rows.upsert(conn, [successor, resolved])
    found = await conn.fetch("SELECT id, status, predecessor_id FROM incidents ORDER BY id")
    assert [tuple(map(str, one)) for one in found] == [(ONE, "resolved", "None"), (TWO, "open", ONE)]


async def test_a_second_open_incident_of_a_group_is_a_bug_that_postgres_stops(conn: asyncpg.Connection) -> None:
    await incident_rows.upsert(conn, [incident()])
    with pytest.raises(asyncpg.UniqueViolationError, match="one_open_per_group"):
        await incident_rows.upsert(conn, [incident(TWO)])


@pytest.mark.parametrize(("revision", "firing"), [(0, True), (1, False), (2, False)])
async def test_an_older_link_changes_nothing(conn: asyncpg.Connection, revision: int, firing: bool) -> None:
    await incident_rows.write(conn, [incident()], [], [], [], [link()])
    await incident_rows.write(conn, [], [], [], [], [link(revision=revision, firing=False, ended_at=LATER)])
    assert await conn.fetchval("SELECT firing FROM incident_alerts") is firing


async def test_a_rebuild_gets_the_groups_and_the_members_they_hold(conn: asyncpg.Connection) -> None:
    links = [link(), link(identity="b", state=None), link(identity="c", partition=1)]
    await incident_rows.write(conn, [incident()], [group(), group("h", partition=1), group("i")], [], [], links)
    await incident_rows.forget_groups(conn, ["i", "never there"])
    groups = [one async for rows in incident_rows.rebuild_groups(conn, 0) for one in rows]
    members = [one async for rows in incident_rows.rebuild_members(conn, 0) for one in rows]
    assert [tuple(one) for one in groups] == [("g", b"\x00g")]
    assert [tuple(one) for one in members] == [("g", "a", b"\x00m")]
