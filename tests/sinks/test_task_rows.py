"""The outbox: a task goes to one owner at a time, in order, until it has ended and its group knows."""

import asyncio
from datetime import timedelta

import asyncpg

from sinks import task_rows
from sinks.task_rows import Ending, Retry, Room
from tests.sinks.outbox import MADE_AT, incident, task

SECOND = timedelta(seconds=1)
LEASE = timedelta(seconds=10)
NOW = MADE_AT + SECOND


async def test_a_task_is_claimed_with_its_notice_and_only_once(conn: asyncpg.Connection) -> None:
    one = await task(conn, await incident(conn), config_version=3)
    [claimed] = await task_rows.claim(conn, "a", NOW, LEASE, 10)
    assert (claimed.id, claimed.attempt, claimed.age, claimed.config_version) == (one, 1, SECOND, 3)
    assert '"groupKey"' in claimed.body
    assert await task_rows.claim(conn, "b", NOW, LEASE, 10) == []


async def test_a_task_is_not_claimed_before_it_is_due(conn: asyncpg.Connection) -> None:
    await task(conn, await incident(conn))
    assert await task_rows.claim(conn, "a", MADE_AT - SECOND, LEASE, 10) == []


async def test_two_owners_at_once_never_claim_the_same_task(database_url: str, conn: asyncpg.Connection) -> None:
    made = {await task(conn, await incident(conn), target=f"http://127.0.0.1:9/{n % 30}") for n in range(120)}
    owners = [await asyncpg.connect(database_url) for _ in range(6)]
    try:
        taken: list[str] = []
        while batch := await asyncio.gather(
            *(task_rows.claim(owner, str(n), NOW, LEASE, 7) for n, owner in enumerate(owners))
        ):
            found = [str(claimed.id) for part in batch for claimed in part]
            taken += found
            if not found:
                break
    finally:
        await asyncio.gather(*(owner.close() for owner in owners))
    assert len(taken) == len(set(taken))
    assert set(taken) == {str(one) for one in made}


async def test_an_expired_lease_lets_another_owner_try_and_shuts_the_first_out(conn: asyncpg.Connection) -> None:
    one = await task(conn, await incident(conn))
    await task_rows.claim(conn, "a", NOW, LEASE, 10)
    assert await task_rows.claim(conn, "b", NOW + LEASE, LEASE, 10) == []
    [again] = await task_rows.claim(conn, "b", NOW + LEASE + SECOND, LEASE, 10)
    assert (again.id, again.attempt) == (one, 2)
    sent = Ending(id=one, attempt=1, state="sent", reason="accepted", detail="")
    assert await task_rows.finish(conn, "a", [sent]) == []
    await task_rows.retry_later(conn, "a", [Retry(id=one, attempt=1, reason="network", detail="", delay=SECOND)])
    assert await conn.fetchval("SELECT state FROM notification_tasks") == "sending"


async def test_one_incident_and_target_is_told_in_order(conn: asyncpg.Connection) -> None:
    told = await incident(conn)
    second = await task(conn, told, 2)
    elsewhere = await task(conn, told, 3, target="http://127.0.0.1:9/other")
    first = await task(conn, told, 1)
    claimed = await task_rows.claim(conn, "a", NOW, LEASE, 10)
    assert {one.id for one in claimed} == {first, elsewhere}
    await task_rows.retry_later(conn, "a", [Retry(id=first, attempt=1, reason="network", detail="", delay=LEASE)])
    assert await task_rows.claim(conn, "a", NOW, LEASE, 10, [second]) == []
    again = await conn.fetchval("SELECT due_at FROM notification_tasks WHERE id = $1", first)
    [retried] = await task_rows.claim(conn, "a", again, LEASE, 10, [first])
    ended = await task_rows.finish(
        conn, "a", [Ending(id=retried.id, attempt=2, state="failed", reason="auth", detail="x")]
    )
    assert [(one.id, one.state, one.reason, one.group_key) for one in ended] == [(first, "failed", "auth", told.hex)]
    [claimed_second] = await task_rows.claim(conn, "a", NOW, LEASE, 10)
    assert claimed_second.id == second


