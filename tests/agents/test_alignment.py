"""While a worker catches up, its partitions go side by side in the broker's time."""

from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agents.alignment import SPAN, is_within, oldest_first

NOW = 1_800_000_000.0


def event(partition: int, offset: int, age: float) -> Any:
    return SimpleNamespace(message=SimpleNamespace(partition=partition, offset=offset, timestamp=NOW - age))


def shown(events: Any) -> list[tuple[int, int]]:
    return [(one.message.partition, one.message.offset) for one in events]


def test_what_is_not_old_stays_as_it_came() -> None:
    came = [event(0, 7, 2.0), event(0, 8, 1.0), event(1, 3, 2.5)]
    ordered, until = oldest_first(came, NOW)
    assert ordered is came
    assert all(is_within(one, until) for one in came)
    assert oldest_first([], NOW) == ([], float("inf"))


def test_what_was_read_partition_by_partition_is_taken_minute_by_minute() -> None:
    came = [event(0, n, 600 - 60 * n) for n in range(5)] + [event(1, n, 601 - 60 * n) for n in range(5)]
    ordered, until = oldest_first(came, NOW)
    assert shown(ordered) == [(p, n) for n in range(5) for p in (1, 0)]
    assert [is_within(one, until) for one in ordered] == [True, True] + 8 * [False]
    assert until == NOW - 601 + SPAN


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 900)), min_size=1, max_size=60))
def test_each_partition_keeps_its_order_whatever_the_clock_did(records: list[tuple[int, float]]) -> None:
    came = [event(number, offset, age) for offset, (number, age) in enumerate(records)]
    ordered, until = oldest_first(came, NOW)
    assert sorted(shown(ordered)) == sorted(shown(came))
    for number in range(4):
        offsets = [offset for partition, offset in shown(ordered) if partition == number]
        assert offsets == sorted(offsets)
    assert is_within(ordered[0], until)
