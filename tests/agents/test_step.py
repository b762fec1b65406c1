"""The commit protocol on real Postgres and Redis: whatever dies in between, the end is the same to the unit."""

import asyncio
import itertools
import math
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import asyncpg
import pytest
from aiokafka.errors import KafkaConnectionError, KafkaTimeoutError
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisGone
from redis.exceptions import TimeoutError as RedisTimeout

from agents import step
from agents.poison import PoisonFinder
from agents.step import AbandonedError, GapError
from streams import codec
from streams.records import Alert, AlertBatch, Change, ConfigChanged, Rejected, Tick
from streams.redis_tables import FencedError
from streams.settings import Settings
from tests.agents.steps import POINTS, Owner, World, alert, at, run_through, settle

BOUNDS = (1, 3, 5, 6, 8, 9, 12)


def story(mark: str) -> list[bytes]:
    """One partition's log in which every verdict occurs, with ticks, garbage and another configuration."""

    def said(event_id: str, name: str, seconds: float, **changes: Any) -> Alert:
        return alert(event_id + mark, name + mark, seconds, **changes)

    records: list[Any] = [
        AlertBatch(accepted_at=at(0), items=(said("a1", "A", 0), said("b1", "B", 0), said("a2", "A", 0))),
        AlertBatch(accepted_at=at(0.2), items=(said("a3", "A", 0), said("c1", "C", 0.2))),
        AlertBatch(accepted_at=at(0.4), items=(said("a4", "A", 0), said("b1", "B", 0))),
        AlertBatch(
            accepted_at=at(3),
            items=(
                said("a5", "A", 3, summary="worse"),
                said("b2", "B", 3, firing=False, ends_at=at(3)),
                Rejected(event_id=f"bad{mark}", source="story", field="labels", reason="is missing", body=b"{}"),
            ),
        ),
        None,
        AlertBatch(accepted_at=at(3.3), items=(said("a6", "A", 3, summary="worse"), said("c2", "C", 0.2))),
        Tick(due_at=at(4.1)),
        AlertBatch(
            accepted_at=at(8), items=(said("b3", "B", 1), said("b4", "B", 8), said("c3", "C", 0.2), said("e1", "E", 8))
        ),
        ConfigChanged(version=2, announced_at=at(9)),
        AlertBatch(
            accepted_at=at(9.5), items=(said("c4", "C", 0.2), said("d1", "D", 9.5, timeout=True, ends_at=at(12)))
        ),
        Tick(due_at=at(13)),
        Tick(due_at=at(30)),
    ]
    return [b"\xc1garbage" if record is None else codec.encode(record) for record in records]


@pytest.fixture
async def world(settings: Settings, database_url: str, redis_url: str) -> AsyncIterator[World]:
    redis = Redis.from_url(redis_url)
    made = World(replace(settings, row_interval=1.0), database_url, redis, {0: story("x"), 1: story("y")})
    yield made
    await made.lose_redis()
    await redis.aclose()


async def outcome(world: World) -> tuple[Any, ...]:
    return await world.rows(), await world.stored(), world.told()


async def test_the_sums_of_a_run_without_a_fault_agree(world: World) -> None:
    await run_through(world, BOUNDS)
    rows = await world.rows()
    for progress in rows["progress"]:
        received, *verdicts = progress[4:]
        assert received == sum(verdicts) == 19
        assert verdicts == [6, 1, 1, 7, 1, 2, 1]
    assert sum(row["event_count"] for row in rows["alerts"]) == 2 * (6 + 1 + 1 + 7 + 1)


@pytest.mark.slow
@pytest.mark.parametrize(("bound", "how"), [(3, {}), (9, {"at_once": True})], ids=["same steps", "one step after"])
async def test_two_crashes_anywhere_change_nothing(world: World, bound: int, how: dict[str, Any]) -> None:
    await run_through(world, BOUNDS)
    expected = await outcome(world)
    for first, second in itertools.product(POINTS, POINTS):
        await world.wipe()
        await run_through(world, BOUNDS, [(bound, first), (bound, second)], **how)
        for part, wanted, got in zip(("rows", "tables", "told"), expected, await outcome(world), strict=True):
            assert got == wanted, (part, first, second)