async def test_hinted_ids_skipped_targets_and_the_share_of_a_target_are_respected(conn: asyncpg.Connection) -> None:
    many = [await task(conn, await incident(conn), target="http://many") for _ in range(6)]
    lone = await task(conn, await incident(conn), target="http://lone")
    assert await task_rows.claim(conn, "a", NOW, LEASE, 10, [lone], targets=Room(closed=["http://lone"], usual=4)) == []
    [hinted] = await task_rows.claim(conn, "a", NOW, LEASE, 10, [many[5]])
    assert hinted.id == many[5]
    claimed = await task_rows.claim(conn, "a", NOW, LEASE, 10, targets=Room(usual=2))
    assert sorted(one.target for one in claimed) == ["http://lone", "http://many", "http://many"]


async def test_targets_of_one_host_share_its_places_and_leave_none_unused(conn: asyncpg.Connection) -> None:
    for n in range(12):
        await task(conn, await incident(conn), target=f"smtp://relay:25/{n // 4}", urgency=n // 4)
    lone = await task(conn, await incident(conn), target="http://lone/")
    targets = Room(usual=3)
    closed, some = Room(closed=["relay:25"], usual=4), Room(free={"relay:25": 5}, usual=4)
    [only] = await task_rows.claim(conn, "a", NOW, LEASE, 10, targets=targets, hosts=closed)
    assert only.id == lone
    claimed = await task_rows.claim(conn, "a", NOW, LEASE, 10, targets=targets, hosts=some)
    assert sorted(one.target for one in claimed) == ["smtp://relay:25/0"] * 3 + ["smtp://relay:25/1"] * 2


async def test_the_most_urgent_go_first(conn: asyncpg.Connection) -> None:
    for urgency in (4, 2, 0, 3):
        await task(conn, await incident(conn), urgency=urgency, made_at=MADE_AT - urgency * SECOND)
    claimed = await task_rows.claim(conn, "a", NOW, LEASE, 2)
    assert sorted(one.urgency for one in claimed) == [0, 2]


async def test_what_a_channel_remembers_comes_with_the_incident_s_next_task(conn: asyncpg.Connection) -> None:
    told, other = await incident(conn), await incident(conn)
    await task(conn, told)
    [first] = await task_rows.claim(conn, "a", NOW, LEASE, 10)
    assert first.memory is None
    await task_rows.remember(conn, [(first, {"ts": "1.2"})])
    await task_rows.remember(conn, [(first, {"ts": "1.3"})])
    await task_rows.release(conn, "a", [first])
    await task(conn, other)
    claimed = await task_rows.claim(conn, "a", NOW, LEASE, 10)
    assert {one.incident_id: one.memory for one in claimed} == {told: '{"ts": "1.3"}', other: None}


async def test_a_released_task_has_not_used_an_attempt(conn: asyncpg.Connection) -> None:
    await task(conn, await incident(conn))
    claimed = await task_rows.claim(conn, "a", NOW, LEASE, 10)
    await task_rows.release(conn, "a", claimed)
    [again] = await task_rows.claim(conn, "b", NOW, LEASE, 10)
    assert again.attempt == 1


async def test_an_ended_task_is_untold_until_its_group_marks_it(conn: asyncpg.Connection) -> None:
    one = await task(conn, await incident(conn))
    await task_rows.mark_told(conn, [one])
    await task_rows.claim(conn, "a", NOW, LEASE, 10)
    await task_rows.finish(conn, "a", [Ending(id=one, attempt=1, state="sent", reason="accepted", detail="")])
    assert await task_rows.untold(conn, None, LEASE, 10) == []
    [untold] = await task_rows.untold(conn, None, timedelta(0), 10)
    assert (untold.id, untold.state, untold.integration) == (one, "sent", 0)
    await task_rows.mark_told(conn, [one])
    assert await task_rows.untold(conn, None, timedelta(0), 10) == []


async def test_the_backlog_counts_what_is_due(conn: asyncpg.Connection) -> None:
    assert (await task_rows.backlog(conn)).due == 0
    await task(conn, await incident(conn))
    backlog = await task_rows.backlog(conn)
    assert backlog.due == 1
    assert backlog.oldest_seconds > 0
