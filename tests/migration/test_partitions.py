"""Daily partitions: made ahead by anyone at any time, and dropped when they are old."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest

from sinks.migrate import drop_partitions, ensure_partitions, partition_name

if TYPE_CHECKING:
    Conn = asyncpg.Connection[asyncpg.Record]

DAY = date(2031, 5, 17)
DECISION = """
INSERT INTO decisions (group_key, seq, decision, reason, detail, decided_at) VALUES ('g', $1, 'grouped', '', '{}', $2)
"""
WHERE = "SELECT tableoid::regclass::text FROM decisions WHERE seq = $1"


def at(day: date, hour: int = 12) -> datetime:
    return datetime(day.year, day.month, day.day, hour, tzinfo=UTC)


def test_a_partition_is_named_after_its_day() -> None:
    assert partition_name("verdicts", date(2026, 1, 1)) == "verdicts_20260101"


async def test_each_row_falls_into_the_partition_of_its_utc_day(conn: "Conn") -> None:
    names = await ensure_partitions(conn, DAY, days_ahead=1)
    assert names == ["verdicts_20310517", "verdicts_20310518", "decisions_20310517", "decisions_20310518"]
    await conn.execute("SET TIME ZONE 'Asia/Tokyo'")
    for seq, moment in enumerate([at(DAY, 0), at(DAY, 23), at(DAY + timedelta(days=1), 0)]):
        await conn.execute(DECISION, seq, moment)
    assert [await conn.fetchval(WHERE, seq) for seq in range(3)] == [names[2], names[2], names[3]]


async def test_a_second_call_makes_nothing(conn: "Conn") -> None:
    assert await ensure_partitions(conn, DAY)
    assert await ensure_partitions(conn, DAY) == []


async def test_rows_that_came_before_their_partition_move_into_it(conn: "Conn") -> None:
    await conn.execute(DECISION, 1, at(DAY))
    assert await conn.fetchval(WHERE, 1) == "decisions_other"
    await ensure_partitions(conn, DAY, days_ahead=0)
    assert await conn.fetchval(WHERE, 1) == "decisions_20310517"
    assert await conn.fetchval("SELECT count(*) FROM decisions") == 1


async def test_many_at_once_make_each_partition_once(database_url: str) -> None:
    connections = [await asyncpg.connect(database_url) for _ in range(6)]
    try:
        made = await asyncio.gather(*(ensure_partitions(one, DAY) for one in connections))
    finally:
        for one in connections:
            await one.close()
    assert sorted(map(len, made)) == [0, 0, 0, 0, 0, 8]


async def test_an_open_writing_transaction_does_not_hold_a_new_partition_up(conn: "Conn", database_url: str) -> None:
    await ensure_partitions(conn, DAY, days_ahead=0)
    writer = await asyncpg.connect(database_url)
    try:
        async with writer.transaction():
            await writer.execute(DECISION, 1, at(DAY))
            async with asyncio.timeout(4):
                await ensure_partitions(conn, DAY, days_ahead=1)
    finally:
        await writer.close()


@pytest.mark.parametrize(("keep", "left"), [(0, 1), (1, 2), (2, 3), (9, 3)])
async def test_partitions_older_than_the_retention_are_dropped(conn: "Conn", keep: int, left: int) -> None:
    first = DAY - timedelta(days=2)
    await ensure_partitions(conn, first, days_ahead=2)
    for seq in range(3):
        await conn.execute(DECISION, seq, at(first + timedelta(days=seq)))
    dropped = await drop_partitions(conn, DAY, keep_days=keep)
    assert await conn.fetchval("SELECT count(*) FROM decisions") == left
    # The partitions of the days of the migration itself are older still.
    assert {
        f"{table}_{first + timedelta(days=n):%Y%m%d}" for table in ("verdicts", "decisions") for n in range(3 - left)
    } <= set(dropped)


async def test_old_rows_outside_any_daily_partition_go_too(conn: "Conn") -> None:
    await conn.execute(DECISION, 1, at(date(2020, 1, 1)))
    await drop_partitions(conn, DAY, keep_days=7)
    assert await conn.fetchval("SELECT count(*) FROM decisions_other") == 0