def last_told(world: World) -> dict[tuple[str, str], tuple[Any, ...]]:
    """Where each group stands about each alert, once it has heard everything: the newest revision decides."""
    last: dict[tuple[str, str], tuple[Any, ...]] = {}
    for group, identity, occurrence, revision, change, starts_at, ends_at, *_ in world.told():
        said = (revision, occurrence, change in (Change.FIRED, Change.CHANGED), starts_at, ends_at)
        last[group, identity] = max(last.get((group, identity), said), said, key=lambda one: one[0])
    return last


@pytest.mark.parametrize("bound", BOUNDS)
async def test_what_was_committed_and_not_sent_on_is_told_although_redis_is_lost(world: World, bound: int) -> None:
    await run_through(world, BOUNDS)
    expected, rows = last_told(world), await world.rows()
    await world.wipe()
    await run_through(world, BOUNDS, [(bound, "after commit")], lost_redis=True)
    assert last_told(world) == expected
    assert await world.rows() == rows


def _firing_and_ending(name: str) -> list[bytes]:
    def said(number: int, *, firing: bool = True) -> Alert:
        times = {"ends_at": None if firing else at(number), "starts_at": at(number) if firing else None}
        return alert(f"{name}{number}", name, number, firing=firing, **times)

    together = AlertBatch(accepted_at=at(5), items=(said(2, firing=False), said(3), said(4, firing=False), said(5)))
    timed = alert(f"{name}8", name, 8, ends_at=at(9))
    records = [
        AlertBatch(accepted_at=at(1), items=(said(1),)), together, AlertBatch(accepted_at=at(7), items=(timed,)),
        Tick(due_at=at(10)), AlertBatch(accepted_at=at(11), items=(said(11),)),
    ]  # fmt: skip
    return [codec.encode(record) for record in records]


@pytest.mark.parametrize("bounds", [(1, 5), (1, 2, 5), (1, 2, 4, 5)])
@pytest.mark.parametrize("dies", [2, 4, 5])
async def test_every_occurrence_of_an_unsent_step_is_told_although_redis_is_lost(
    world: World, bounds: tuple[int, ...], dies: int
) -> None:
    world.log = {number: _firing_and_ending(f"F{number}") for number in (0, 1)}

    def changes() -> set[tuple[Any, ...]]:
        return {(group, *said[1:5]) for group, *said in ((one[0], *one) for one in world.told())}

    await run_through(world, bounds)
    expected = changes()
    assert len({(one[0], one[2]) for one in expected}) == 2 * 4
    await world.wipe()
    await run_through(world, bounds, [(dies, "after commit")], lost_redis=True)
    assert changes() == expected


@pytest.mark.parametrize("older", [False, True], ids=["emptied", "an old dump"])
async def test_a_redis_that_forgets_between_two_steps_is_written_again_by_its_owner(world: World, older: bool) -> None:
    await run_through(world, BOUNDS)
    expected = await outcome(world)
    await world.wipe()
    owner = await world.start()
    await owner.step(3)
    dump = {key: await world.redis.dump(key) for number in world.log for key in world.tables().keys_of(number)}
    await owner.step(5)
    await world.lose_redis()
    for key, value in dump.items() if older else ():
        if value is not None:
            await world.redis.restore(key, 0, value)
    for bound in (6, 8, 9, 12):
        await owner.step(bound)
    await owner.close()
    assert await outcome(world) == expected


