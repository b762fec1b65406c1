"""A step's work ends with its last use: what waited for the cycle collector would be paid for in pauses."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from streams import codec
from tests.agents.stage import Dedup, Incidents, alert, batch, tick


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def test_the_work_of_both_hops_is_freed_by_counting_alone() -> None:
    first, second = Dedup(), Incidents()
    for record in (batch(alert("a")), tick(2)):
        work = first.work([record])
        heard = [codec.decode_inputs(one.value) for one in work.outgoing()]
        work.abort()
        freed = weakref.ref(work)
        del work
        assert freed() is None

        first.step(record)
        after = second.step(*heard, tick(2))
        freed_too = weakref.ref(after)
        del after
        assert freed_too() is None


def test_a_step_given_up_is_freed_too() -> None:
    second = Incidents()
    work = second.work([tick(0)])
    work.abort()
    work.abort()
    freed = weakref.ref(work)
    del work
    assert freed() is None
