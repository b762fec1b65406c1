"""Other rules while alerts fire: who heard of the start hears of the end, and of no end that is none."""

import pytest

from agents import dedup_work
from tests.simulation.test_scenarios import Scenario, alert

BEFORE = """
route:
  receiver: nobody
  routes:
    - {receiver: ops, matchers: [team="a"], group_by: [alertname], group_wait: 1s, group_interval: 5s}
receivers:
  - name: nobody
  - name: ops
    webhook_configs: [{url: "http://ops.example/"}]
  - name: desk
    webhook_configs: [{url: "http://desk.example/"}]
"""
REGROUPED = BEFORE.replace("group_by: [alertname]", "group_by: [alertname, service]")
HANDED_OVER = BEFORE.replace("receiver: ops,", "receiver: desk,")
ELSEWHERE = BEFORE.replace("""matchers: [team="a"],""", """matchers: [team="b"],""")
TO_DESK = BEFORE.replace(
    """    - {receiver: ops""",
    """    - {receiver: desk, matchers: [service="x"], group_by: [service], group_wait: 1s, group_interval: 5s}
    - {receiver: ops""",
)


@pytest.mark.parametrize(
    ("rules", "ops", "desk"),
    [
        pytest.param(BEFORE, ["firing", "resolved"], [], id="nothing changed"),
        pytest.param(REGROUPED, ["firing", "firing", "resolved"], [], id="another group of the receiver tells of it"),
        pytest.param(HANDED_OVER, ["firing", "resolved"], ["firing", "resolved"], id="the group has another receiver"),
        pytest.param(TO_DESK, ["firing", "resolved"], ["firing", "resolved"], id="another group has another receiver"),
        pytest.param(ELSEWHERE, ["firing", "resolved"], [], id="nobody hears of it any more"),
    ],
)
def test_whoever_was_told_that_it_fires_is_told_that_it_ended(rules: str, ops: list[str], desk: list[str]) -> None:
    story = Scenario(BEFORE)
    story.push(0, alert("a", ends=1000, team="a", service="x"))
    story.world.run(10)
    story.world.reload(rules)
    story.world.run(40)
    told = [one.body["status"] for one in story.world.sent if one.target == "ops/0"]
    assert told == [status for status in ops if status == "firing"]
    story.world.restart()
    story.push(41, alert("a", ends=41, team="a", service="x"))
    story.world.run(200)
    assert [one.body["status"] for one in story.world.sent if one.target == "ops/0"] == ops
    assert [one.body["status"] for one in story.world.sent if one.target == "desk/0"] == desk


def test_an_alert_that_comes_back_to_its_old_group_is_neither_new_there_nor_over() -> None:
    story = Scenario(BEFORE)
    story.push(0, alert("a", ends=1000, team="a", service="x"))
    story.world.run(10)
    story.world.reload(ELSEWHERE)
    story.world.run(20)
    story.world.reload(BEFORE)
    story.world.run(40)
    story.push(41, alert("a", ends=41, team="a", service="x"))
    story.world.run(100)
    assert [(one.body["status"], one.reason) for one in story.world.sent][-1] == ("resolved", "all resolved")
    assert not any(one["flapping"] for sent in story.world.sent for one in sent.body["alerts"] if "flapping" in one)
    assert [one.body["status"] for one in story.world.sent].count("resolved") == 1


def test_many_alerts_are_routed_anew_in_parts_and_a_restart_in_between_forgets_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dedup_work, "ROUTE_LIMIT", 3)
    monkeypatch.setattr(dedup_work, "TICK_LIMIT", 4)
    story = Scenario(BEFORE, partitions=1)
    story.push(0, *(alert(f"a{n}", ends=1000, team="a", service="x") for n in range(20)))
    story.world.run(10)
    story.world.reload(REGROUPED)
    [stage] = story.world.first
    assert len(stage.partition.deadlines) == 20 + 17  # each alert's end, and those that wait to be routed
    story.world.restart()
    story.push(11, alert("a3", ends=11, team="a", service="x"))
    story.world.run(100)
    ended = [one for one in story.world.sent if one.body["status"] == "resolved"]
    assert [one.alerts for one in ended] == [[("a3", "resolved")]]
    new = [one for one in story.world.sent if "service" in one.body["groupLabels"] and one.body["status"] == "firing"]
    assert len(new) == 20
    assert not any(what == "route" for _, what, _ in stage.partition.deadlines.entries())
    story.push(101, *(alert(f"a{n}", ends=101, team="a", service="x") for n in range(20)))
    story.world.run(200)
    ended = [one for one in story.world.sent if one.body["status"] == "resolved"]
    assert sorted(one.alerts[0][0] for one in ended) == sorted(f"a{n}" for n in range(20))