async def test_a_redis_that_is_many_steps_behind_is_brought_up_by_replay(world: World) -> None:
    await run_through(world, BOUNDS)
    expected = await outcome(world)
    await world.wipe()
    log, world.log = world.log, {number: records[:2] for number, records in world.log.items()}
    await run_through(world, (1, 2))
    old = {key: await world.redis.dump(key) for number in log for key in world.tables().keys_of(number)}
    world.log = log
    await run_through(world, (5, 8, 9))
    for key, value in old.items():
        await world.redis.delete(key)
        if value is not None:
            await world.redis.restore(key, 0, value)
    await run_through(world, (12,))
    assert await outcome(world) == expected


async def test_a_former_owner_is_stopped_by_postgres_and_writes_nothing(world: World) -> None:
    old = await world.start()
    await old.step(2)
    new = await world.start()
    rows, stored, sent = await world.rows(), await world.stored(), len(world.sent)
    with pytest.raises(FencedError):
        await old.step(5)
    assert (await world.rows(), await world.stored(), len(world.sent)) == (rows, stored, sent)
    await new.step()
    await old.close()
    await new.close()


async def test_a_former_owner_that_slept_after_its_commit_is_stopped_by_redis(world: World) -> None:
    old = await world.start()
    flush = old.tables.flush
    new: list[Owner] = []

    async def overtaken(writes: Any) -> None:
        new.append(await world.start())
        await new[0].step(3)
        await flush(writes)

    old.tables.flush = overtaken  # type: ignore[method-assign]
    with pytest.raises(FencedError):
        await old.step(3)
    stored = await world.stored()
    assert [offset for offset, _ in stored.values()] == [2, 2]
    await new[0].step()
    await old.close()
    await new[0].close()
    got = await outcome(world)
    await world.wipe()
    await run_through(world, (3, 12))
    assert await outcome(world) == got


class Once:
    """Fails the first call, before or after the real one."""

    def __init__(self, real: Any, error: Exception, *, after: bool = False) -> None:
        self.real, self.error, self.after, self.calls = real, error, after, 0

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        if self.calls > 1:
            return await self.real(*args, **kwargs)
        if self.after:
            await self.real(*args, **kwargs)
        raise self.error


def _reset_before_commit(owner: Owner) -> None:
    owner.take_the_long_way()
    owner.logic.write = Once(owner.logic.write, OSError("reset"))  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("fail", "dependency"),
    [
        (_reset_before_commit, "postgres"),
        (lambda o: setattr(o.runner, "_write", Once(o.runner._write, TimeoutError(), after=True)), "postgres"),
        (lambda o: setattr(o.runner, "send", Once(o.send, KafkaTimeoutError())), "kafka"),
        (lambda o: setattr(o.runner, "send", Once(o.send, KafkaConnectionError(), after=True)), "kafka"),
        (lambda o: setattr(o.tables, "flush", Once(o.tables.flush, RedisGone("gone"))), "redis"),
        (lambda o: setattr(o.tables, "flush", Once(o.tables.flush, RedisTimeout("slow"), after=True)), "redis"),
    ],
    ids=["before commit", "answer of commit lost", "not sent", "confirmation lost", "no redis", "redis' answer lost"],
)
async def test_what_passes_by_is_waited_for_by_name(
    world: World, fail: Callable[[Owner], None], dependency: str
) -> None:
    await run_through(world, (5, 12))
    expected = await outcome(world)
    await world.wipe()
    owner = await world.start()
    owner.waits.clear()
    fail(owner)
    await owner.step(5)
    assert owner.waits == [(dependency, False), (dependency, True)]
    await owner.step()
    await owner.close()
    assert await outcome(world) == expected


