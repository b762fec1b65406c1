"""The account of uptime: what counts against the goal, and how long nothing was answered."""

from tests.chaos.caller import Call
from tests.chaos.faults import Hurt
from tests.chaos.uptime import GOAL, uptime

SECOND = 1_000_000


def call(second: float, status: int = 202, took: float = 0.01) -> Call:
    return Call(due_us=int(second * SECOND), told_us=int((second + took) * SECOND), status=status)


def hurt(name: str, began: float, mended: float, ready: float | None = 1.0) -> Hurt:
    return Hurt(
        name=name, what=name, began_us=int(began * SECOND), mended_us=int(mended * SECOND), ready_s=ready
    )  # fmt: skip


def test_what_a_fault_of_the_gateway_leaves_unanswered_counts_only_in_all() -> None:
    calls = [call(at, 0 if 10 <= at < 13 else 202) for at in range(30)]
    found = uptime(calls, [hurt("kill-gateway", 10, 11, ready=3), hurt("down-kafka", 20, 28)])
    assert (found.in_all.calls, found.in_all.good) == (30, 27)
    assert [(one.name, one.calls, one.good) for one in found.faults] == [
        ("kill-gateway", 10, 7),
        ("down-kafka", 10, 10),
    ]
    assert found.others.share == 1
    assert found.hold


def test_a_call_that_was_under_way_when_the_gateway_was_hurt_is_the_faults() -> None:
    calls = [*(call(at / 10) for at in range(200)), call(9.9, 0, took=0.2)]
    assert uptime(sorted(calls, key=lambda one: one.due_us), [hurt("kill-gateway", 10, 11)]).others.without == {}


def test_what_another_fault_leaves_unanswered_misses_the_goal() -> None:
    calls = [call(at / 10, 503 if at == 150 else 202) for at in range(300)]
    found = uptime(calls, [hurt("down-kafka", 14, 16)])
    assert found.others.without == {503: 1}
    assert found.others.share < GOAL
    assert not found.hold


def test_the_longest_gap_is_between_good_answers_and_the_gateways_own_is_left_out_of_the_last() -> None:
    calls = [call(at, 0 if 10 <= at < 15 or 20 <= at < 22 else 202) for at in range(30)]
    found = uptime(calls, [hurt("stop-gateway", 10, 14, ready=0.5), hurt("stop-kafka", 20, 22)])
    assert [one.gap_s for one in found.faults] == [6, 3]
    assert found.in_all.gap_s == 6
    assert found.others.gap_s == 3


def test_a_run_without_calls_proves_nothing() -> None:
    assert not uptime([], []).hold
