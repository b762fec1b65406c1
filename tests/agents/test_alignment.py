"""While workers catch up, partitions go side by side in the broker's time: one worker's, and those of several."""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agents.alignment import PATIENCE, SPAN, Pace, is_within, oldest_first

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


def test_one_young_record_in_front_does_not_hide_that_others_are_old() -> None:
    came = [event(0, 7, 1.0), event(1, 3, 600.0), event(0, 8, 0.5), event(1, 4, 580.0)]
    ordered, until = oldest_first(came, NOW)
    assert shown(ordered) == [(1, 3), (1, 4), (0, 7), (0, 8)]
    assert until == NOW - 600 + SPAN


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 900)), min_size=1, max_size=60))
def test_each_partition_keeps_its_order_whatever_the_clock_did(records: list[tuple[int, float]]) -> None:
    came = [event(number, offset, age) for offset, (number, age) in enumerate(records)]
    ordered, until = oldest_first(came, NOW)
    assert sorted(shown(ordered)) == sorted(shown(came))
    for number in range(4):
        offsets = [offset for partition, offset in shown(ordered) if partition == number]
        assert offsets == sorted(offsets)
    assert is_within(ordered[0], until)


TURNS = st.lists(st.integers(0, 2), min_size=1, max_size=400)


@given(st.lists(st.lists(st.floats(60, 900), min_size=1, max_size=30), min_size=2, max_size=3), TURNS)
def test_workers_stay_side_by_side_whoever_is_quick(ages: list[list[float]], turns: list[int]) -> None:
    waiting = [sorted(NOW - age for age in worker) for worker in ages]
    paces = [Pace() for _ in waiting]
    told = {worker: records[0] for worker, records in enumerate(waiting)}
    fair = [n for _ in range(sum(map(len, waiting)) * len(waiting)) for n in range(len(waiting))]
    for turn, quick in enumerate([*turns, *fair]):
        me = quick % len(waiting)
        if not waiting[me]:
            told.pop(me, None)
            continue
        oldest = told[me] = waiting[me][0]
        others = {str(worker): at for worker, at in told.items() if worker != me}
        until = min(paces[me].until(oldest, others, NOW + turn * 0.001), oldest + SPAN)
        first = min((records[0] for worker, records in enumerate(waiting) if worker != me and records), default=NOW)
        while waiting[me] and waiting[me][0] <= until:
            assert waiting[me].pop(0) <= first + SPAN
    assert not any(waiting)


def held_for(pace: Pace, oldest: float, others: Callable[[float], dict[str, float]], began: float = 0.0) -> float:
    """Seconds, counted from `began` after NOW, until a step may take the record."""
    passed = began
    while pace.until(oldest, others(passed), NOW + passed) < oldest:
        passed += 0.5
    return passed - began


def test_who_has_the_oldest_record_goes_on() -> None:
    pace, others = Pace(), {"w2": NOW - 300, "w3": NOW - 500}
    assert pace.until(NOW - 500, others, NOW) == NOW - 500 + SPAN
    assert pace.until(NOW - 400, others, NOW) == NOW - 500 + SPAN
    assert pace.until(NOW - 400, None, NOW) == NOW - 500 + SPAN
    assert pace.until(NOW - 400, {}, NOW) == math.inf


def test_a_worker_that_does_not_move_is_waited_for_once() -> None:
    pace = Pace()
    assert held_for(pace, NOW - 400, lambda _: {"w2": NOW - 500}) == PATIENCE
    assert pace.until(NOW - 400, {"w2": NOW - 500}, NOW + 60) == math.inf
    assert held_for(pace, NOW - 400, lambda _: {"w2": NOW - 499}, 60) == PATIENCE


def test_time_in_which_nobody_asked_uses_up_no_patience() -> None:
    pace, others = Pace(), {"w2": NOW - 500}
    assert pace.until(NOW - 500, others, NOW) == NOW - 500 + SPAN
    assert pace.until(NOW - 400, others, NOW + 600) == NOW - 500 + SPAN
    assert pace.until(NOW - 400, others, NOW + 1200) == NOW - 500 + SPAN


def test_who_was_nearly_up_to_date_is_not_held_up_by_one_that_comes_far_behind() -> None:
    def moving(passed: float) -> dict[str, float]:
        return {"w2": NOW - 500 + 2 * passed}

    pace = Pace()
    assert pace.until(NOW - 600, {}, NOW - 60) == math.inf
    assert held_for(pace, NOW - 8, moving) == 8
    assert held_for(pace, NOW + 1, moving, 9) == 0  # that was all its waiting for w2
    assert held_for(Pace(), NOW - 300, moving) == 97.5
