"""Notices go out once, in order, each target for itself, and every end is committed."""

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from agents.admission import Admission
from agents.channels import Versions
from agents.dispatch import PLACES, Dispatcher, Send
from agents.targets import PER_HOST, PER_TARGET
from sinks import config_rows, digest_rows, target_rows
from sinks.message import read_notice
from sinks.outcome import Failed, Outcome, Reason, RetryLater, Sent
from sinks.postgres import open_pool
from sinks.task_rows import Claimed, Finished
from sinks.token_bucket import TokenBuckets
from streams.observe import Health
from tests.sinks.outbox import body, incident, task

Rows = list[asyncpg.Record]
Start = Callable[..., "contextlib.AbstractAsyncContextManager[Dispatcher]"]


class Buckets(TokenBuckets):
    """As many tokens as a test gives."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens

    async def take(self, receiver: str, *, capacity: int, per: timedelta, wanted: int) -> tuple[int, timedelta]:
        granted = min(wanted, self.tokens)
        self.tokens -= granted
        return granted, timedelta(milliseconds=100)


def admission(pool: asyncpg.Pool, owner: str, buckets: Buckets | None) -> Admission:
    return Admission(pool, owner, Versions(pool), buckets or Buckets(0), Health("delivery"))


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    pool = await open_pool(database_url, size=3, statement_timeout_ms=4000, name="test")
    yield pool
    await pool.close()


@pytest.fixture
def start(pool: asyncpg.Pool) -> Start:
    @contextlib.asynccontextmanager
    async def started(
        channel: Send, owner: str = "a", told: list[Finished] | None = None, buckets: Buckets | None = None
    ) -> AsyncIterator[Dispatcher]:
        def ended(finished: Sequence[Finished]) -> None:
            if told is not None:
                told.extend(finished)

        dispatcher = Dispatcher(
            pool,
            channel,
            admission(pool, owner, buckets),
            Health("delivery"),
            owner=owner,
            process=owner,
            max_age=timedelta(days=1),
            ended=ended,
        )
        jobs = [
            asyncio.create_task(dispatcher.claim_for_ever()),
            asyncio.create_task(dispatcher.commit_for_ever()),
            asyncio.create_task(dispatcher.keep_for_ever()),
        ]
        try:
            yield dispatcher
        finally:
            await dispatcher.drain(1)
            for job in jobs:
                job.cancel()
            for result in await asyncio.gather(*jobs, return_exceptions=True):
                assert result is None or isinstance(result, asyncio.CancelledError)

    return started


async def rows(conn: asyncpg.Connection) -> Rows:
    return list(await conn.fetch("SELECT * FROM notification_tasks ORDER BY incident_id, decision"))


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.02)


def now() -> datetime:
    return datetime.now(UTC)


def all_in(conn: asyncpg.Connection, state: str) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return all(row["state"] == state for row in await rows(conn))

    return check


async def test_what_is_due_is_sent_once_and_its_group_is_told(conn: asyncpg.Connection, start: Start) -> None:
    made = [await task(conn, await incident(conn), made_at=now()) for _ in range(20)]
    sent: list[uuid.UUID] = []
    told: list[Finished] = []

    async def channel(one: Claimed) -> Outcome:
        sent.append(one.id)
        return Sent("HTTP 200")

    async with start(channel, told=told):
        await until(all_in(conn, "sent"))
    assert sorted(sent) == sorted(made)
    assert sorted(one.id for one in told) == sorted(made)
    assert {row["last_detail"] for row in await rows(conn)} == {"HTTP 200"}


async def test_two_processes_send_each_notice_once(conn: asyncpg.Connection, start: Start) -> None:
    made = [await task(conn, await incident(conn), made_at=now(), target=f"http://h/{n % 7}") for n in range(60)]
    sent: list[uuid.UUID] = []

    async def channel(one: Claimed) -> Outcome:
        await asyncio.sleep(0.001)
        sent.append(one.id)
        return Sent()

    async with start(channel, "a"), start(channel, "b"):
        await until(all_in(conn, "sent"))
    assert sorted(sent) == sorted(made)


async def test_a_target_that_hangs_holds_only_its_own_places(conn: asyncpg.Connection, start: Start) -> None:
    for _ in range(20):
        await task(conn, await incident(conn), made_at=now(), target="http://hangs")
    well = [await task(conn, await incident(conn), made_at=now(), target="http://well") for _ in range(20)]
    sent: list[uuid.UUID] = []
    hanging = 0
    free = asyncio.Event()

    async def channel(one: Claimed) -> Outcome:
        nonlocal hanging
        if one.target == "http://hangs":
            hanging += 1
            await free.wait()
        sent.append(one.id)
        return Sent()

    async def well_sent() -> bool:
        return sorted(sent) == sorted(well)

    async with start(channel):
        await until(well_sent)
        assert hanging <= PER_TARGET
        free.set()
        await until(all_in(conn, "sent"))


async def test_a_host_that_hangs_holds_only_its_own_places_however_many_targets_it_has(
    conn: asyncpg.Connection, start: Start
) -> None:
    for n in range(PLACES + 20):
        await task(conn, await incident(conn), made_at=now() - timedelta(minutes=1), target=f"smtp://hangs:25/{n % 40}")
    well = await task(conn, await incident(conn), made_at=now(), target="http://well")
    sent: list[uuid.UUID] = []
    hanging = 0
    free = asyncio.Event()

    async def channel(one: Claimed) -> Outcome:
        nonlocal hanging
        if one.target != "http://well":
            hanging += 1
            await free.wait()
        sent.append(one.id)
        return Sent()

    async def well_sent() -> bool:
        return sent == [well]

    async with start(channel):
        await until(well_sent)
        assert hanging <= PER_HOST
        free.set()
        await until(all_in(conn, "sent"))


async def test_a_later_notice_waits_for_the_retry_of_an_earlier_one(conn: asyncpg.Connection, start: Start) -> None:
    told = await incident(conn)
    second = await task(conn, told, 2, made_at=now())
    first = await task(conn, told, 1, made_at=now())
    attempts: list[tuple[uuid.UUID, int]] = []

    async def channel(one: Claimed) -> Outcome:
        attempts.append((one.id, one.attempt))
        return RetryLater(Reason.SERVER_ERROR, "HTTP 503") if len(attempts) < 3 else Sent()

    async with start(channel):
        await until(all_in(conn, "sent"))
    assert attempts == [(first, 1), (first, 2), (first, 3), (second, 1)]


@pytest.mark.parametrize(
    ("age", "reason"),
    [
        (timedelta(days=2), Reason.EXPIRED),
        (timedelta(0), Reason.AUTH),
    ],
)
async def test_what_can_never_be_sent_fails_with_its_reason(
    conn: asyncpg.Connection, start: Start, age: timedelta, reason: Reason
) -> None:
    await task(conn, await incident(conn), made_at=now() - age)

    async def channel(_one: Claimed) -> Outcome:
        return Failed(Reason.AUTH, "HTTP 401: \x00\ud800")

    async with start(channel):
        await until(all_in(conn, "failed"))
    [row] = await rows(conn)
    assert row["last_reason"] == reason


async def test_a_channel_that_raises_is_tried_again_and_stops_nobody(conn: asyncpg.Connection, start: Start) -> None:
    bad = await task(conn, await incident(conn), made_at=now())
    await task(conn, await incident(conn), made_at=now())

    async def channel(one: Claimed) -> Outcome:
        if one.id == bad and one.attempt == 1:
            raise RuntimeError("a mistake of ours")
        return Sent()

    async with start(channel):
        await until(all_in(conn, "sent"))
    assert {row["attempts"] for row in await rows(conn) if row["id"] == bad} == {2}


async def test_stopping_finishes_what_is_under_way_and_gives_back_the_rest(
    conn: asyncpg.Connection, start: Start
) -> None:
    for _ in range(30):
        await task(conn, await incident(conn), made_at=now())
    sent = 0
    some = asyncio.Event()

    async def channel(_one: Claimed) -> Outcome:
        nonlocal sent
        some.set()
        await asyncio.sleep(0.05)
        sent += 1
        return Sent()

    async with start(channel) as dispatcher:
        await some.wait()
        await dispatcher.drain(2)
    states = [(row["state"], row["attempts"]) for row in await rows(conn)]
    assert states.count(("sent", 1)) == sent > 0
    assert states.count(("due", 0)) == 30 - sent


async def test_an_outcome_survives_that_postgres_goes_away_for_a_moment(
    conn: asyncpg.Connection, database_url: str, start: Start
) -> None:
    await task(conn, await incident(conn), made_at=now())
    sent = 0

    async def channel(_one: Claimed) -> Outcome:
        nonlocal sent
        sent += 1
        other = await asyncpg.connect(database_url)  # the test's own is asked meanwhile
        await other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> ALL($1::int[])",
            [other.get_server_pid(), conn.get_server_pid()],
        )
        await other.close()
        return Sent()

    async with start(channel):
        await until(all_in(conn, "sent"))
    assert sent == 1


async def test_what_is_held_is_not_sent_again_by_the_same_process_when_its_lease_could_not_be_kept(
    conn: asyncpg.Connection, database_url: str, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.dispatch.LEASE", timedelta(seconds=0.1))
    monkeypatch.setattr("agents.dispatch._KEEP", 3600.0)
    first = await task(conn, await incident(conn), made_at=now())
    sent: list[uuid.UUID] = []

    async def channel(one: Claimed) -> Outcome:
        sent.append(one.id)
        if one.id == first:  # until later ones have been claimed, its own lease long over
            for number in range(3):
                later = await task(other, await incident(other), made_at=now(), target=f"http://127.0.0.1:{number}/")
                async with asyncio.timeout(60):
                    while later not in sent:
                        await asyncio.sleep(0.1)
        return Sent()

    other = await asyncpg.connect(database_url)
    async with start(channel):
        await until(all_in(conn, "sent"), 60)
    await other.close()
    assert sent.count(first) == 1


async def test_what_cannot_be_watched_is_still_written_down(conn: asyncpg.Connection, start: Start) -> None:
    stored = json.dumps({**body(), "acceptedAt": "whenever"})
    await task(conn, await incident(conn), made_at=now(), stored=stored)
    async with start(sent_at_once):
        await until(all_in(conn, "sent"), 60)


async def sent_at_once(_one: Claimed) -> Outcome:
    return Sent()


async def test_of_two_targets_of_one_integration_the_later_notice_is_remembered(
    conn: asyncpg.Connection, start: Start
) -> None:
    """Rules that moved a target leave tasks for the old one."""
    incident_id = await incident(conn)
    for decision in (2, 1):
        await task(conn, incident_id, decision, made_at=now(), target=f"http://127.0.0.1:9/{decision}")
    both = asyncio.Barrier(2)

    async def channel(one: Claimed) -> Outcome:
        await both.wait()
        return Sent(memory={"ts": str(one.decision)})

    async with start(channel):
        await until(all_in(conn, "sent"), 60)
    assert await conn.fetchval("SELECT memory ->> 'ts' FROM channel_memory WHERE incident_id = $1", incident_id) == "2"


@pytest.mark.parametrize("older_than", [None, timedelta(minutes=10)])
async def test_no_digest_tells_the_end_before_what_must_be_told_by_itself(
    conn: asyncpg.Connection, older_than: timedelta | None
) -> None:
    old, known = now() - timedelta(minutes=30), {}
    for name, urgency in (("alone", 0), ("free", 2), ("other", 2), ("told", 2)):
        known[name] = await incident(conn)
        await task(conn, known[name], 1, made_at=old, urgency=urgency)
        await task(conn, known[name], 2, made_at=old, urgency=2)
    await conn.execute(
        "UPDATE notification_tasks SET last_reason = 'digest_failed' WHERE incident_id = $1 AND decision = 1",
        known["alone"],
    )
    await conn.execute(
        "UPDATE notification_tasks SET state = 'folded', digest_id = id WHERE incident_id = $1 AND decision = 1",
        known["told"],
    )
    like = Claimed(
        id=uuid.uuid4(), incident_id=None, group_key="", decision=0, config_version=0, receiver="ops", integration=0,
        channel="webhook", target="http://127.0.0.1:9/hook", urgency=0, reason="", attempt=1, last_reason="",
        created_at=old, age=timedelta(0), body="",
    )  # fmt: skip
    made = await digest_rows.fold(conn, like, older_than=older_than)
    folded = await conn.fetch("SELECT incident_id, decision FROM notification_tasks WHERE digest_id = $1", made)
    assert sorted(map(tuple, folded)) == sorted((known[name], n) for name in ("free", "other") for n in (1, 2))


async def test_hints_are_sent_without_waiting_for_the_sweep(conn: asyncpg.Connection, start: Start) -> None:
    sent = asyncio.Event()

    async def channel(_one: Claimed) -> Outcome:
        sent.set()
        return Sent()

    async with start(channel) as dispatcher:
        await asyncio.sleep(0)
        made = await task(conn, await incident(conn), made_at=now())
        dispatcher.hint([made, uuid.uuid4()])
        async with asyncio.timeout(5):
            await sent.wait()
        await until(all_in(conn, "sent"))


LIMITED = """
route: {receiver: ops}
receivers: [{name: ops, webhook_configs: [{url: "http://127.0.0.1:9/hook"}]}]
incidents:
  receivers: {ops: {rate_limit: {notices: 30, per: 1m}}}
  people: {ada: {webhook_configs: [{url: "http://127.0.0.1:9/hook"}], rate_limit: {notices: 30, per: 1m}}}
