"""Alertmanager's own acceptance scenarios: these batches in these seconds, and nothing else.

After `test/with_api_v2/acceptance` of prometheus/alertmanager: what is pushed
when, and what a receiver must have got by then. Time is moved.
"""

from typing import Any

import pytest

from agents.rules.notify_log import RETENTION
from sinks.task_rows import Task
from tests.simulation.world import World, at

RULES = """
route: {receiver: default, group_by: [alertname], group_wait: 1s, group_interval: 1s, repeat_interval: 1h}
receivers:
  - name: default
    webhook_configs: [{url: "http://one.example/"}]
"""
TWO = """
route: {receiver: default, group_by: [alertname], group_wait: 1s, group_interval: 1s, repeat_interval: 1h}
receivers:
  - name: default
    webhook_configs: [{url: "http://one.example/"}, {url: "http://two.example/", send_resolved: false}]
"""


def alert(name: str = "test", *, starts: float | None = None, ends: float | None = None, **labels: str) -> Any:
    body: dict[str, Any] = {"labels": {"alertname": name, **labels}, "annotations": {}}
    if starts is not None:
        body["startsAt"] = at(starts).isoformat()
    if ends is not None:
        body["endsAt"] = at(ends).isoformat()
    return body


class Scenario:
    """A system, what was pushed into it, and what is wanted of its receivers."""

    def __init__(self, rules: str = RULES, **named: Any) -> None:
        self.world = World(rules, **named)

    def push(self, seconds: float, *alerts: Any) -> None:
        self.world.run(seconds)
        self.world.post(list(alerts))

    def heard(self, target: str = "default/0") -> list[tuple[float, list[tuple[str, str]]]]:
        return [(round(one.at), one.alerts) for one in self.world.sent if one.target == target]


def test_an_alert_is_repeated_by_its_interval_rounded_up_to_a_flush_and_then_resolves_by_timeout() -> None:
    story = Scenario(RULES.replace("repeat_interval: 1h", "repeat_interval: 2500ms"), resolve_timeout=10)
    story.push(0, alert())
    story.world.run(60)
    fires = [("test", "firing")]
    assert story.heard() == [(1, fires), (4, fires), (7, fires), (10, [("test", "resolved")])]


@pytest.mark.parametrize("ends", [None, 100.0])
def test_alerts_that_overlap_are_merged_and_keep_the_earliest_start(ends: float | None) -> None:
    story = Scenario(RULES.replace("group_interval: 1s", "group_interval: 5s"))
    story.push(0, alert(starts=0, ends=ends))
    story.push(3, alert(starts=2, ends=ends))
    story.push(4, alert("other", starts=4))
    story.push(8, alert(ends=8))
    story.world.run(60)
    [first, ended] = [one for one in story.world.sent if one.body["groupLabels"]["alertname"] == "test"]
    assert (first.body["alerts"][0]["startsAt"], ended.body["alerts"][0]["startsAt"]) == (at(0).isoformat(),) * 2
    assert (ended.body["alerts"][0]["status"], ended.body["alerts"][0]["endsAt"]) == ("resolved", at(8).isoformat())


def test_an_explicit_end_beats_a_made_up_one() -> None:
    story = Scenario(resolve_timeout=4)
    story.push(0, alert(starts=0, ends=20))
    story.push(1, alert(starts=1))  # its made-up end would be at 5
    story.world.run(15)
    assert story.heard() == [(1, [("test", "firing")])]
    story.world.run(60)
    assert story.heard()[1:] == [(20, [("test", "resolved")])]


def test_a_receiver_that_fails_is_tried_again_and_the_healthy_one_hears_everything_once() -> None:
    def answer(task: Task, now: float) -> "str | float":
        return 0.3 if task.integration == 1 and now < 5 else "sent"

    story = Scenario(TWO.replace(", send_resolved: false", ""), answer=answer)
    story.push(0, alert())
    story.world.run(6)
    story.push(6, alert(ends=6))
    story.world.run(60)
    assert story.heard("default/0") == [(1, [("test", "firing")]), (7, [("test", "resolved")])]
    assert story.heard("default/1") == [(5, [("test", "firing")]), (7, [("test", "resolved")])]
    assert len([target for _, target in story.world.tried if target == "default/0"]) == 2


