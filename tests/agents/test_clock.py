"""The clock behind the ticks: a jump of the wall clock fires nothing, a correction that stays is followed."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from agents.timers import BELIEVED_AFTER, Clock

T0 = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Machine:
    """A machine's clocks, in seconds since T0: one that people set, one that nobody sets."""

    def __init__(self) -> None:
        self.wall = self.running = 0.0
        self.clock = Clock(lambda: T0 + timedelta(seconds=self.wall), lambda: self.running)

    def after(self, seconds: float, *, by: float = 50) -> float:
        """Look at the clock now and then for so long; what it says at last, in seconds since T0."""
        end = self.running + seconds
        while self.running < end:
            step = min(by, end - self.running)
            self.wall, self.running = self.wall + step, self.running + step
            said = self.clock.now()
        return (said - T0).total_seconds()


@pytest.mark.parametrize("jump", [3600, -7200, 365 * 86400, 60])
def test_a_jump_that_is_undone_shows_nowhere(jump: float) -> None:
    machine = Machine()
    machine.after(100)
    machine.wall += jump
    assert machine.after(BELIEVED_AFTER - 100) == machine.running
    machine.wall -= jump
    assert machine.after(BELIEVED_AFTER) == machine.running
    machine.wall += jump
    assert machine.after(BELIEVED_AFTER - 100) == machine.running, "it counts anew"


@pytest.mark.parametrize("correction", [3600, -7200, 6])
def test_a_correction_that_stays_is_followed(correction: float) -> None:
    machine = Machine()
    machine.after(100)
    machine.wall += correction
    assert machine.after(BELIEVED_AFTER + 100) == machine.wall
    assert machine.after(100) == machine.wall


def test_a_wall_clock_that_wanders_is_not_followed() -> None:
    machine = Machine()
    for _ in range(30):
        machine.wall += 30
        assert machine.after(100) == machine.running


def test_it_begins_at_the_wall_clock_and_goes_on_with_the_one_that_counts_sleep() -> None:
    clock = Clock()
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert abs(clock._began - before) < 1
    assert abs((clock.now() - datetime.now(UTC)).total_seconds()) < 1
