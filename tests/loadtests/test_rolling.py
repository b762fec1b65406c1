"""Pauses of a rolling restart: only those that touch it count, and each way has its own."""

from loadtests.rolling import Restart, RollingFigures, longest_pause

RESTART = Restart(name="worker-1", began_us=0, ready_us=1, verdict_pause_s=1, confirm_pause_s=4)


def test_a_pause_counts_as_far_as_it_touches_the_stretch() -> None:
    times = [0, 5_000_000, 6_000_000, 9_000_000, 20_000_000]
    assert longest_pause(times, 6_500_000, 7_000_000) == 3
    assert longest_pause(times, 1_000_000, 6_000_000) == 5
    assert longest_pause(times, 9_000_001, 9_000_002) == 11
    assert longest_pause([], 0, 1) == 0


def test_figures_hold_when_everything_was_restarted_without_a_long_pause() -> None:
    assert RollingFigures(restarts=(RESTART,)).hold
    assert not RollingFigures(restarts=()).hold
    assert not RollingFigures(restarts=(RESTART,), undone=("delivery",)).hold
    assert not RollingFigures(restarts=(RESTART,), goal_s=3).hold
