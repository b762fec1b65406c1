"""`redis://` beside a changelog: what is confirmed is in Redis with its offset, and nothing of it is replayed."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import faust
import pytest
from faust.exceptions import ImproperlyConfigured
from faust.types import TP
from redis.asyncio import Redis

from streams.codec import UnknownVersionError
from streams.redis_changelog import NotOwnedError, StateLostError
from streams.redis_link import EvictingRedisError
from streams.redis_store import open_store
from streams.redis_tables import FencedError
from tests.streams.faust_worker import PARTITIONS, Changelog, Record, Worker, workers

ALL = set(range(PARTITIONS))


@pytest.fixture
async def two(redis_url: str, tmp_path: Path) -> AsyncIterator[list[Worker]]:
    async with workers(redis_url, str(tmp_path), 2) as made:
        yield made


def count(worker: Worker, partition: int, *keys: str) -> None:
    """An agent counts words."""
    with worker.at(partition) as table:
        for key in keys:
            table[key] = (table.get(key) or 0) + 1


async def in_redis(worker: Worker, partition: int) -> tuple[int, dict[bytes, bytes]]:
    """Offset and values of a partition, as the changelog has them."""
    view = await worker.store.tables.load(partition, 0)
    return view.offset, {key.encode(): value[1:] for key, value in view.tables["counts"].items()}


async def test_what_was_flushed_is_not_replayed(two: list[Worker]) -> None:
    first, second = two
    await first.assigned(ALL)
    count(first, 0, "a", "b", "a")
    count(first, 3, "c")
    first.confirm()
    await first.flush()
    await second.assigned(ALL)
    assert (second.replayed, second.table.copy()) == (0, {"a": 2, "b": 1, "c": 1})


async def test_only_what_redis_lacks_is_replayed(two: list[Worker]) -> None:
    first, second = two
    await first.assigned({0})
    count(first, 0, "a", "b", "a")
    first.confirm()
    await first.flush()
    count(first, 0, "a", "c")
    first.confirm()
    await second.assigned({0})
    assert (second.replayed, second.table.copy()) == (2, {"a": 3, "b": 1, "c": 1})


async def test_redis_never_has_more_than_the_broker_confirmed(two: list[Worker]) -> None:
    worker = two[0]
    await worker.assigned({0})
    count(worker, 0, "a", "b")
    worker.confirm()
    count(worker, 0, "a")  # on its way
    await worker.flush()
    assert await in_redis(worker, 0) == (-1, {})
    worker.confirm()
    await worker.flush()
    assert await in_redis(worker, 0) == (2, worker.log.values(0))


@pytest.mark.parametrize("seed", range(10))
async def test_redis_is_at_every_moment_what_the_log_says_up_to_its_offset(two: list[Worker], seed: int) -> None:
    chance, worker = random.Random(seed), two[0]
    await worker.assigned({0})
    for _ in range(40):
        count(worker, 0, *(f"k{chance.randrange(6)}" for _ in range(chance.randrange(5))))
        if chance.random() < 0.3 and len(worker.table):
            with worker.at(0) as table:
                del table[chance.choice(sorted(table))]
        known = len(worker.unconfirmed)
        for _ in range(chance.randrange(known + 1)):
            partition, offset = worker.unconfirmed.pop(0)
            worker.store.set_persisted_offset(TP(worker.topic, partition), offset)
        await worker.store.flush()
        offset, values = await in_redis(worker, 0)
        until = Changelog([worker.log.records[0][: offset + 1], [], [], []])
        assert values == until.values(0)


async def test_a_partition_that_stays_is_neither_read_nor_replayed(two: list[Worker]) -> None:
    worker = two[0]
    await worker.assigned({0, 1})
    count(worker, 0, "a", "a")
    before = worker.store.parts[0]
    worker.recover({0})  # Faust replays what it does not know to be here
    await worker.assigned({0})
    assert worker.store.parts[0] is before
    assert worker.table.copy() == {"a": 2}


async def test_revoked_partitions_are_dropped_and_flushed_before_they_go(redis_url: str, tmp_path: Path) -> None:
    async with workers(redis_url, str(tmp_path), 2) as [first, second]:
        await first.store.on_start()
        await first.assigned(ALL)
        count(first, 0, "a")
        count(first, 1, "b")
        first.confirm()
        await first.assigned({1})
        await second.assigned({0})
        assert (first.table.copy(), second.table.copy(), second.replayed) == ({"b": 1}, {"a": 1}, 0)
        with pytest.raises(NotOwnedError, match="counts: partition 0"):
            count(first, 0, "a")


async def test_a_former_owner_writes_nothing_and_ends(two: list[Worker]) -> None:
    first, second = two
    await first.assigned({0})
    count(first, 0, "a")
    first.confirm()
    await second.assigned({0})
    count(second, 0, "b")
    second.confirm()
    await second.flush()
    await first.flush()
    assert isinstance(first.store.crash_reason, FencedError)
    assert await in_redis(second, 0) == (1, second.log.values(0))


async def test_a_lost_redis_is_replayed_from_the_changelog(two: list[Worker]) -> None:
    first, second = two
    await first.assigned({0})
    count(first, 0, "a", "b", "a")
    first.confirm()
    await first.flush()
    await first.store.tables.redis.delete(*first.store.tables.keys_of(0))
    await second.assigned({0})
    assert (second.replayed, second.table.copy()) == (3, {"a": 2, "b": 1})
    await second.flush()
    assert await in_redis(second, 0) == (2, second.log.values(0))


@pytest.mark.parametrize("key", [0, 1])
async def test_half_a_partition_is_never_taken_for_a_whole_one(two: list[Worker], key: int) -> None:
    first, second = two
    await first.assigned({0})
    count(first, 0, "a", "b", "a")
    first.confirm()
    await first.flush()
    await first.store.tables.redis.delete(first.store.tables.keys_of(0)[key])
    await second.assigned({0})
    assert (second.replayed, second.table.copy()) == (3, {"a": 2, "b": 1})


async def test_a_redis_emptied_under_its_owner_is_written_again(two: list[Worker]) -> None:
    first, second = two
    await first.assigned({0})
    count(first, 0, *(f"k{n}" for n in range(100)))
    first.confirm()
    await first.flush()
    await first.store.tables.redis.delete(*first.store.tables.keys_of(0))
    count(first, 0, "k5")
    first.confirm()
    await first.flush()
    assert await in_redis(first, 0) == (100, first.log.values(0))
    await second.assigned({0})
    assert (second.replayed, len(second.table), second.table["k5"]) == (0, 100, 2)


async def test_a_redis_emptied_between_assignment_and_loading_ends_the_process(two: list[Worker]) -> None:
    first, second = two
    await first.assigned({0})
    count(first, 0, "a")
    first.confirm()
    await first.flush()
    await second.joined({0})
    await second.store.tables.redis.delete(*second.store.tables.keys_of(0))
    await second.complete({0})
    assert isinstance(second.store.crash_reason, StateLostError)


async def test_a_long_replay_goes_to_redis_in_pieces(two: list[Worker]) -> None:
    first, second = two
    await first.assigned({0})
    for n in range(12_000):
        count(first, 0, f"k{n}")
    await second.assigned({0}, batch=1000)
    assert (second.replayed, len(second.table)) == (12_000, 12_000)
    await second.flush()
    assert await in_redis(second, 0) == (11_999, second.log.values(0))


async def test_a_value_of_an_unknown_version_is_refused_by_its_name(two: list[Worker]) -> None:
    first, second = two
    await first.assigned({0})
    count(first, 0, "a")
    first.confirm()
    await first.flush()
    await first.store.tables.redis.hset(first.store.tables.keys_of(0)[1], '"a"', b"\x7f1")
    await second.assigned({0})
    assert isinstance(second.store.crash_reason, UnknownVersionError)
    assert str(second.store.crash_reason) == "the value of '\"a\"' is of version 7f, not 01"


async def test_keys_may_be_any_bytes(redis_url: str, tmp_path: Path) -> None:
    keys = [b"\xff\x00\xfe", "é".encode(), b"", b"plain"]
    async with workers(redis_url, str(tmp_path), 2, key_type=bytes, value_type=bytes) as [first, second]:
        await first.assigned({0})
        with first.at(0) as table:
            for key in keys:
                table[key] = key * 3
        first.confirm()
        await first.flush()
        await second.assigned({0})
        assert second.table.copy() == {key: key * 3 for key in keys}
        assert list(second.table) == list(second.table.keys())


async def test_a_record_without_a_key_does_not_stop_recovery(two: list[Worker]) -> None:
    first, second = two
    await first.assigned({0})
    count(first, 0, "a")
    nobody: Any = None
    first.log.records[0].append(Record(nobody, b"1"))
    count(first, 0, "b")
    await second.assigned({0})
    assert second.table.copy() == {"a": 1, "b": 1}


async def test_anyone_looks_a_key_up(two: list[Worker]) -> None:
    first, second = two
    await first.assigned({2})
    count(first, 2, "a", "a")
    first.confirm()
    await first.flush()
    assert await second.store.tables.look_up(2, "counts", '"a"') == b"\x012"


async def test_a_window_that_expires_outside_of_a_stream_leaves_redis_too(two: list[Worker]) -> None:
    worker = two[0]
    await worker.assigned({0, 1})
    count(worker, 1, "a", "b")
    worker.confirm()
    await worker.flush()
    worker.store.pop("a", None)
    await worker.flush()
    assert (worker.table.copy(), await in_redis(worker, 1)) == ({"b": 1}, (1, {b'"b"': b"1"}))


async def test_a_key_may_be_put_to_a_named_partition(two: list[Worker]) -> None:
    worker = two[0]
    await worker.assigned({0, 1})
    worker.store.put(1, "a", 5)
    assert worker.table["a"] == 5
    with pytest.raises(RuntimeError, match="by an agent"):
        worker.store["b"] = 1


async def test_a_redis_that_is_away_is_caught_up_with(two: list[Worker], monkeypatch: pytest.MonkeyPatch) -> None:
    worker = two[0]
    await worker.assigned({0})

    async def away(*_: Any) -> None:
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(worker.store.tables, "_call", away)
        for n in range(5):
            count(worker, 0, f"k{n}")
            worker.confirm()
            await worker.flush()
    await worker.flush()
    assert await in_redis(worker, 0) == (4, worker.log.values(0))


async def test_it_flushes_by_itself_and_at_the_end(redis_url: str, tmp_path: Path) -> None:
    async with workers(f"{redis_url}?flush=0.01", str(tmp_path), 2) as [first, second]:
        await first.assigned({0})
        async with first.store:
            count(first, 0, "a")
            first.confirm()
            async with asyncio.timeout(5):
                while (await in_redis(first, 0))[0] != 0:
                    await asyncio.sleep(0.01)
            count(first, 0, "a")
            first.confirm()
        assert await in_redis(second, 0) == (1, {b'"a"': b"2"})


async def test_an_evicting_redis_is_refused_at_start(redis_url: str, tmp_path: Path) -> None:
    async with workers(redis_url, str(tmp_path)) as [worker]:
        admin = Redis.from_url(redis_url)
        try:
            await admin.config_set("maxmemory-policy", "allkeys-lru")
            await admin.config_set("maxmemory", "1gb")
            with pytest.raises(EvictingRedisError, match="allkeys-lru"):
                await worker.store.on_start()
        finally:
            await admin.config_set("maxmemory", "0")
            await admin.config_set("maxmemory-policy", "noeviction")
            await admin.aclose()


async def test_what_it_cannot_keep_is_refused_by_name(redis_url: str, tmp_path: Path) -> None:
    app: Any = faust.App("refused", store=redis_url, broker="kafka://127.0.0.1:1", datadir=str(tmp_path))
    plain = app.Table("plain", partitions=1)
    with pytest.raises(ImproperlyConfigured, match="global and set tables"):
        app.GlobalTable("everywhere", partitions=1).data  # noqa: B018 - made when it is first asked for
    with pytest.raises(ImproperlyConfigured, match="mode must be changelog or step, not other"):
        open_store("redis://:secret@127.0.0.1/0?mode=other", app, plain)
    app.conf.processing_guarantee = "exactly_once"
    with pytest.raises(ImproperlyConfigured, match="at_least_once"):
        await plain.data.on_start()