def test_what_comes_within_group_wait_is_one_batch_and_later_ones_wait_for_the_interval() -> None:
    rules = RULES.replace("group_by: [alertname]", "group_by: []").replace("group_interval: 1s", "group_interval: 5s")
    story = Scenario(rules)
    story.push(0, alert("a"))
    story.push(0.5, alert("b"))
    story.push(2, alert("c"))
    story.push(3, alert("d"))
    story.world.run(20)
    fires = [(name, "firing") for name in "abcd"]
    assert story.heard() == [(1, fires[:2]), (6, fires)]


def test_ends_are_sent_only_to_those_who_want_them_and_the_next_firing_is_new_to_both() -> None:
    story = Scenario(TWO)
    story.push(0, alert(ends=100))
    story.push(5, alert(ends=5))
    story.push(10, alert(ends=100))
    story.world.run(60)
    assert story.heard("default/0") == [
        (1, [("test", "firing")]),
        (6, [("test", "resolved")]),
        (11, [("test", "firing")]),
    ]
    assert story.heard("default/1") == [(1, [("test", "firing")]), (11, [("test", "firing")])]


def test_after_a_cold_start_everything_goes_on_where_it_stood() -> None:
    story = Scenario(RULES.replace("group_wait: 1s", "group_wait: 5s"))
    story.push(0, alert(ends=30))
    story.world.run(2)
    story.world.restart()
    story.world.run(10)
    assert story.heard() == [(5, [("test", "firing")])]
    story.world.restart()
    story.world.run(60)
    assert story.heard()[1:] == [(30, [("test", "resolved")])]


def test_a_reload_keeps_what_was_told() -> None:
    story = Scenario()
    story.push(0, alert(ends=50))
    story.world.run(3)
    story.world.reload(RULES.replace("repeat_interval: 1h", "repeat_interval: 2h"))
    story.world.run(40)
    assert story.heard() == [(1, [("test", "firing")])]
    story.world.run(60)
    assert story.heard()[1:] == [(50, [("test", "resolved")])]


def test_a_receiver_that_is_slower_than_the_interval_gets_one_notice_at_a_time_and_none_twice() -> None:
    story = Scenario(answer=lambda _task, now: "sent" if now >= 5 else 5 - now)
    story.push(0, alert(ends=100))
    story.push(2, alert("test", job="x", ends=100))
    story.world.run(30)
    fires = ("test", "firing")
    assert story.heard() == [(5, [fires]), (6, [fires, fires])]


def test_a_silence_mutes_from_when_it_is_added_until_it_is_deleted() -> None:
    story = Scenario(RULES.replace("repeat_interval: 1h", "repeat_interval: 1s"))
    story.push(0, alert("loud", ends=100), alert("quiet", ends=100))
    story.world.run(3.5)
    story.world.silence("s", [("alertname", "=", "quiet")], until=1000)
    before = len([one for one in story.world.sent if one.alerts == [("quiet", "firing")]])
    story.world.run(9.5)
    quiet = [round(one.at) for one in story.world.sent if one.alerts == [("quiet", "firing")]]
    assert len(quiet) == before
    story.world.expire("s")
    story.world.run(12)
    later = [round(one.at) for one in story.world.sent if one.alerts == [("quiet", "firing")]][before:]
    assert later[0] == 10
    assert [round(one.at) for one in story.world.sent if one.alerts == [("loud", "firing")]] == [1, 3, 5, 7, 9, 11]