"""


@pytest.mark.parametrize("receiver", ["ops", "@ada"])
async def test_what_is_over_the_limit_is_told_by_one_digest_that_names_it(
    conn: asyncpg.Connection, start: Start, receiver: str
) -> None:
    version = await config_rows.store(conn, LIMITED, "test")
    made = [
        await task(conn, await incident(conn), made_at=now(), config_version=version, urgency=n % 5, receiver=receiver)
        for n in range(12)
    ]
    sent: list[Claimed] = []
    told: list[Finished] = []
    buckets = Buckets(3)

    async def channel(one: Claimed) -> Outcome:
        sent.append(one)
        return Sent(memory={"ts": "1"})  # as a bot does; of a digest nothing is kept

    async def spent() -> bool:
        found = await rows(conn)
        return [row["last_reason"] for row in found].count("over_limit") == 9 and len(sent) == 3

    async def ended() -> bool:
        return all(row["finished_at"] for row in await rows(conn))

    async with start(channel, told=told, buckets=buckets):
        await until(spent)
        assert sorted(one.urgency for one in sent) == [0, 0, 0]
        buckets.tokens = 1
        await pause_is_over(conn)
        await until(ended)
    found = {row["id"]: row for row in await rows(conn)}
    [digest] = [row for row in found.values() if row["incident_id"] is None]
    folded = [row for row in found.values() if row["state"] == "digested"]
    assert len(folded) == 9
    assert {row["digest_id"] for row in folded} == {digest["id"]}
    assert [one.id for one in sent[3:]] == [digest["id"]]
    said = read_notice(sent[3].body, send_resolved=True)
    assert said.digest is not None
    assert (said.digest.notices, said.digest.count, said.incident.title) == (
        9,
        1,
        "9 notices about 1 incidents, 1 critical",
    )
    assert sorted(one.id for one in told) == sorted(made)
    assert {one.state for one in told} == {"sent", "digested"}


async def test_members_of_a_digest_that_fails_are_told_each_by_itself(conn: asyncpg.Connection, start: Start) -> None:
    version = await config_rows.store(conn, LIMITED, "test")
    made = [await task(conn, await incident(conn), made_at=now(), config_version=version) for _ in range(4)]
    sent: list[uuid.UUID] = []
    buckets = Buckets(0)

    async def channel(one: Claimed) -> Outcome:
        if one.incident_id is None:
            buckets.tokens = 10
            return Failed(Reason.BAD_NOTICE, "no address")
        sent.append(one.id)
        return Sent()

    async def done() -> bool:
        return sorted(sent) == sorted(made)

    async with start(channel, buckets=buckets):
        await asyncio.sleep(0)
        await until(held_back(conn, 4))
        buckets.tokens = 1
        await pause_is_over(conn)
        await until(done)


async def pause_is_over(conn: asyncpg.Connection) -> None:
    await conn.execute("UPDATE notification_tasks SET due_at = clock_timestamp() WHERE last_reason = 'over_limit'")


def held_back(conn: asyncpg.Connection, count: int) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return [row["last_reason"] for row in await rows(conn)].count("over_limit") == count

    return check


async def test_when_a_target_is_back_what_grew_old_is_told_in_one_and_what_is_critical_by_itself(
    conn: asyncpg.Connection, start: Start
) -> None:
    old = now() - timedelta(minutes=30)
    for n in range(60):
        await task(conn, await incident(conn), made_at=old, urgency=0 if n < 3 else 2)
    fresh = await task(conn, await incident(conn), made_at=now(), urgency=2)
    sent: list[Claimed] = []

    async def channel(one: Claimed) -> Outcome:
        sent.append(one)
        return Sent()

    async def ended() -> bool:
        return all(row["finished_at"] for row in await rows(conn))

    async with start(channel):
        await until(ended)
    states = [row["state"] for row in await rows(conn)]
    assert states.count("digested") >= 30
    assert [one.urgency for one in sent].count(0) == 3 + len([one for one in sent if one.incident_id is None])
    assert fresh in {one.id for one in sent}
    assert states.count("digested") + len(sent) - 1 == 61


async def test_a_long_send_keeps_its_lease_and_others_do_not_repeat_it(
    conn: asyncpg.Connection, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.dispatch.LEASE", timedelta(seconds=0.6))
    monkeypatch.setattr("agents.dispatch._KEEP", 0.1)
    await task(conn, await incident(conn), made_at=now())
    sent = 0

    async def channel(_one: Claimed) -> Outcome:
        nonlocal sent
        sent += 1
        await asyncio.sleep(2)
        return Sent()

    async with start(channel, "a"), start(channel, "b"):
        await until(all_in(conn, "sent"))
    assert sent == 1


async def test_how_a_target_answers_can_be_read(conn: asyncpg.Connection, start: Start) -> None:
    for _ in range(8):
        await task(conn, await incident(conn), made_at=now(), target="http://sick/a")
    await task(conn, await incident(conn), made_at=now(), target="http://well/a")

    async def channel(one: Claimed) -> Outcome:
        return RetryLater(Reason.SERVER_ERROR, "HTTP 503") if one.target == "http://sick/a" else Sent()

    async def paused() -> bool:
        seen = await target_rows.seen(conn)
        return "http://sick/a" in seen and seen["http://sick/a"].paused_until is not None

    async with start(channel):
        await until(paused)
    seen = await target_rows.seen(conn)
    assert seen["http://sick/a"].failures >= 5
    assert seen["http://sick/a"].last_reason == "server_error"
    assert seen["http://well/a"].failures == 0
    assert seen["http://well/a"].last_sent_at is not None
    assert (await target_rows.waiting(conn))["ops", 0].tasks == 8
