"""When arrivals are due: fixed by the clock alone, whatever the system answers (open model)."""

import random
from collections.abc import Iterator

from loadtests.plan import LoadPlan, Shape

_STORM_FACTOR = 4


def due_times(plan: LoadPlan) -> Iterator[float]:
    """Seconds after the start at which each message is due, ascending, below `plan.seconds`."""
    gap = plan.batch / plan.rate
    match plan.shape:
        case Shape.STEADY:
            return (number * gap for number in range(round(plan.seconds / gap)))
        case Shape.POISSON:
            return _poisson(plan, gap)
        case Shape.STORM:
            return _storm(plan, gap)


def _poisson(plan: LoadPlan, gap: float) -> Iterator[float]:
    chance = random.Random(plan.seed)
    due = chance.expovariate(1 / gap)
    while due < plan.seconds:
        yield due
        due += chance.expovariate(1 / gap)


def _storm(plan: LoadPlan, gap: float) -> Iterator[float]:
    begins, ends = plan.seconds * 0.4, plan.seconds * 0.6
    due = 0.0
    while due < plan.seconds:
        yield due
        due += gap / _STORM_FACTOR if begins <= due < ends else gap
