"""Progress rows: one owner at a time, offsets that only grow, sums that add up."""

import asyncio
from typing import Any

import asyncpg
import pytest

from sinks import postgres
from sinks.postgres import Advance, UnknownLogError
from tests.sinks.outbox import MADE_AT

TOPIC = "alerts"


def moved(epoch: int, applied: int, partition: int = 0, **changes: Any) -> Advance:
    made: dict[str, Any] = {"safe": applied, "config_version": 3, "watermark": MADE_AT, "counts": (1, 2, 3, 4, 5, 6, 7)}
    return Advance(partition=partition, epoch=epoch, applied=applied, **{**made, **changes})


@pytest.fixture
async def followed(conn: asyncpg.Connection) -> asyncpg.Connection:
    await postgres.register_log(conn, "log", forgets=False)
    return conn


async def test_the_first_claim_begins_before_the_first_offset(followed: asyncpg.Connection) -> None:
    claimed = await postgres.claim(followed, "log", TOPIC, [2, 0])
    assert {number: (row.epoch, row.applied, row.safe) for number, row in claimed.items()} == {
        0: (1, -1, -1),
        2: (1, -1, -1),
    }


async def test_claims_at_the_same_time_get_different_epochs(followed: asyncpg.Connection, database_url: str) -> None:
    owners = [await asyncpg.connect(database_url) for _ in range(6)]
    try:
        claims = await asyncio.gather(*(postgres.claim(owner, "log", TOPIC, [0, 1, 2]) for owner in owners))
    finally:
        await asyncio.gather(*(owner.close() for owner in owners))
    for number in range(3):
        assert sorted(claim[number].epoch for claim in claims) == [1, 2, 3, 4, 5, 6]


async def test_only_the_owner_moves_a_row_and_only_forward(followed: asyncpg.Connection) -> None:
    await postgres.claim(followed, "log", TOPIC, [0])
    assert await postgres.advance(followed, "log", TOPIC, [moved(1, 5)]) == {0}
    assert await postgres.advance(followed, "log", TOPIC, [moved(1, 5)]) == set()
    assert await postgres.advance(followed, "log", TOPIC, [moved(1, 4)]) == set()
    await postgres.claim(followed, "log", TOPIC, [0])
    assert await postgres.advance(followed, "log", TOPIC, [moved(1, 6)]) == set()
    assert await postgres.current_epochs(followed, "log", TOPIC, [0, 9]) == {0: (2, 5)}


async def test_the_rows_that_are_mine_move_beside_one_that_is_not(followed: asyncpg.Connection) -> None:
    await postgres.claim(followed, "log", TOPIC, [0, 1])
    await postgres.claim(followed, "log", TOPIC, [1])
    assert await postgres.advance(followed, "log", TOPIC, [moved(1, 5, 0), moved(1, 5, 1)]) == {0}


async def test_sums_add_up_over_steps(followed: asyncpg.Connection) -> None:
    await postgres.claim(followed, "log", TOPIC, [0])
    for offset in (5, 9):
        await postgres.advance(followed, "log", TOPIC, [moved(1, offset)])
    row = await followed.fetchrow(
        "SELECT received, new, changed, resolved, duplicate, late, rejected, redelivered FROM stream_progress"
    )
    assert tuple(row or ()) == (56, 2, 4, 6, 8, 10, 12, 14)


async def test_a_claim_says_how_far_the_former_owner_came(followed: asyncpg.Connection) -> None:
    await postgres.claim(followed, "log", TOPIC, [0])
    await postgres.advance(followed, "log", TOPIC, [moved(1, 5, safe=3)])
    claimed = (await postgres.claim(followed, "log", TOPIC, [0]))[0]
    assert claimed == postgres.Progress(partition=0, epoch=2, applied=5, safe=3, config_version=3, watermark=MADE_AT)


async def test_a_new_log_keeps_time_and_configuration_and_a_higher_epoch(followed: asyncpg.Connection) -> None:
    await postgres.claim(followed, "log", TOPIC, [0])
    await postgres.claim(followed, "log", TOPIC, [0])
    await postgres.advance(followed, "log", TOPIC, [moved(2, 5)])
    await postgres.register_log(followed, "next", forgets=True)
    claimed = (await postgres.claim(followed, "next", TOPIC, [0]))[0]
    assert claimed == postgres.Progress(partition=0, epoch=3, applied=-1, safe=-1, config_version=3, watermark=MADE_AT)


async def test_another_log_is_followed_only_when_it_may_be(followed: asyncpg.Connection) -> None:
    await postgres.register_log(followed, "log", forgets=False)
    with pytest.raises(UnknownLogError, match="accept-new-log"):
        await postgres.register_log(followed, "other", forgets=False)
    await postgres.register_log(followed, "other", forgets=True)
    await postgres.register_log(followed, "other", forgets=False)


async def test_a_query_of_any_size_outlasts_the_bound_on_a_steps_statements(database_url: str) -> None:
    pool = await postgres.open_pool(database_url, size=1, statement_timeout_ms=50, name="rebuild")
    try:
        async with pool.acquire() as conn:
            slow = "SELECT n, pg_sleep(n / 10.0) FROM generate_series(1, 3) AS n ORDER BY n DESC"
            assert [row["n"] async for rows in postgres.streamed(conn, slow) for row in rows] == [3, 2, 1]
            with pytest.raises(asyncpg.QueryCanceledError):
                await conn.fetch("SELECT pg_sleep(1)")
    finally:
        pool.terminate()
