"""Tables in a real Redis: state and mark move together, only their owner moves them, anyone reads them."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.crc import key_slot
from redis.exceptions import ResponseError

from streams.redis_link import EvictingRedisError, refuse_eviction
from streams.redis_tables import UNWRITTEN, FencedError, ForgottenError, Mark, Overlay, TableSet, View

AT = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


def mark(offset: int, log_id: str = "log", epoch: int = 1) -> Mark:
    return Mark(epoch, log_id, offset, 7, AT)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = Redis.from_url(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
async def tables(redis: Redis, app_prefix: str) -> AsyncIterator[TableSet]:
    made = TableSet(redis, app_prefix, "alerts", ("alerts", "pulses"))
    yield made
    for number in range(12):
        await redis.delete(*made.keys_of(number))


async def taken(tables: TableSet, number: int = 0, epoch: int = 1) -> Overlay:
    """A partition that was claimed and loaded, with nothing changed yet."""
    await tables.claim(number, epoch)
    return Overlay(await tables.load(number, epoch))


async def round_trips(redis: Redis, work: Any) -> dict[str, int]:
    """How often each command was called while `work` was done."""

    async def calls() -> dict[str, int]:
        stats: dict[str, Any] = await redis.info("commandstats")
        return {name.removeprefix("cmdstat_"): int(values["calls"]) for name, values in stats.items()}

    before = await calls()
    await work
    after = await calls()
    return {name: number - before.get(name, 0) for name, number in after.items() if number != before.get(name, 0)}


async def test_a_new_partition_is_empty_before_its_first_offset(tables: TableSet) -> None:
    overlay = await taken(tables)
    assert overlay.view.offset == -1
    assert overlay.view.tables == {"alerts": {}, "pulses": {}}


async def test_what_was_flushed_is_loaded_with_its_mark(tables: TableSet) -> None:
    overlay = await taken(tables)
    wanted = {f"key-{n}": secrets.token_bytes(n % 97) for n in range(10_000)}
    for key, value in wanted.items():
        overlay.put("alerts", key, value)
    overlay.put("pulses", "zero\x00and é", b"\x00\xff\r\n")
    await tables.flush([(overlay, mark(41))])
    view = await tables.load(0, 1)
    assert view.tables == {"alerts": wanted, "pulses": {"zero\x00and é": b"\x00\xff\r\n"}}
    assert view.mark == mark(41)


async def test_changes_and_deletions_are_both_written(tables: TableSet) -> None:
    overlay = await taken(tables)
    for n in range(20_000):
        overlay.put("alerts", str(n), b"old")
    await tables.flush([(overlay, mark(0))])
    overlay.commit(mark(0))
    second = Overlay(overlay.view)
    for n in range(0, 20_000, 2):
        second.put("alerts", str(n), None)
    for n in range(1, 20_000, 2):
        second.put("alerts", str(n), b"new")
    second.put("pulses", "p", b"1")
    await tables.flush([(second, mark(1))])
    second.commit(mark(1))
    stored = await tables.load(0, 1)
    assert stored.tables == {"alerts": {str(n): b"new" for n in range(1, 20_000, 2)}, "pulses": {"p": b"1"}}
    assert second.view == stored


async def test_a_write_whose_answer_was_lost_is_written_once(tables: TableSet) -> None:
    overlay = await taken(tables)
    overlay.put("alerts", "a", b"first")
    await tables.flush([(overlay, mark(4))])
    overlay.put("alerts", "a", b"second")
    overlay.put("pulses", "p", b"second")
    await tables.flush([(overlay, mark(4))])
    view = await tables.load(0, 1)
    assert (view.offset, view.tables) == (4, {"alerts": {"a": b"first"}, "pulses": {}})


async def test_offsets_of_another_log_are_not_compared(tables: TableSet) -> None:
    overlay = await taken(tables)
    await tables.flush([(overlay, mark(1000))])
    overlay.commit(mark(1000))
    overlay.put("alerts", "a", b"1")
    await tables.flush([(overlay, mark(0, "another"))])
    view = await tables.load(0, 1)
    assert (view.log_id, view.offset, view.tables["alerts"]) == ("another", 0, {"a": b"1"})


@pytest.mark.parametrize("newer", [2, 10, 1000])
async def test_a_former_owner_writes_nothing(tables: TableSet, newer: int) -> None:
    old = await taken(tables)
    old.put("alerts", "a", b"1")
    await tables.flush([(old, mark(0))])
    old.commit(mark(0))
    await tables.claim(0, newer)
    old.put("alerts", "a", b"stale")
    old.put("pulses", "p", b"stale")
    with pytest.raises(FencedError):
        await tables.flush([(old, mark(1))])
    view = await tables.load(0, newer)
    assert view.tables == {"alerts": {"a": b"1"}, "pulses": {}}
    assert view.mark == mark(0, epoch=newer)


async def test_the_partitions_that_are_still_mine_are_written_beside_a_fenced_one(tables: TableSet) -> None:
    mine, lost = await taken(tables, 0), await taken(tables, 1)
    await tables.claim(1, 2)
    for overlay in (mine, lost):
        overlay.put("alerts", "a", b"1")
    with pytest.raises(FencedError, match=r"\[1\]"):
        await tables.flush([(lost, mark(0)), (mine, mark(0))])
    assert await tables.look_up(0, "alerts", "a") == b"1"
    assert await tables.look_up(1, "alerts", "a") is None


async def test_an_epoch_only_grows(tables: TableSet) -> None:
    await tables.claim(0, 9)
    await tables.claim(0, 9)
    await tables.claim(0, 10)
    with pytest.raises(FencedError):
        await tables.claim(0, 9)
    assert (await tables.mark(0)).epoch == 10


async def test_a_claim_keeps_tables_and_mark(tables: TableSet) -> None:
    overlay = await taken(tables)
    overlay.put("alerts", "a", b"1")
    await tables.flush([(overlay, mark(5))])
    await tables.claim(0, 2)
    assert await tables.mark(0) == mark(5, epoch=2)
    assert (await tables.load(0, 2)).tables["alerts"] == {"a": b"1"}


def rebuilt(epoch: int, value: bytes, keys: int = 5_000) -> View:
    return View(0, mark(50, epoch=epoch), {"alerts": {str(n): value for n in range(keys)}, "pulses": {"p": value}})


async def test_a_rebuilt_partition_replaces_what_was_there(tables: TableSet) -> None:
    overlay = await taken(tables)
    overlay.put("alerts", "gone", b"1")
    await tables.flush([(overlay, mark(90))])
    await tables.replace(rebuilt(1, b"new"))
    assert await tables.load(0, 1) == rebuilt(1, b"new")


async def broken_off_after(tables: TableSet, calls: int, action: Any) -> None:
    """Do something after that many writes have gone out."""
    run, made = tables._run, []

    async def counting(written: Any) -> list[int]:
        made.append(written)
        if len(made) == calls:
            await action()
        return await run(written)

    tables._run = counting  # type: ignore[method-assign, assignment]


async def test_a_former_owner_in_the_middle_of_a_rebuild_is_stopped_at_its_next_piece(tables: TableSet) -> None:
    await tables.claim(0, 1)

    async def overtaken() -> None:
        other = TableSet(tables.redis, tables.app, tables.topic, tables.tables)
        await other.claim(0, 2)
        await other.replace(rebuilt(2, b"right", 3000))

    await broken_off_after(tables, 2, overtaken)
    with pytest.raises(FencedError):
        await tables.replace(rebuilt(1, b"stale", 40_000))
    assert await tables.load(0, 2) == rebuilt(2, b"right", 3000)


async def test_a_rebuild_that_broke_off_leaves_no_mark(tables: TableSet) -> None:
    overlay = await taken(tables)
    await tables.flush([(overlay, mark(90))])

    async def broken() -> None:
        raise ConnectionError

    await broken_off_after(tables, 2, broken)
    with pytest.raises(ConnectionError):
        await tables.replace(rebuilt(1, b"new", 40_000))
    assert (await tables.mark(0)).offset == -1


async def test_a_redis_that_forgets_in_the_middle_of_a_rebuild_is_not_believed(tables: TableSet) -> None:
    await tables.claim(0, 1)
    await broken_off_after(tables, 2, lambda: tables.redis.delete(*tables.keys_of(0)))
    with pytest.raises(ForgottenError):
        await tables.replace(rebuilt(1, b"new", 40_000))
    assert (await tables.mark(0)).offset == -1
    await tables.replace(rebuilt(1, b"new", 40_000))
    assert await tables.load(0, 1) == rebuilt(1, b"new", 40_000)


async def filled(tables: TableSet) -> Overlay:
    """A partition with two steps behind it, and a third decided."""
    overlay = await taken(tables)
    for offset, value in enumerate((b"1", b"2")):
        overlay = Overlay(overlay.view)
        overlay.put("alerts", f"a{offset}", value)
        overlay.put("pulses", "p", value)
        await tables.flush([(overlay, mark(offset))])
        overlay.commit(mark(offset))
    third = Overlay(overlay.view)
    third.put("alerts", "a2", b"3")
    third.put("alerts", "a0", None)
    return third


async def everything(tables: TableSet) -> dict[str, bytes]:
    return {key: await tables.redis.dump(key) or b"" for key in tables.keys_of(0)}


@pytest.mark.parametrize("lost", ["all", "meta", "one table", "an older day", "an older epoch", "one entry"])
async def test_the_owner_notices_that_redis_forgot_and_writes_its_view_again(tables: TableSet, lost: str) -> None:
    await tables.claim(0, 1)
    old_epoch = await everything(tables)
    overlay = await taken(tables)
    await tables.flush([(overlay, mark(0))])
    overlay.commit(mark(0))
    old = await everything(tables)
    overlay = Overlay(replace(overlay.view, mark=mark(0)))
    for name in ("a0", "a1"):
        overlay.put("alerts", name, b"1")
    overlay.put("pulses", "p", b"2")
    await tables.flush([(overlay, mark(1))])
    overlay.commit(mark(1))
    meta, alerts, _ = tables.keys_of(0)
    match lost:
        case "all":
            await tables.redis.delete(*tables.keys_of(0))
        case "meta":
            await tables.redis.delete(meta)
        case "one table":
            await tables.redis.delete(alerts)
        case "one entry":
            await tables.redis.hdel(alerts, "a0")
        case _:
            for key, value in (old if lost == "an older day" else old_epoch).items():
                await tables.redis.delete(key)
                if value:
                    await tables.redis.restore(key, 0, value)
    third = Overlay(overlay.view)
    third.put("alerts", "a2", b"3")
    third.put("alerts", "a0", None)
    await tables.flush([(third, mark(2))])
    third.commit(mark(2))
    assert await tables.load(0, 1) == third.view
    assert third.view.tables == {"alerts": {"a1": b"1", "a2": b"3"}, "pulses": {"p": b"2"}}


async def test_a_former_owner_cannot_pass_for_the_owner_of_an_emptied_redis(tables: TableSet) -> None:
    zombie = await filled(tables)
    await tables.claim(0, 2)
    owner = await tables.load(0, 2)
    await tables.redis.delete(*tables.keys_of(0))
    await tables.flush([(zombie, mark(2))])  # it cannot know better yet
    newer = Overlay(owner)
    newer.put("alerts", "a9", b"9")
    await tables.flush([(newer, mark(2, epoch=2))])
    newer.commit(mark(2, epoch=2))
    assert await tables.load(0, 2) == owner
    with pytest.raises(FencedError):
        await tables.flush([(zombie, mark(3))])


async def test_a_load_does_not_believe_a_partition_of_which_a_part_is_gone(tables: TableSet) -> None:
    await filled(tables)
    await tables.redis.hdel(tables.keys_of(0)[1], "a0")
    assert (await tables.load(0, 1)).mark == replace(UNWRITTEN, epoch=1)


async def test_redis_allocates_epochs_that_are_above_those_it_forgot(tables: TableSet) -> None:
    first = await tables.take(0)
    second = await tables.take(0)
    await tables.redis.delete(*tables.keys_of(0))
    await asyncio.sleep(0.002)
    assert first < second < await tables.take(0)


async def test_anyone_looks_a_key_up_without_owning_the_partition(tables: TableSet, redis_url: str) -> None:
    overlay = await taken(tables)
    overlay.put("pulses", "p", b"\x00\x01")
    await tables.flush([(overlay, mark(0))])
    reader = Redis.from_url(redis_url)
    try:
        elsewhere = TableSet(reader, tables.app, tables.topic, tables.tables)
        assert await elsewhere.look_up(0, "pulses", "p") == b"\x00\x01"
        assert await elsewhere.look_up(0, "pulses", "q") is None
        assert await elsewhere.look_up(1, "pulses", "p") is None
    finally:
        await reader.aclose()


async def test_many_partitions_are_one_round_trip(tables: TableSet, redis: Redis) -> None:
    overlays = [await taken(tables, number) for number in range(12)]
    for overlay in overlays:
        overlay.put("alerts", "a", b"1")
    await tables.flush([(overlay, mark(0)) for overlay in overlays])
    for overlay in overlays:
        overlay.commit(mark(0))
    used = await round_trips(redis, tables.flush([(overlay, mark(1)) for overlay in overlays]))
    assert used.pop("info") == 1
    assert used == {"evalsha": 12, "hmget": 12, "hlen": 48, "hset": 36}


async def test_a_redis_that_lost_its_scripts_gets_them_again(tables: TableSet, redis: Redis) -> None:
    overlay = await taken(tables)
    overlay.put("alerts", "a", b"1")
    await redis.script_flush()
    await tables.flush([(overlay, mark(0))])
    assert await tables.look_up(0, "alerts", "a") == b"1"


def test_one_partition_is_one_slot_of_a_cluster_and_partitions_spread(app_prefix: str) -> None:
    tables = TableSet(Redis(), app_prefix, "alerts", ("alerts", "pulses", "recent"))
    slots = [{key_slot(key.encode()) for key in tables.keys_of(number)} for number in range(12)]
    assert all(len(slot) == 1 for slot in slots)
    assert len(set.union(*slots)) == 12


async def test_an_evicting_redis_is_refused(redis: Redis) -> None:
    await refuse_eviction(redis)
    try:
        await redis.config_set("maxmemory-policy", "allkeys-lru")
        await refuse_eviction(redis)
        await redis.config_set("maxmemory", "1gb")
        with pytest.raises(EvictingRedisError, match="allkeys-lru"):
            await refuse_eviction(redis)
        await redis.config_set("maxmemory-policy", "noeviction")
        await refuse_eviction(redis)
    finally:
        await redis.config_set("maxmemory", "0")
        await redis.config_set("maxmemory-policy", "noeviction")


async def test_a_full_redis_writes_neither_tables_nor_mark(tables: TableSet, redis: Redis) -> None:
    overlay = await taken(tables)
    overlay.put("alerts", "a", b"1")
    await tables.flush([(overlay, mark(0))])
    overlay.commit(mark(0))
    overlay.put("alerts", "b", b"x" * 1000)
    try:
        await redis.config_set("maxmemory", "1")
        with pytest.raises(ResponseError, match=r"OOM|maxmemory"):
            await tables.flush([(overlay, mark(1))])
    finally:
        await redis.config_set("maxmemory", "0")
    view = await tables.load(0, 1)
    assert (view.offset, view.tables["alerts"]) == (0, {"a": b"1"})


async def test_two_claimers_at_once_leave_one_owner(tables: TableSet) -> None:
    results = await asyncio.gather(*(tables.claim(0, epoch) for epoch in (5, 3, 8, 7)), return_exceptions=True)
    assert (await tables.mark(0)).epoch == 8
    assert results[2] is None


def test_an_overlay_hides_the_view_until_it_is_committed() -> None:
    view = View(0, mark(0), {"alerts": {"kept": b"1", "gone": b"2", "changed": b"3"}})
    overlay = Overlay(view)
    overlay.put("alerts", "gone", None)
    overlay.put("alerts", "changed", b"4")
    assert [overlay.get("alerts", key) for key in ("kept", "gone", "changed", "other")] == [b"1", None, b"4", None]
    assert view.tables["alerts"]["gone"] == b"2"
    overlay.commit(mark(1))
    assert view == replace(view, mark=mark(1), tables={"alerts": {"kept": b"1", "changed": b"4"}})
