"""Who goes, who is put together and who waits when a receiver's tokens do not suffice."""

from collections.abc import Sequence
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.rules.limits import Waiting, admit, pause, wanted

MINUTE = timedelta(minutes=1)


def waiting(*given: tuple[str, int, bool]) -> list[Waiting[str]]:
    return [Waiting(name, name[0], urgency, was_over) for name, urgency, was_over in given]


@pytest.mark.parametrize(
    ("tasks", "tokens", "send", "fold", "hold"),
    [
        ([("a1", 2, False), ("a2", 0, False)], 2, {"a1", "a2"}, [], set()),
        ([("a1", 2, False), ("a2", 0, False)], 1, {"a2"}, [], {"a1"}),
        ([("a1", 2, False)], 0, set(), [], {"a1"}),
        ([("a1", 2, True), ("a2", 2, True)], 1, set(), [("a1", "a2")], set()),
        ([("a1", 2, True), ("b1", 2, True)], 1, set(), [("a1",)], {"b1"}),
        ([("a1", 2, True), ("a2", 2, False), ("a3", 0, False)], 2, {"a3"}, [("a1",)], {"a2"}),
        ([("a1", 2, True), ("a2", 0, False)], 1, {"a2"}, [], {"a1"}),
    ],
)
def test_tokens_go_to_what_is_critical_then_to_digests_then_to_the_rest(
    tasks: list[tuple[str, int, bool]], tokens: int, send: set[str], fold: list[tuple[str, ...]], hold: set[str]
) -> None:
    admission = admit(waiting(*tasks), tokens)
    assert (set(admission.send), list(admission.fold), set(admission.hold)) == (send, fold, hold)


tasks = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4), st.booleans()), max_size=12)


@given(tasks, st.integers(0, 15))
def test_nobody_is_lost_and_no_token_too_many_is_spent(found: Sequence[tuple[str, int, bool]], tokens: int) -> None:
    some = [Waiting(n, place, urgency, over) for n, (place, urgency, over) in enumerate(found)]
    granted = min(tokens, wanted(some))
    admission = admit(some, granted)
    folded = [task for tasks in admission.fold for task in tasks]
    assert sorted([*admission.send, *folded, *admission.hold]) == list(range(len(some)))
    assert len(admission.send) + len(admission.fold) == granted


def test_what_is_over_waits_for_a_token_and_long_enough_for_a_digest() -> None:
    assert pause(timedelta(seconds=2), MINUTE) == timedelta(seconds=15)
    assert pause(timedelta(seconds=40), MINUTE) == timedelta(seconds=40)
    assert pause(timedelta(seconds=1), timedelta(days=1)) == timedelta(minutes=5)
