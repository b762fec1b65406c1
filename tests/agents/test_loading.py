"""An assignment finds the tables where they are, or makes them again from Postgres and the log."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from agents.alert_partition import AlertsPartition
from agents.loading import LogLostError, _remembered
from sinks import postgres
from streams import codec
from streams.records import AlertBatch, Change, InputBatch, Tick
from streams.redis_tables import FencedError
from streams.settings import Settings
from streams.topics import INPUTS
from tests.agents.stage import Dedup, batch
from tests.agents.stage import alert as ours
from tests.agents.steps import World, alert, at, run_through


def duplicates(first: int, count: int) -> list[bytes]:
    """Records of one duplicate each, 10 ms apart: all but the first stay behind their row."""
    return [
        codec.encode(AlertBatch(accepted_at=at(n / 100), items=(alert(f"d{n}", "A", 0),)))
        for n in range(first, first + count)
    ]


def story() -> list[bytes]:
    both = (alert("a", "A", 0), alert("b", "B", 0), alert("c", "C", 0))
    ended = alert("b2", "B", 0.5, firing=False, ends_at=at(0.5))
    return [
        codec.encode(AlertBatch(accepted_at=at(0), items=both)),
        *duplicates(1, 5),
        codec.encode(AlertBatch(accepted_at=at(0.5), items=(ended, alert("c2", "C", 0.5, summary="worse")))),
        *duplicates(51, 5),
        codec.encode(Tick(due_at=at(9))),
    ]


@pytest.fixture
async def world(settings: Settings, database_url: str, redis_url: str) -> AsyncIterator[World]:
    redis = Redis.from_url(redis_url)
    made = World(settings, database_url, redis, {0: story()})
    yield made
    await made.lose_redis()
    await redis.aclose()


async def applied(world: World, *bounds: int) -> None:
    """What a process did before it went away."""
    await run_through(world, bounds)


async def ended(world: World) -> tuple[Any, ...]:
    """The end of the story, from here on."""
    await run_through(world, (len(world.log[0]),))
    return await world.rows(), await world.stored()


async def without_a_fault(world: World) -> tuple[Any, ...]:
    await applied(world, 4, 12)
    expected = await ended(world)
    await world.wipe()
    return expected


async def test_tables_that_are_current_are_taken_as_they_are(world: World) -> None:
    await applied(world, 4, 9)
    before = await world.stored(exact=True)
    owner = await world.start()
    assert await owner.loader.load({0}) == {0: 9}
    assert {0: (8, owner.tables.views[0].tables)} == before
    await owner.close()


async def test_a_partition_that_stays_is_not_read_again(world: World) -> None:
    owner = await world.start()
    await owner.step(4)
    epoch = owner.tables.views[0].epoch
    assert await owner.loader.load({0}) == {0: 4}
    assert owner.tables.views[0].epoch == epoch
    assert await owner.loader.load(set()) == {}
    assert (owner.partitions, owner.tables.views) == ({}, {})
    assert await owner.loader.load({0}) == {0: 4}
    assert owner.tables.views[0].epoch > epoch
    await owner.close()


@pytest.mark.parametrize("upto", [1, 4, 6, 7, 9, 12])
async def test_a_lost_redis_is_made_again_from_rows_and_the_log_after_them(world: World, upto: int) -> None:
    expected = await without_a_fault(world)
    await applied(world, *range(1, upto + 1, 2), upto)
    known = await world.stored()
    await world.lose_redis()
    owner = await world.start()
    assert owner.partitions[0].view.offset <= upto - 1 == owner.partitions[0].pg_applied
    await owner.step(upto)
    await owner.close()
    assert await world.stored() == known
    assert await ended(world) == expected


@pytest.mark.parametrize(("cap", "kept"), [(5, [0, 1, 2]), (4, [1, 2]), (3, [1, 2]), (2, [2]), (1, [])])
def test_a_rebuild_remembers_no_more_events_than_the_partition_would(cap: int, kept: list[int]) -> None:
    seen = {(at(2), 7): [4, 5], (at(0), 5): [1, 2], (at(1), 6): [3]}
    oldest_first = sorted(seen)
    assert _remembered(seen, cap) == {oldest_first[n]: seen[oldest_first[n]] for n in kept}


async def test_counts_that_no_row_has_come_from_the_log(world: World) -> None:
    await applied(world, 1, 6)
    await world.lose_redis()
    owner = await world.start()
    assert owner.partitions[0].next_offset == 1
    assert owner.partitions[0].pg_applied == 5
    await owner.close()


async def test_a_redis_ahead_of_a_restored_postgres_is_not_believed(world: World) -> None:
    expected = await without_a_fault(world)
    await applied(world, 4, 9)
    ahead = {key: await world.redis.dump(key) for key in world.tables().keys_of(0)}
    await world.wipe()
    await applied(world, 4)
    for key, value in ahead.items():
        await world.redis.restore(key, 0, value or b"", replace=True)
    owner = await world.start()
    assert owner.partitions[0].view.offset <= 3
    await owner.close()
    assert await ended(world) == expected


async def test_a_redis_with_later_epochs_than_a_restored_postgres_keeps_nobody_out(world: World) -> None:
    expected = await without_a_fault(world)
    await applied(world, 4)
    await world.redis.hset(world.tables().keys_of(0)[0], "epoch", "1000")
    owner = await world.start()
    assert owner.tables.views[0].epoch == 1001
    await owner.step(9)
    await owner.close()
    assert await ended(world) == expected


async def test_whoever_claimed_after_this_one_still_fences_it(world: World) -> None:
    await applied(world, 4)
    late = await world.start()
    owner = await world.start()
    [progress] = (await late.loader._claim([0])).values()
    assert await owner.loader._claim([0])
    await world.redis.hset(world.tables().keys_of(0)[0], "epoch", "1000")
    with pytest.raises(FencedError):
        await late.loader._owned(progress)
    await late.close()
    await owner.close()


async def test_a_value_of_a_later_version_is_refused_by_its_name(world: World) -> None:
    await applied(world, 4)
    _, _, pulses, _ = world.tables().keys_of(0)
    keys: list[Any] = await world.redis.hkeys(pulses)
    key = bytes(keys[0])
    await world.redis.hset(pulses, key, codec.encode([2, "of tomorrow"]))
    with pytest.raises(codec.UnknownVersionError, match="table pulses: the value of") as refused:
        await world.start()
    assert key.decode() in str(refused.value)


async def test_another_log_begins_with_the_rows_and_counts_go_on(world: World) -> None:
    await applied(world, 4, len(world.log[0]))
    before = await world.rows()
    world.forgets, world.log_id, world.log = True, "log-2", {0: []}
    owner = await world.start()
    assert owner.partitions[0].view.offset == -1
    assert owner.partitions[0].watermark == at(9)
    assert set(owner.tables.views[0].tables["alerts"]) == {row["identity"] for row in before["alerts"]}
    await owner.close()


async def test_offsets_of_an_earlier_log_do_not_hide_events_of_this_one(world: World) -> None:
    await applied(world, 4, len(world.log[0]))
    changed = AlertBatch(accepted_at=at(20), items=(alert("a9", "A", 20, summary="of the new log"),))
    counted = AlertBatch(accepted_at=at(20.1), items=(alert("c9", "C", 0.5, summary="worse"),))
    records = [codec.encode(changed), codec.encode(counted), codec.encode(Tick(due_at=at(30)))]
    world.forgets, world.log_id, world.log = True, "log-2", {0: records}
    world.sent.clear()
    await run_through(world, (2, 3), [(2, "after commit")])
    assert [item[4] for item in world.told()].count(Change.CHANGED) == 1
    rows, stored = await world.rows(), await world.stored()
    counts = {row["summary"]: row["event_count"] for row in rows["alerts"]}
    assert counts["of the new log"] == 12
    assert counts["worse"] == 3
    pulses = stored[0][1]["pulses"]
    assert {pulse.count for pulse in pulses.values()} == {12, 2, 3}


@pytest.mark.parametrize("lost_redis", [False, True])
async def test_what_a_lost_log_held_unread_is_told_again_on_the_next_one(world: World, lost_redis: bool) -> None:
    await applied(world, 4, len(world.log[0]))
    rows = await world.rows()
    repeat = AlertBatch(accepted_at=at(20), items=(alert("a9", "A", 0),))
    world.forgets, world.log_id = True, "log-2"
    world.log = {0: [codec.encode(repeat), codec.encode(Tick(due_at=at(30)))]}
    world.sent.clear()
    await run_through(world, (1, 2), [(1, "after commit"), (2, "after commit")], lost_redis=lost_redis)
    told = {(item[1], item[3], item[4]) for item in world.told()}
    stands = {"firing": Change.FIRED, "resolved": Change.RESOLVED}
    assert told == {(row["identity"], row["revision"], stands[row["status"]]) for row in rows["alerts"]}
    world.sent.clear()
    owner = await world.start()
    world.log[0].append(codec.encode(Tick(due_at=at(40))))
    await owner.step()
    await owner.close()
    assert not world.sent, "it is told once"


async def test_rules_that_loaded_groups_were_routed_by_are_fetched_first(world: World) -> None:
    stage = Dedup(partitions=1)
    stage.step(batch(ours("a")))
    [told] = stage.sent
    told_by = codec.decode_inputs(told.value)
    assert isinstance(told_by, InputBatch)
    items = tuple(msgspec.structs.replace(item, config_version=2) for item in told_by.items)
    world.topic, world.log = INPUTS, {0: [codec.encode(msgspec.structs.replace(told_by, items=items))]}
    await applied(world, 1)
    owner = await world.start()
    fetched: list[int] = []

    async def prepare(version: int) -> None:
        assert 0 not in owner.partitions
        fetched.append(version)

    owner.loader.prepare = prepare
    await owner.loader.load(set())
    await owner.loader.load({0})
    await owner.close()
    assert fetched == [0, 2]


async def test_a_second_owner_shuts_the_first_out(world: World) -> None:
    first = await world.start()
    second = await world.start()
    with pytest.raises(FencedError):
        await first.step(4)
    await second.step(4)
    await first.close()
    await second.close()


async def test_a_claimer_that_comes_to_redis_late_is_shut_out(world: World) -> None:
    first = await world.start()
    async with first.pool.acquire() as conn:
        late = (await postgres.claim(conn, world.log_id, world.topic, [0]))[0]
    second = await world.start()
    with pytest.raises(FencedError):
        await first.tables.claim(0, late.epoch)
    await first.close()
    await second.close()


async def test_a_log_that_lost_what_was_not_applied_is_refused(world: World) -> None:
    await applied(world, 4)
    world.first = 5
    with pytest.raises(LogLostError, match="dropped offsets 4 to 4"):
        await world.start()
    world.first = 4
    await (await world.start()).close()


async def test_a_log_that_is_shorter_than_what_was_applied_is_refused(world: World) -> None:
    await applied(world, 9)
    world.log[0] = world.log[0][:8]
    with pytest.raises(LogLostError, match="ends at 8"):
        await world.start()


async def test_an_unknown_log_is_refused_unless_its_broker_forgets(world: World) -> None:
    await applied(world, 4)
    world.log_id = "log-2"
    with pytest.raises(postgres.UnknownLogError, match="accept-new-log"):
        await world.start()


async def test_a_new_partition_begins_where_the_log_does(world: World) -> None:
    world.first = 1
    owner = await world.start()
    assert await owner.loader.load({0}) == {0: 1}
    await owner.close()


async def test_what_a_rebuild_has_to_tell_is_known_to_the_next_owner_too(world: World) -> None:
    twice = [
        alert("p1", "P", 0.6),
        alert("p2", "P", 0.7, firing=False, ends_at=at(0.7)),
        alert("p3", "P", 0.8, starts_at=at(0.8)),
    ]
    world.log[0].append(codec.encode(AlertBatch(accepted_at=at(9.5), items=tuple(twice))))
    await applied(world, len(world.log[0]))
    await world.lose_redis()
    pasts = []
    for _ in range(2):  # the first goes away before it has replayed anything
        owner = await world.start()
        partition = owner.partitions[0]
        assert isinstance(partition, AlertsPartition)
        pasts.append(partition.past)
        await owner.close()
    assert pasts[0] == pasts[1]
    assert [len(over) for over in pasts[0].values()] == [1]
