"""Escalation through the whole system, with time moved: an hour of it, over a change of the clocks, in milliseconds."""

from datetime import UTC, datetime
from typing import Any, Final

import pytest

from agents.rules.group_state import GroupState
from sinks.task_rows import Task
from streams import keys
from streams.records import Action, ActionArgs, ActionName
from tests.simulation.world import World, at

T0_IN_KIRITIMATI: Final = "Pacific/Kiritimati"
"""Fourteen hours ahead of the simulation's noon in UTC: two in the morning."""
RULES: Final = """
route: {receiver: desk, group_by: [alertname], group_wait: 10s, group_interval: 5m, repeat_interval: 4h}
receivers:
  - {name: desk, webhook_configs: [{url: "http://desk.example/"}]}
  - {name: boss, webhook_configs: [{url: "http://boss.example/"}, {url: "http://two.example/", send_resolved: false}]}
incidents:
  people:
    ada: {webhook_configs: [{url: "http://ada.example/"}]}
    bob:
      webhook_configs: [{url: "http://bob.example/"}]
      time_zone: Pacific/Kiritimati
      quiet_hours: [{from: "22:00", until: "02:45"}]
  policies:
    on-call:
      steps:
        - targets: [{person: ada}]
        - {delay: 20m, targets: [{person: ada}, {person: bob}]}
        - {delay: 30m, targets: [{receiver: boss}]}
  escalation: [{policy: on-call}]
"""
MINUTE: Final = 60
STEP: Final = "escalation step {} of policy on-call"


class Story:
    """A system in which one incident escalates, and what was told of it beside the ordinary notices."""

    def __init__(self, rules: str = RULES, **named: Any) -> None:
        self.world = World(rules, **named)
        self.acts = 0

    def fire(self, minute: float = 0, name: str = "Down", **more: Any) -> None:
        self.world.run(minute * MINUTE)
        labels = {"alertname": name, "severity": "error"}
        self.world.post([{"labels": labels, "annotations": {}, "endsAt": at(10**8).isoformat(), **more}])

    def end(self, minute: float, name: str = "Down") -> None:
        self.fire(minute, name, endsAt=at(minute * MINUTE).isoformat())

    def act(self, minute: float, name: ActionName, of: str = "Down", **args: Any) -> None:
        """What a person does to an incident."""
        self.world.run(minute * MINUTE)
        self.acts += 1
        key, group = self.group(of)
        action = Action(
            id=f"action-{self.acts}", team=group.team, group=key, incident_id=group.incident_id, actor="eve",
            action=name, at=at(self.world.now), args=ActionArgs(**args),
        )  # fmt: skip
        stage = self.world.second[keys.partition_of(key, len(self.world.second))]
        self.world._decided(stage, stage.step(action))

    def group(self, name: str = "Down") -> tuple[str, GroupState]:
        groups = (one for stage in self.world.second for one in stage.groups.items())
        return next((key, group) for key, group in groups if group.labels["alertname"] == name)

    def told(self, until: float = 600) -> list[tuple[float, str, str]]:
        """(minute, target, reason), without the ordinary notices to the desk."""
        self.world.run(until * MINUTE)
        return [
            (round(one.at / MINUTE, 1), one.target, one.reason) for one in self.world.sent if one.target != "desk/0"
        ]

    def seen(self) -> list[int]:
        """The revisions of incidents as people see them."""
        return [row.revision for stage in self.world.second for row in stage.rows.incidents.values()]

    def decisions(self, word: str) -> list[str]:
        return [row.reason for stage in self.world.second for row in stage.rows.decisions if row.decision == word]