def test_a_silence_that_is_shortened_ends_sooner_and_one_that_is_edited_mutes_others() -> None:
    story = Scenario()
    story.world.silence("s", [("alertname", "=", "a")], until=1000)
    story.push(0, alert("a", ends=100), alert("b", ends=100))
    story.world.run(4)
    assert story.heard() == [(1, [("b", "firing")])]
    story.world.expire("s")
    story.world.silence("t", [("alertname", "=~", "b|c")], until=1000)
    story.push(5, alert("c", ends=100))
    story.world.run(20)
    assert story.heard()[1:] == [(5, [("a", "firing")])]


INHIBIT = (
    RULES
    + """
inhibit_rules:
  - source_matchers: [alertname="dc"]
    target_matchers: [alertname="job"]
    equal: [zone]
"""
)


def test_an_alert_is_inhibited_while_its_source_fires_and_is_told_when_that_has_ended() -> None:
    story = Scenario(INHIBIT)
    story.push(0, alert("job", ends=100, zone="a"), alert("job", ends=100, zone="b"))
    story.push(3, alert("dc", ends=100, zone="a"))
    story.push(5, alert("job", ends=100, zone="a", instance="2"), alert("job", ends=100, zone="b", instance="2"))
    story.world.run(8)
    job = ("job", "firing")
    assert story.heard() == [(1, [job, job]), (4, [("dc", "firing")]), (6, [job, job])]
    assert {one["labels"]["zone"] for one in story.world.sent[-1].body["alerts"]} == {"b"}
    story.push(9, alert("dc", ends=9, zone="a"))
    story.world.run(20)
    assert story.heard()[3:] == [(10, [("dc", "resolved")]), (10, [job, job, job, job])] or story.heard()[3:] == [
        (9, [job, job, job, job]),
        (10, [("dc", "resolved")]),
    ]


def test_source_and_target_that_end_at_once_are_both_told() -> None:
    story = Scenario(INHIBIT)
    story.push(0, alert("job", ends=100, zone="a"))
    story.push(2, alert("dc", ends=100, zone="a"))
    story.push(6, alert("job", ends=6, zone="a"), alert("dc", ends=6, zone="a"))
    story.world.run(20)
    ended = sorted(alerts for _, alerts in story.heard() if alerts[0][1] == "resolved")
    assert ended == [[("dc", "resolved")], [("job", "resolved")]]
    assert len(story.heard()) == 4


def test_an_inhibition_rule_without_equal_labels_mutes_every_target() -> None:
    story = Scenario(INHIBIT.replace("    equal: [zone]\n", ""))
    story.push(0, alert("dc", ends=100, zone="a"))
    story.push(1, alert("job", ends=100, zone="b"))
    story.world.run(10)
    assert story.heard() == [(1, [("dc", "firing")])]


WIDE = """
route:
  receiver: nobody
  group_by: ["Überfluß"]
  group_wait: 1s
  group_interval: 1s
  routes:
    - {receiver: wide, matchers: ['"Überfluß"=~"naïve|🙂"']}
receivers:
  - name: nobody
  - name: wide
    webhook_configs: [{url: "http://one.example/"}]
"""


def test_names_of_any_letters_group_and_match() -> None:
    story = Scenario(WIDE)
    story.push(0, alert("a", Überfluß="🙂"), alert("b", Überfluß="else"))
    story.world.run(5)
    assert [one.body["groupLabels"] for one in story.world.sent] == [{"Überfluß": "🙂"}]


def test_an_interval_of_days_repeats_when_the_log_no_longer_remembers() -> None:
    story = Scenario(
        RULES.replace("repeat_interval: 1h", "repeat_interval: 30d").replace("group_interval: 1s", "group_interval: 1h")
    )
    story.push(0, alert(ends=40 * 86_400))
    story.world.run(10 * 86_400)
    hours = [round(seconds / 3600) for seconds, _ in story.heard()]
    assert hours[0] == 0
    assert hours[1] == RETENTION.total_seconds() // 3600 + 1
