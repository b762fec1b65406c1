"""Incidents of different groups that belong together: one speaks, the others are silent, on whatever partition."""

import json

import pytest

from agents.group_partition import RULES as RULES_TABLE
from agents.group_partition import SAY_AGAIN
from streams.records import ActionName, IncidentStatus
from tests.simulation.test_scenarios import Scenario, alert

RULES = """
route: {receiver: ops, group_by: [alertname], group_wait: 10s, group_interval: 30s, repeat_interval: 4h}
receivers:
  - name: ops
    webhook_configs: [{url: "http://ops.example/"}]
incidents:
  correlation:
"""
SESSION = RULES + "    - {name: one cluster, labels: [cluster], within: 1m}\n"
STORM = RULES + "    - {name: storm, alerts: 4, within: 1m, matchers: [cluster!=lab]}\n"


def status(story: Scenario) -> dict[str, tuple[str, str]]:
    """Each group's status, and the name of the one that speaks for it."""
    groups = story.world.groups()
    names = {group.incident_id: group.labels["alertname"] for group in groups}
    return {group.labels["alertname"]: (group.status.value, names.get(group.handled.parent_id, "")) for group in groups}


def told(story: Scenario) -> list[tuple[str, str]]:
    return sorted(pair for one in story.world.sent for pair in one.alerts)


@pytest.mark.parametrize("partitions", [1, 2, 7])
def test_incidents_that_share_a_label_within_the_window_are_one_to_those_who_are_told(partitions: int) -> None:
    story = Scenario(SESSION, partitions=partitions)
    story.push(0, alert("a", ends=1000, cluster="eu"), alert("x", ends=1000, cluster="us"), alert("y", ends=1000))
    story.push(5, alert("b", ends=1000, cluster="eu"))
    story.push(60, alert("c", ends=1000, cluster="eu"))
    story.push(125, alert("d", ends=1000, cluster="eu"))
    story.world.run(300)
    assert status(story) == {
        "a": ("open", ""), "b": ("merged", "a"), "c": ("merged", "a"), "d": ("open", ""), "x": ("open", ""),
        "y": ("open", ""),
    }  # fmt: skip
    assert told(story) == [(name, "firing") for name in "adxy"]
    story.world.restart()
    story.push(301, alert("a", ends=301, cluster="eu"))
    story.world.run(400)
    assert status(story)["a"] == ("open", "")  # what it speaks for fires on
    story.push(401, *(alert(name, ends=401, cluster="eu") for name in "bc"))
    story.world.run(500)
    assert [status(story)[name][0] for name in "abc"] == ["resolved"] * 3
    assert sorted(set(told(story))) == sorted([("a", "resolved"), *((name, "firing") for name in "adxy")])


@pytest.mark.parametrize("partitions", [1, 5])
def test_many_distinct_alerts_within_a_time_are_one_storm(partitions: int) -> None:
    story = Scenario(STORM, partitions=partitions)
    story.push(0, alert("a", ends=1000, host="1"), alert("z", ends=1000, cluster="lab"))
    story.push(2, alert("b", ends=1000, host="1"), alert("b", ends=1000, host="2"))
    story.push(4, alert("b", ends=1000, host="2"))
    story.world.run(5)
    assert {one for _, one in status(story).values()} == {""}
    story.push(6, alert("c", ends=1000))
    story.push(70, alert("e", ends=1000))
    story.world.run(100)
    assert status(story) == {
        "a": ("open", ""), "b": ("merged", "a"), "c": ("merged", "a"), "e": ("open", ""), "z": ("open", "")
    }  # fmt: skip
    assert {name for name, _ in told(story)} == set("aez")


def test_the_story_says_by_which_rule_which_labels_and_with_whom() -> None:
    story = Scenario(SESSION)
    story.push(0, alert("a", ends=1000, cluster="eu"))
    story.push(5, alert("b", ends=1000, cluster="eu"))
    story.world.run(60)
    parent, child = story.world.groups()
    [line] = [row for stage in story.world.second for row in stage.rows.lines if row.event == "merged"]
    detail = json.loads(line.detail)
    evidence = json.loads(detail["evidence"])
    assert (line.incident_id, line.actor, detail["into"]) == (child.incident_id, "rule one cluster", parent.incident_id)
    assert evidence["labels"] == {"cluster": "eu"}
    assert (evidence["rule"], evidence["within"], evidence["with"]) == ("one cluster", "60 s", [parent.incident_id])
    assert child.suppressed == {next(iter(child.suppressed)): f"correlated under {parent.incident_id}"}


def test_what_a_person_undoes_stays_undone_for_its_next_incidents_too() -> None:
    story = Scenario(SESSION)
    story.push(0, alert("a", ends=5000, cluster="eu"))
    story.push(5, alert("b", ends=5000, cluster="eu"))
    story.world.run(20)
    child = story.world.groups()[1]
    assert (child.status, told(story)) == (IncidentStatus.MERGED, [("a", "firing")])
    story.world.act(child.incident_id, ActionName.UNCORRELATE)
    story.world.run(40)
    assert status(story) == {"a": ("open", ""), "b": ("open", "")}
    assert told(story) == [("a", "firing"), ("b", "firing")]
    story.push(41, alert("b", ends=5000, cluster="eu", host="2"))
    story.push(42, alert("b", ends=42, cluster="eu"), alert("b", ends=42, cluster="eu", host="2"))
    story.push(1000, alert("c", ends=5000, cluster="eu"))
    story.push(1001, alert("b", ends=5000, cluster="eu"), alert("d", ends=5000, cluster="eu"))
    story.world.restart()
    story.world.run(1100)
    assert status(story) == {"a": ("open", ""), "b": ("open", ""), "c": ("open", ""), "d": ("merged", "c")}


def test_what_is_worse_than_the_one_that_would_speak_for_it_keeps_its_voice() -> None:
    story = Scenario(SESSION)
    story.push(0, alert("a", ends=1000, cluster="eu", severity="warning"))
    story.push(5, alert("b", ends=1000, cluster="eu", severity="critical"))
    story.world.run(60)
    assert status(story) == {"a": ("open", ""), "b": ("open", "")}
    story.push(61, alert("a", ends=1000, cluster="eu", severity="critical", host="2"))
    story.world.run(100)
    assert status(story) == {"a": ("open", ""), "b": ("merged", "a")}
    story.push(101, alert("a", ends=101, cluster="eu", severity="critical", host="2"))
    story.world.run(200)
    assert status(story) == {"a": ("open", ""), "b": ("open", "")}


@pytest.mark.parametrize("lost", ["seen", "decided"])
def test_what_was_on_its_way_when_tables_were_lost_is_said_again(lost: str) -> None:
    story = Scenario(SESSION, partitions=1)
    [stage] = story.world.second
    story.push(0, alert("a", ends=1000, cluster="eu"))
    story.world.lose(ActionName.CORRELATE if lost == "decided" else "sighted")
    story.push(5, alert("b", ends=1000, cluster="eu"))
    story.world.run(6)
    assert status(story) == {"a": ("open", ""), "b": ("open", "")}
    story.world.lose("")
    stage.view.tables[RULES_TABLE][SAY_AGAIN] = b"\xc3"
    story.world.restart()
    story.world.run(30)
    assert status(story) == {"a": ("open", ""), "b": ("merged", "a")}
    assert SAY_AGAIN not in stage.view.tables[RULES_TABLE]