def test_three_steps_in_an_hour_tell_people_and_receivers_while_somebody_sleeps_until_the_clock_says_so() -> None:
    story = Story()
    story.fire()
    assert story.told(60) == [
        (0.2, "@ada/0", STEP.format(1)),
        (20.2, "@ada/0", STEP.format(2)),
        (45, "@bob/0", f"{STEP.format(2)}, after quiet hours"),
        (50.2, "boss/0", STEP.format(3)),
        (50.2, "boss/1", STEP.format(3)),
    ]
    assert story.told() == story.told(60)
    assert story.decisions("withheld") == ["quiet hours until 2026-01-01 12:45 UTC"]
    [desk] = [one for one in story.world.sent if one.target == "desk/0"][:1]
    assert desk.at == pytest.approx(10, abs=1)
    assert desk.reason == "first firing"


@pytest.mark.parametrize(
    ("zone", "start", "bob"),
    [
        # In Berlin the clock leaps from two to three, and goes back from three to two: 07:00 is 5 and 6 o'clock UTC.
        ("Europe/Berlin", datetime(2026, 3, 29, 0, 30, tzinfo=UTC), datetime(2026, 3, 29, 5, tzinfo=UTC)),
        ("Europe/Berlin", datetime(2026, 10, 25, 0, 30, tzinfo=UTC), datetime(2026, 10, 25, 6, tzinfo=UTC)),
        ("America/New_York", datetime(2026, 3, 8, 6, 30, tzinfo=UTC), datetime(2026, 3, 8, 11, tzinfo=UTC)),
    ],
)
def test_an_hour_over_a_change_of_the_clocks(zone: str, start: datetime, bob: datetime) -> None:
    rules = RULES.replace(T0_IN_KIRITIMATI, zone).replace("02:45", "07:00")
    story = Story(rules)
    first = (start - at(0)).total_seconds() / MINUTE
    story.fire(first)
    told = [(round(minute - first, 1), target) for minute, target, _ in story.told(first + 600)]
    slept = round((bob - start).total_seconds() / MINUTE, 1)
    assert told == [(0.2, "@ada/0"), (20.2, "@ada/0"), (50.2, "boss/0"), (50.2, "boss/1"), (slept, "@bob/0")]


def test_a_restart_in_the_middle_changes_nothing() -> None:
    story = Story()
    story.fire()
    for minute in (5, 30, 46, 70):
        story.world.run(minute * MINUTE)
        story.world.restart()
    whole = Story()
    whole.fire()
    assert story.told() == whole.told()


def test_acknowledging_stops_it_and_taking_that_back_goes_on_with_what_was_left() -> None:
    story = Story()
    story.fire()
    story.act(15, ActionName.ACKNOWLEDGE)
    assert [target for _, target, _ in story.told(100)] == ["@ada/0"]
    story.act(100, ActionName.UNACKNOWLEDGE)
    assert story.told(300)[1:] == [
        (105.2, "@ada/0", STEP.format(2)), (105.2, "@bob/0", STEP.format(2)),
        (135.2, "boss/0", STEP.format(3)), (135.2, "boss/1", STEP.format(3)),
    ]  # fmt: skip
    assert story.decisions("escalation") == [
        "policy on-call begins", "policy on-call is stopped: acknowledged", "policy on-call goes on",
        "policy on-call has told every step",
    ]  # fmt: skip


def test_a_snooze_pauses_it() -> None:
    story = Story()
    story.fire()
    story.act(15, ActionName.SNOOZE, until=at(65 * MINUTE))
    told = story.told(200)
    assert [minute for minute, _, _ in told] == [0.2, 70.2, 70.2, 100.2, 100.2]


def test_what_is_merged_into_another_incident_leaves_it_to_that() -> None:
    story = Story()
    story.fire(0, "Parent")
    story.fire(1, "Child")
    key, parent = story.group("Parent")
    story.act(15, ActionName.MERGE, of="Child", into=parent.incident_id, into_group=key)
    story.told(60)
    later = {one.body["groupLabels"]["alertname"] for one in story.world.sent if one.at > 15 * MINUTE}
    assert later == {"Parent"}
    assert "policy on-call is stopped: merged into another incident, which speaks for it" in story.decisions(
        "escalation"
    )


