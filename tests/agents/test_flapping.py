"""An alert that comes and goes is told ever more rarely, and its last state always."""

import math

import pytest

from tests.agents.test_incident_actions import Stage

INTERVAL = 30


def told_while_flapping(stage: Stage, times: int, *, on: int = 40, off: int = 60) -> tuple[list[str], int]:
    """The reasons of all notices of so many firings, with the time of the last end."""
    reasons, now = list[str](), 0
    for _ in range(times):
        for moment, firing in ((now, True), (now + on, False)):
            stage.fire(seconds=moment) if firing else stage.end(seconds=moment)
            end = moment + (on if firing else off)
            for seconds in range(moment + 10, end, 10):
                reasons += stage.told(seconds)
        now += on + off
    return reasons, now - off


def last_status(stage: Stage) -> str:
    [shown] = stage.body()["alerts"]
    return str(shown["status"])


@pytest.mark.parametrize("times", [4, 16, 64, 256])
def test_notices_grow_with_the_logarithm_and_the_last_state_is_told(times: int) -> None:
    stage = Stage()
    reasons, now = told_while_flapping(stage, times)
    for seconds in range(now, now + 700, INTERVAL):
        reasons += stage.told(seconds)
    assert len(reasons) <= 4 + 2 * math.log2(times)
    assert last_status(stage) == "resolved"
    assert stage.body()["alerts"][0]["flapping"] == times - 1
    assert not stage.incidents.members
    assert stage.incidents.rows.incidents[stage.group.incident_id].flapping >= 1


def test_it_is_told_that_it_stays_on_in_the_end() -> None:
    stage = Stage()
    reasons, now = told_while_flapping(stage, 11)
    stage.fire(seconds=now + 60)
    for seconds in range(now + 60, now + 800, INTERVAL):
        reasons += stage.told(seconds)
    assert last_status(stage) == "firing"
    stage.end(seconds=now + 1500)
    ends = [reason for seconds in range(now + 1500, now + 2200, INTERVAL) for reason in stage.told(seconds)]
    assert ends[-1] == "all resolved"


def test_alerts_with_longer_pauses_do_not_flap() -> None:
    stage = Stage()
    reasons, _ = told_while_flapping(stage, 6, on=60, off=700)
    assert len(reasons) == 12


def test_in_alertmanagers_mode_and_without_a_window_nothing_flaps() -> None:
    for changed in ({"alertmanager_mode": "on"}, {"flap_window": 0}):
        stage = Stage(**changed)
        reasons, _ = told_while_flapping(stage, 16)
        assert len(reasons) > 20
        assert stage.group.flapping == 0


def test_what_flaps_does_not_hold_back_what_does_not() -> None:
    stage = Stage()
    _, now = told_while_flapping(stage, 20)
    stage.fire(key="2", seconds=now + 60)
    after = [reason for seconds in range(now + 60, now + 200, INTERVAL) for reason in stage.told(seconds)]
    assert len(after) == 1
    assert {alert["status"] for alert in stage.body()["alerts"]} == {"firing", "resolved"}
