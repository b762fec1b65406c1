"""Rows of what came in: a step's rows are written together, and older ones never replace newer ones."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from sinks import alert_rows, postgres
from sinks.alert_rows import AlertRow, DeadRow, TouchRow, VerdictRow
from tests.sinks.outbox import MADE_AT

SECOND = timedelta(seconds=1)


def row(identity: str = "a", **changes: Any) -> AlertRow:
    made = AlertRow(
        identity=identity, occurrence=1, partition=0, team="default", fingerprint="f", source="s", status="firing",
        severity="error", kind="other", summary="it is down", description="", labels='{"alertname": "Down"}',
        annotations="{}", links="[]", starts_at=MADE_AT, ends_at=None, first_seen_at=MADE_AT, last_seen_at=MADE_AT,
        event_count=1, revision=10, groups="g1,g2", state=b"\x00state", pulse=b"\xffpulse",
    )  # fmt: skip
    return replace(made, **changes)


def touch(identity: str = "a", **changes: Any) -> TouchRow:
    made = TouchRow(identity, 1, 10, MADE_AT + SECOND, None, 5, b"touched")
    return replace(made, **changes)


def verdict(offset: int, identity: str | None = "a", **changes: Any) -> VerdictRow:
    made = VerdictRow(
        log_id="log", partition=0, offset=offset, verdict="new" if identity else "rejected", identity=identity,
        occurrence=1 if identity else None, events=2, event_ids=alert_rows.joined([f"e{offset}", "e\x1fx"]), reason="",
        via="http", accepted_at=MADE_AT, decided_at=MADE_AT,
    )  # fmt: skip
    return replace(made, **changes)


async def test_a_steps_rows_are_written_together(conn: asyncpg.Connection) -> None:
    await alert_rows.write(conn, [row("a"), row("b")], [], [verdict(0), verdict(1, None)])
    await alert_rows.write(conn, [row("c", groups="")], [touch("a"), touch("b", event_count=7)], [verdict(2, "c")])
    found = await conn.fetch("SELECT identity, event_count, groups, state, pulse FROM alerts ORDER BY identity")
    assert [tuple(one) for one in found] == [
        ("a", 5, ["g1", "g2"], b"\x00state", b"touched"),
        ("b", 7, ["g1", "g2"], b"\x00state", b"touched"),
        ("c", 1, [], b"\x00state", b"\xffpulse"),
    ]
    verdicts = await conn.fetch('SELECT "offset", identity, event_ids FROM verdicts ORDER BY "offset"')
    assert [tuple(one) for one in verdicts] == [
        (0, "a", ["e0", "e\ufffdx"]),
        (1, None, ["e1", "e\ufffdx"]),
        (2, "c", ["e2", "e\ufffdx"]),
    ]


async def test_a_step_without_rows_asks_nothing_of_postgres(conn: asyncpg.Connection) -> None:
    async with conn.transaction():
        await alert_rows.write(conn, [], [], [])
        await alert_rows.bury(conn, [])
    assert await conn.fetchval("SELECT count(*) FROM alerts") == 0


@pytest.mark.parametrize(("revision", "summary"), [(9, "it is down"), (10, "again"), (11, "again")])
async def test_an_older_revision_changes_nothing(conn: asyncpg.Connection, revision: int, summary: str) -> None:
    await alert_rows.write(conn, [row()], [], [])
    await alert_rows.write(conn, [row(revision=revision, summary="again")], [], [])
    assert await conn.fetchval("SELECT summary FROM alerts") == summary


@pytest.mark.parametrize(
    ("changes", "count"),
    [({}, 5), ({"event_count": 2}, 3), ({"revision": 9}, 3), ({"occurrence": 2}, 3), ({"revision": 11}, 3)],
    ids=["newer", "fewer events", "older revision", "another occurrence", "a revision without its row"],
)
async def test_a_count_only_grows_within_its_occurrence(
    conn: asyncpg.Connection, changes: dict[str, Any], count: int
) -> None:
    await alert_rows.write(conn, [row(event_count=3)], [], [])
    await alert_rows.write(conn, [], [touch(**changes)], [])
    expected = count if "revision" not in changes or changes["revision"] < 10 else 5
    assert await conn.fetchval("SELECT event_count FROM alerts") == expected


async def test_a_rebuild_gets_the_newest_occurrence_of_what_fires_or_was_seen_lately(conn: asyncpg.Connection) -> None:
    old = {"status": "resolved", "ends_at": MADE_AT, "last_seen_at": MADE_AT - SECOND}
    await alert_rows.write(
        conn,
        [
            row("firing", last_seen_at=MADE_AT - 99 * SECOND),
            row("twice", state=b"first", **{**old, "last_seen_at": MADE_AT + SECOND}),
            row("twice", occurrence=2, state=b"second"),
            row("gone", **old),
            row("ended", **{**old, "last_seen_at": MADE_AT + SECOND}),
            row("elsewhere", partition=1),
        ],
        [],
        [],
    )
    found = {one["identity"]: one["state"] async for rows in alert_rows.rebuild(conn, 0, MADE_AT) for one in rows}
    assert found == {"firing": b"\x00state", "twice": b"second", "ended": b"\x00state"}


async def test_a_rebuild_gets_what_the_last_step_wrote_though_it_is_not_held(
    conn: asyncpg.Connection,
) -> None:
    await postgres.register_log(conn, "log", forgets=False)
    await postgres.claim(conn, "log", "alerts", [0])
    old = {"status": "resolved", "ends_at": MADE_AT, "last_seen_at": MADE_AT - SECOND}
    await alert_rows.write(conn, [row("long ago", **old), row("just now", **old), row("firing")], [], [])
    await conn.execute("UPDATE alerts SET committed_at = now() - interval '1 hour' WHERE identity <> 'just now'")
    found = {one["identity"]: one["held"] async for rows in alert_rows.rebuild(conn, 0, MADE_AT) for one in rows}
    assert found == {"firing": True, "just now": False}


async def test_event_ids_are_remembered_from_verdicts_with_the_alert_they_were_about(conn: asyncpg.Connection) -> None:
    await alert_rows.write(
        conn,
        [],
        [],
        [
            verdict(0, decided_at=MADE_AT - SECOND),
            verdict(1, decided_at=MADE_AT + SECOND),
            verdict(2, None, decided_at=MADE_AT + SECOND),
            verdict(3, partition=1, decided_at=MADE_AT + SECOND),
        ],
    )
    found = [one async for rows in alert_rows.recent_events(conn, 0, MADE_AT) for one in rows]
    assert sorted((one["offset"], one["identity"]) for one in found) == [(1, "a"), (2, "")]


async def test_table_values_are_replaced_only_where_nobody_wrote_since(conn: asyncpg.Connection) -> None:
    await alert_rows.write(conn, [row("a", pulse=b"1"), row("b", pulse=b"2")], [], [])
    await alert_rows.rebase(conn, [("a", 1, b"1", b"new"), ("b", 1, b"other", b"new")])
    found = await conn.fetch("SELECT identity, pulse FROM alerts ORDER BY identity")
    assert [tuple(one) for one in found] == [("a", b"new"), ("b", b"2")]


async def test_the_same_dead_letter_is_kept_once(conn: asyncpg.Connection) -> None:
    letter = DeadRow("e", "default", "s", "labels", "is missing", b"{}", "application/json", "http", MADE_AT)
    await alert_rows.bury(conn, [letter])
    await alert_rows.bury(conn, [replace(letter, reason="again"), replace(letter, event_id="other")])
    found = await conn.fetch("SELECT event_id, reason, state FROM dead_letters ORDER BY event_id")
    assert [tuple(one) for one in found] == [("e", "is missing", "waiting"), ("other", "is missing", "waiting")]