async def test_connections_that_are_cut_in_a_transaction_are_made_again(world: World, conn: asyncpg.Connection) -> None:
    await run_through(world, (5, 12))
    expected = await outcome(world)
    await world.wipe()
    owner = await world.start()
    owner.take_the_long_way()
    write = owner.logic.write
    cut: list[bool] = []

    async def cut_off(connection: Any, works: Any) -> None:
        await write(connection, works)
        if not cut:
            cut.append(await conn.fetchval("SELECT pg_terminate_backend($1)", connection.get_server_pid()))

    owner.logic.write = cut_off  # type: ignore[assignment, method-assign]
    await owner.step(5)
    await world.redis.client_kill_filter(_type="normal", skipme=True)
    await owner.step()
    await owner.close()
    await world.redis.connection_pool.disconnect()  # the test reads without the patience that a worker has
    assert cut == [True]
    await world.redis.connection_pool.disconnect()  # those of the test's own that were cut and not used since
    assert await outcome(world) == expected


async def test_a_step_whose_partitions_go_away_while_it_waits_is_given_up(world: World) -> None:
    owner = await world.start()
    owner.abandoned = True
    owner.runner.send = Once(owner.send, KafkaTimeoutError())
    with pytest.raises(AbandonedError):
        await owner.step(3)
    # Postgres has the step and Redis has not: loading again must not trust what is in memory.
    owner.abandoned = False
    assert await owner.loader.load({0, 1}) == {0: 0, 1: 0}
    await owner.step()
    await owner.close()
    got = await outcome(world)
    await world.wipe()
    await run_through(world, (3, 12))
    assert await outcome(world) == got


async def test_whoever_waits_for_room_goes_on_when_a_step_is_given_up(world: World) -> None:
    async def away(_: Any) -> None:
        raise KafkaTimeoutError

    owner = await world.start()
    owner.runner.send = away
    owner.runner.limit = 1  # the buffer is full with less than the log has
    running = asyncio.create_task(owner.runner.run())
    await owner.runner.put(owner.events())  # type: ignore[arg-type]
    waiting = asyncio.create_task(owner.runner.put([]))
    assert not (await asyncio.wait({waiting}, timeout=0.05))[0]
    owner.abandoned = True
    await asyncio.wait_for(waiting, 20)
    assert not owner.runner.is_busy
    await settle(running)
    await owner.close()


async def test_events_are_acknowledged_once_their_step_is_done(world: World) -> None:
    owner = await world.start()
    events, first = owner.events(), owner.send
    sending = asyncio.Event()

    async def watched(records: Any) -> None:
        assert not any(event.acked for event in events)
        await first(records)
        sending.set()

    owner.runner.send = watched
    task = asyncio.create_task(owner.runner.run())
    for event in events:
        await owner.runner.put([event])  # type: ignore[list-item]
    await asyncio.wait_for(sending.wait(), 20)
    while not all(event.acked for event in events):
        await asyncio.sleep(0.01)
    await settle(task)
    await owner.close()


async def test_a_missing_offset_stops_the_process(world: World) -> None:
    owner = await world.start()
    await owner.step(2)
    with pytest.raises(GapError, match="expected offset 2, got 3"):
        await owner.runner._step(owner.events()[1:])  # type: ignore[arg-type]
    await owner.close()


async def test_what_was_applied_is_skipped(world: World) -> None:
    owner = await world.start()
    events = owner.events(5)
    await owner.step(5)
    before = await outcome(world)
    await owner.runner._step(events)  # type: ignore[arg-type]
    assert await outcome(world) == before
    await owner.close()


@pytest.mark.parametrize(
    "poison",
    [
        {"labels": {"bad": "nul \x00 byte"}},
        {"summary": "nul \x00 byte"},
        {"team": "\x00"},
        {"event_id": "id \x00 here"},
    ],
    ids=["jsonb", "text", "team", "event id"],
)
async def test_an_item_that_postgres_refuses_is_dead_lettered_alone(world: World, poison: dict[str, Any]) -> None:
    bad = alert(poison.pop("event_id", "p1"), "P", 1, **poison)
    batch = AlertBatch(accepted_at=at(1), items=(alert("g1", "G", 1), bad, alert("h1", "H", 1)))
    after = AlertBatch(accepted_at=at(2), items=(alert("g2", "G", 1),))
    world.log = {0: [codec.encode(batch), codec.encode(after), codec.encode(Tick(due_at=at(9)))]}
    owner = await world.start()
    await asyncio.wait_for(owner.step(), 30)
    await owner.close()
    rows = await world.rows()
    assert sorted(row["event_count"] for row in rows["alerts"]) == [1, 2]
    [dead] = rows["dead"]
    assert "refused by Postgres" in dead[1]
    assert rows["progress"][0][4:] == (4, 2, 0, 0, 1, 0, 1, 0)


