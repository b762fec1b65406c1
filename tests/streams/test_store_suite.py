"""What a table does, whichever store keeps it: Faust's memory store and `redis://` pass the same tests."""

import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.streams.faust_worker import PARTITIONS, Worker, workers, written_at_random

ALL = set(range(PARTITIONS))


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> str:
    return "memory://" if request.param == "memory" else str(request.getfixturevalue("redis_url"))


@pytest.fixture
async def worker(store: str, tmp_path: Path) -> AsyncIterator[Worker]:
    async with workers(store, str(tmp_path)) as [made]:
        await made.assigned(ALL)
        yield made


@pytest.fixture
async def two(store: str, tmp_path: Path) -> AsyncIterator[list[Worker]]:
    async with workers(store, str(tmp_path), 2) as made:
        yield made


def test_a_new_table_is_empty(worker: Worker) -> None:
    assert (len(worker.table), list(worker.table), dict(worker.table.items())) == (0, [], {})
    assert worker.table.get("a") is None
    assert "a" not in worker.table
    with pytest.raises(KeyError):
        worker.table["a"]


def test_what_was_set_is_read(worker: Worker) -> None:
    with worker.at(1) as table:
        table["a"] = 1
        table["b"] = {"x": [1, 2]}
        table["a"] += 1
        assert (table["a"], table["b"], table.get("c", 7), "b" in table) == (2, {"x": [1, 2]}, 7, True)
    assert sorted(worker.table) == ["a", "b"]
    assert sorted(worker.table.keys()) == ["a", "b"]
    assert dict(worker.table.items()) == {"a": 2, "b": {"x": [1, 2]}}
    assert list(worker.table.values()) == [2, {"x": [1, 2]}]
    assert (len(worker.table), worker.table.copy()) == (2, {"a": 2, "b": {"x": [1, 2]}})


def test_what_was_deleted_is_gone(worker: Worker) -> None:
    with worker.at(1) as table:
        table["a"] = 1
        table["b"] = 2
        del table["a"]
        assert ("a" in table, len(table)) == (False, 1)
        assert table.pop("b") == 2
        assert len(table) == 0
        with pytest.raises(KeyError):
            del table["never"]


def test_a_dictionarys_other_ways_work(worker: Worker) -> None:
    with worker.at(2) as table:
        assert table.setdefault("a", 1) == 1
        assert table.setdefault("a", 2) == 1
        table.update({"b": 2}, c=3)
        assert table.copy() == {"a": 1, "b": 2, "c": 3}
        table.clear()
        assert (len(table), list(table)) == (0, [])
        table["d"] = 4
    assert worker.table.copy() == {"d": 4}


@pytest.mark.parametrize("falsy", [0, "", [], {}, False, None], ids=repr)
def test_falsy_values_are_values(worker: Worker, falsy: Any) -> None:
    with worker.at(0) as table:
        table["a"] = 5
        del table["a"]
        table["a"] = falsy
        assert ("a" in table, table["a"], len(table)) == (True, falsy, 1)


async def test_partitions_are_one_mapping(worker: Worker) -> None:
    for number in ALL:
        with worker.at(number) as table:
            table[f"k{number}"] = number
    assert worker.table.copy() == {f"k{number}": number for number in ALL}
    with worker.at(0) as table:
        assert table["k3"] == 3


async def test_a_table_is_not_written_outside_of_a_stream(worker: Worker) -> None:
    with pytest.raises(TypeError, match="outside"):
        worker.table["a"] = 1


async def test_another_worker_goes_on_with_the_state(two: list[Worker]) -> None:
    first, second = two
    await first.assigned(ALL)
    for number in ALL:
        with first.at(number) as table:
            table[f"k{number}"] = number
            table[f"gone{number}"] = 1
            del table[f"gone{number}"]
            table["same"] = number
    first.confirm()
    await first.flush()
    await first.close()
    await second.assigned({1, 2})
    assert second.table.copy() in (
        {"k1": 1, "k2": 2, "same": 1},
        {"k1": 1, "k2": 2, "same": 2},
    )
    with second.at(1) as table:
        table["k1"] += 10
        assert table["k1"] == 11


async def test_deleted_then_set_again_is_there_after_recovery(two: list[Worker]) -> None:
    first, second = two
    await first.assigned({0})
    with first.at(0) as table:
        table["a"] = 1
        del table["a"]
        table["a"] = 2
        table["b"] = 3
        del table["b"]
    await first.close()
    await second.assigned({0}, batch=100)
    assert second.table.copy() == {"a": 2}


async def test_deleted_then_falsy_in_one_batch_is_there_after_recovery(
    two: list[Worker], store: str, request: pytest.FixtureRequest
) -> None:
    if store == "memory://":
        reason = "Faust's memory store takes a falsy value in the batch of its deletion for none"
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
    first, second = two
    await first.assigned({0})
    with first.at(0) as table:
        table["a"] = 1
        del table["a"]
        table["a"] = 0
    await first.close()
    await second.assigned({0}, batch=100)
    assert second.table.copy() == {"a": 0}


def owned(worker: Worker, partition: int) -> dict[str, Any]:
    return {key: value for key, value in worker.table.items() if key.startswith(f"p{partition}-")}


@pytest.mark.parametrize("seed", range(12))
async def test_state_follows_partitions_through_any_writes_and_rebalances(two: list[Worker], seed: int) -> None:
    chance = random.Random(seed)
    model: list[dict[str, Any]] = [{} for _ in ALL]
    for _ in range(8):
        some = set(chance.sample(sorted(ALL), chance.randrange(PARTITIONS + 1)))
        for worker in two:
            worker.confirm()
        # All let go before anyone takes over, as in a rebalance of a consumer group.
        for worker in two:
            await worker.app.on_partitions_revoked.send(set())
        for worker, partitions in zip(two, (some, ALL - some), strict=True):
            # One record a batch, as the memory store mistakes a falsy value in the batch of its deletion.
            await worker.assigned(partitions, batch=1)
        for worker in two:
            for _ in range(chance.randrange(4) if worker.owned else 0):
                written_at_random(chance, worker, model)
                if chance.random() < 0.7:
                    worker.confirm()
                if chance.random() < 0.7:
                    await worker.flush()
            assert {partition: owned(worker, partition) for partition in worker.owned} == {
                partition: model[partition] for partition in worker.owned
            }