def test_who_was_told_hears_of_the_end_and_a_reopened_incident_begins_anew() -> None:
    story = Story()
    story.fire()
    story.end(30)
    assert story.told(34)[2:] == [(30.2, "@ada/0", "all resolved")]
    story.fire(34, startsAt=at(34 * MINUTE).isoformat())
    assert story.told(35)[3:] == [(34.2, "@ada/0", STEP.format(1))]
    _, group = story.group()
    assert group.reopened == 1
    assert group.escalation is not None
    assert group.escalation.run == 2


def test_another_incident_of_the_group_begins_anew() -> None:
    story = Story()
    story.fire()
    story.end(30)
    story.fire(100, startsAt=at(100 * MINUTE).isoformat())
    assert [minute for minute, _, reason in story.told(140) if "step" in reason] == [0.2, 20.2, 100.2, 120.2, 120.2]


def test_a_step_does_not_tell_of_what_is_silenced_while_it_tells_of_the_others() -> None:
    story = Story()
    story.world.silence("s", [("host", "=", "b")], until=300 * MINUTE)
    for host in "ab":
        story.fire(labels={"alertname": "Down", "severity": "error", "host": host})
    story.told(60)
    steps = [one.body["alerts"] for one in story.world.sent if one.reason.startswith("escalation")]
    assert [[alert["labels"]["host"] for alert in alerts] for alerts in steps] == [["a"]] * 5


def test_nobody_is_told_while_all_of_it_is_silenced() -> None:
    story = Story()
    story.fire()
    story.world.run(10 * MINUTE)
    story.world.silence("s", [("alertname", "=", "Down")], until=31 * MINUTE)
    story.world.run(22 * MINUTE)
    waits = story.seen()
    story.world.run(29 * MINUTE)
    assert story.seen() == waits
    told = story.told(40)
    assert [target for _, target, _ in told] == ["@ada/0", "@ada/0"]
    assert told[1][0] == pytest.approx(31.2, abs=1)
    assert [said for said in story.decisions("escalation") if "waits" in said] == [
        "policy on-call waits: silenced by s"
    ]


def test_a_new_policy_takes_what_is_open_and_its_end_ends_it() -> None:
    bare = RULES.partition("incidents:")[0]
    story = Story(bare)
    story.fire()
    assert story.told(7) == []
    story.world.reload(RULES)
    assert [minute for minute, _, _ in story.told(20)] == [7.0]
    story.world.reload(bare)
    assert story.told(100)[1:] == []
    assert story.decisions("escalation")[-1] == "policy on-call has ended: the rules have no policy on-call any more"


def test_a_step_that_reached_nobody_is_not_waited_for() -> None:
    def answer(task: Task, _now: float) -> str:
        return "failed" if task.receiver == "@ada" else "sent"

    story = Story(answer=answer)
    story.fire()
    assert [(minute, target) for minute, target, _ in story.told(60)] == [
        (0.2, "boss/0"),
        (0.2, "boss/1"),
        (45, "@bob/0"),
    ]
    assert [said for said in story.decisions("escalation") if "nobody" in said] == [
        "policy on-call does not wait: its last step reached nobody"
    ] * 2


@pytest.mark.parametrize("partitions", [1, 3])
def test_every_step_of_every_incident_is_told_once(partitions: int) -> None:
    rules = RULES.replace("steps:", "repeat: {times: 2, after: 1h}\n      steps:")
    story = Story(rules, partitions=partitions)
    for number in range(20):
        story.fire(number, f"Down-{number}")
    story.world.run(3600 * 8)
    tasks = [
        (task.incident_id, task.receiver, task.integration, task.reason.removesuffix(", after quiet hours"))
        for stage in story.world.second
        for task in stage.rows.tasks
        if task.reason.startswith("escalation")
    ]
    assert len(tasks) == len(set(tasks)) == 20 * 3 * 5