@pytest.mark.parametrize("point", ["after commit", "after send"])
@pytest.mark.parametrize("lost_redis", [False, True])
async def test_a_replay_refuses_what_the_first_run_had_to(world: World, point: str, lost_redis: bool) -> None:
    bad = alert("p1", "P", 1, summary="nul \x00 byte")
    batch = AlertBatch(accepted_at=at(1), items=(alert("g1", "G", 1), bad))
    end = AlertBatch(accepted_at=at(2), items=(alert("p2", "P", 2, firing=False), alert("p1", "P", 1)))
    world.log = {0: [codec.encode(batch), codec.encode(end), codec.encode(Tick(due_at=at(9)))]}
    await run_through(world, (1, 2, 3))
    expected = (await world.rows(), await world.stored(), world.told())
    await world.wipe()
    await run_through(world, (1, 2, 3), [(1, point)], lost_redis=lost_redis)
    assert (await world.rows(), await world.stored(), world.told()) == expected


async def test_an_item_whose_handling_always_raises_is_dead_lettered_alone(world: World) -> None:
    bad = alert("p1", "P", 1, body=b"\xc1 no body")
    batch = AlertBatch(accepted_at=at(1), items=(alert("g1", "G", 1), bad, alert("h1", "H", 1)))
    world.log = {0: [codec.encode(batch)]}
    await run_through(world, (1,))
    rows = await world.rows()
    assert rows["progress"][0][4:] == (3, 2, 0, 0, 0, 0, 1, 0)
    assert [row[0] for row in rows["dead"]] == ["p1"]
    assert [record.topic.rpartition("-")[2] for record in world.sent].count("letters") == 1


async def test_a_writer_whose_clock_is_ahead_moves_a_partition_no_further_than_a_minute(world: World) -> None:
    world.log = {0: [codec.encode(AlertBatch(accepted_at=at(86_400), items=(alert("s1", "S", 86_400),)))]}
    world.written_at = at(5).timestamp()
    owner = await world.start()
    await owner.step()
    assert owner.partitions[0].watermark == at(65)
    [row] = (await world.rows())["alerts"]
    assert row["first_seen_at"] == at(65)
    await owner.close()


async def test_a_step_takes_no_more_bytes_than_one_statement_can_hold(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = await world.start()
    events = owner.events()
    size = len(events[0].message.value)
    monkeypatch.setattr(step, "STEP_BYTES", size + 1)
    await owner.runner.put(events)  # type: ignore[arg-type]
    taken = [len(owner.runner._taken(math.inf)) for _ in range(3)]
    assert taken[0] == 2
    assert all(taken)
    await owner.close()


async def test_one_refused_item_among_many_is_found_in_few_trials(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [alert(f"m{n}", f"M{n}", 1) for n in range(64)]
    items[41] = alert("m41", "M41", 1, summary="nul \x00 in it")
    world.log = {0: [codec.encode(AlertBatch(accepted_at=at(1), items=tuple(items)))]}
    owner = await world.start()
    trials = 0
    original = PoisonFinder._reason

    async def counted(finder: PoisonFinder, *args: Any) -> str:
        nonlocal trials
        trials += 1
        return await original(finder, *args)

    monkeypatch.setattr(PoisonFinder, "_reason", counted)
    await owner.step()
    rows = await world.rows()
    assert len(rows["alerts"]) == 63
    assert [dead[0] for dead in rows["dead"]] == ["m41"]
    assert trials <= 2 * 6 + 1
    await owner.close()
