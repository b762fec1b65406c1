"""Whom escalation told of an incident hears once that it is over, whatever came and went in it meanwhile."""

import pytest

from agents.rules.notify_log import Pending, Reason, together, without
from streams.records import Outcome
from streams.rules_config import load
from tests.agents.stage import at
from tests.agents.test_incident_actions import Stage

RULES = load(
    """
route: {receiver: ops, group_by: [service], group_wait: 10s, group_interval: 30s, repeat_interval: 5m}
receivers: [{name: ops, webhook_configs: [{url: "http://ops.example/"}]}]
incidents:
  people:
    ada: {webhook_configs: [{url: "http://ada.example/"}]}
  policies:
    p: {steps: [{targets: [{person: ada}]}, {delay: 10m, targets: [{person: ada}]}]}
  escalation: [{policy: p}]
""",
    version=1,
)


@pytest.fixture
def stage() -> Stage:
    """Ada was told that one alert fires; another one has joined it since, and the first has ended."""
    made = Stage(configs={1: RULES})
    made.fire()
    made.told(10)
    made.fire(key="2", seconds=20)
    made.told(40)
    made.end(seconds=50)
    made.told(70)
    return made


def ends(stage: Stage, receiver: str) -> int:
    return sum((one.receiver, one.reason) == (receiver, Reason.ALL_RESOLVED) for one in stage.incidents.rows.tasks)


def over(stage: Stage, seconds: int) -> None:
    for later in range(seconds, seconds + 200, 30):
        stage.told(later)
    assert (ends(stage, "ops"), ends(stage, "@ada")) == (1, 1)
    assert not stage.incidents.members


def test_the_alert_that_ends_last_need_not_be_the_one_she_heard_of(stage: Stage) -> None:
    stage.loaded_again()
    stage.end(key="2", seconds=110)
    over(stage, 130)


def test_nobody_else_hears_again_of_what_is_kept_for_her(stage: Stage) -> None:
    stage.fire(key="3", seconds=80)
    assert stage.told(100) == [Reason.NEW_ALERTS]
    assert [one["status"] for one in stage.body()["alerts"]] == ["firing", "firing"]
    assert ends(stage, "@ada") == 0


def test_an_alert_that_fires_anew_ends_for_her_with_its_last_firing(stage: Stage) -> None:
    stage.fire(seconds=80)
    stage.end(key="2", seconds=90)
    stage.told(100)
    assert "flapping" not in {line.event for line in stage.incidents.rows.lines}
    stage.end(seconds=110)
    over(stage, 130)


@pytest.mark.parametrize(("first", "second"), [("sent", "failed"), ("failed", "sent"), ("sent", "sent")])
def test_whom_a_step_tells_before_the_last_one_has_reached_them_is_owed_the_end_of_either(
    first: str, second: str
) -> None:
    made = Stage(configs={1: RULES})
    made.fire()
    made.tick(10)
    made.tick(700)
    tasks = [one for one in made.incidents.rows.tasks if one.receiver == "@ada"]
    assert len(tasks) == 2
    made.loaded_again()
    for task, state in zip(tasks, (first, second), strict=True):
        made.step(
            Outcome(
                group=made.key, task_id=str(task.id), receiver="@ada", integration=0, decision=task.decision,
                state=state, reason="", finished_at=at(710),
            )
        )  # fmt: skip
    made.end(seconds=720)
    for later in range(730, 900, 30):
        made.told(later)
    assert ends(made, "@ada") == 1
    assert (made.group.pending, made.incidents.members) == ({}, {})


def test_an_alert_that_leaves_is_forgotten_by_every_notice_under_way() -> None:
    one, other = (Pending(n, f"t{n}", ("a:1", f"b{n}:1"), (), at(n)) for n in (1, 2))
    left = without(together([one, other]), "a")
    assert left.all_firing == ("b1:1", "b2:1")
