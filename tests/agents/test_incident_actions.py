"""People's actions on a partition's incidents: states, rows, notices, and what is known when they come twice."""

import itertools
from datetime import datetime
from typing import Any

import msgspec
import pytest

from agents.group_partition import InputsPartition
from agents.incidents_work import IncidentsWork
from agents.rules.incident import GroupState
from sinks.action_rows import ActionRow
from streams import codec
from streams.records import Action, ActionArgs, ActionName, InputsRecord, Outcome
from tests.agents.stage import Dedup, Incidents, alert, at, batch, tick

_numbers = itertools.count(1)


class Stage:
    """One partition of groups, alerts that come to it, and people."""

    def __init__(self, **changed: Any) -> None:
        self.dedup = Dedup(**changed)
        self.incidents = Incidents(**changed)
        self.rows: dict[str, ActionRow] = {}

    def hear(self, *alerts: Any, seconds: float) -> None:
        for record in self.dedup.step(batch(*alerts, seconds=seconds)):
            self.step(codec.decode_inputs(record.value))

    def fire(self, name: str = "a", *, seconds: float = 0, **more: Any) -> None:
        self.hear(alert(name, event_at=at(seconds), **more), seconds=seconds)

    def end(self, name: str = "a", *, seconds: float, **more: Any) -> None:
        self.hear(alert(name, firing=False, event_at=at(seconds), **more), seconds=seconds)

    def step(self, record: InputsRecord) -> IncidentsWork:
        work = self.incidents.step(record)
        for row in work.actions.rows:
            self.rows.setdefault(row.id, row)
        return work

    @property
    def key(self) -> str:
        [key] = self.incidents.groups
        return key

    @property
    def group(self) -> GroupState:
        return self.incidents.groups[self.key]

    def act(self, name: ActionName, seconds: float, *, actor: str = "ada", again: str = "", **args: Any) -> ActionRow:
        action = self.action(name, seconds, actor=actor, again=again, **args)
        self.step(action)
        return self.rows[action.id]

    def action(self, name: ActionName, seconds: float, *, actor: str = "ada", again: str = "", **args: Any) -> Action:
        number = next(_numbers)
        return Action(
            id=again or f"00000000-0000-4000-8000-{number:012}", team="default", group=self.key,
            incident_id=self.group.incident_id, actor=actor, action=name, at=at(seconds), args=ActionArgs(**args),
        )  # fmt: skip

    def tick(self, seconds: float) -> list[str]:
        """Time passes; the reasons of the notices that it makes."""
        return [task.reason for task in self.step(tick(seconds)).tasks]

    def delivered(self, seconds: float) -> None:
        """Every notice under way has been sent."""
        for key, waiting in self.group.pending.items():
            receiver, _, number = key.rpartition("/")
            self.step(Outcome(
                group=self.key, task_id=waiting.task_id, receiver=receiver, integration=int(number),
                decision=waiting.decision, state="sent", reason="", finished_at=at(seconds),
            ))  # fmt: skip

    def told(self, seconds: float) -> list[str]:
        reasons = self.tick(seconds)
        self.delivered(seconds)
        return reasons

    def body(self) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.json.decode(self.incidents.notices[-1].body)
        return found

    def loaded_again(self) -> None:
        """As after a move to another worker."""
        self.incidents.partition = InputsPartition.over(
            self.incidents.view, pg_applied=self.incidents.view.offset, config_version=1,
            watermark=self.incidents.partition.watermark,
        )  # fmt: skip


@pytest.fixture
def stage() -> Stage:
    made = Stage()
    made.fire()
    assert made.told(10) == ["first firing"]
    return made


def test_acknowledging_stops_repeats_and_not_what_is_new(stage: Stage) -> None:
    assert stage.act(ActionName.ACKNOWLEDGE, 20, comment="on it").outcome == "done"
    assert (stage.group.status, stage.group.acknowledged_at) == ("acknowledged", at(20))
    assert stage.group.handled.acknowledged_by == "ada"
    events = [event for _, _, event in stage.incidents.rows.timeline]
    assert events[-2:] == ["acknowledged", "comment"]
    quiet = [stage.told(seconds) for seconds in range(40, 4000, 30)]
    assert not any(quiet)
    stage.fire(key="2", seconds=4000)
    assert stage.told(4035) == ["new alerts"]
    stage.act(ActionName.UNACKNOWLEDGE, 4040)
    assert (stage.group.status, stage.group.acknowledged_at) == ("open", None)
    assert [reason for seconds in range(4065, 4400, 30) for reason in stage.told(seconds)] == ["repeat interval passed"]


def test_an_action_that_cannot_be_done_is_refused_with_its_reason(stage: Stage) -> None:
    stage.act(ActionName.ACKNOWLEDGE, 20)
    revision = stage.group.revision
    refused = stage.act(ActionName.ACKNOWLEDGE, 21, actor="bob")
    assert (refused.outcome, refused.reason) == ("refused", "it is acknowledged already")
    assert (stage.group.revision, stage.group.handled.acknowledged_by) == (revision, "ada")


def test_the_same_action_twice_is_done_once_also_after_a_move(stage: Stage) -> None:
    said = stage.act(ActionName.COMMENT, 20, text="looking")
    lines = len(stage.incidents.rows.timeline)
    stage.act(ActionName.COMMENT, 21, text="looking", again=said.id)
    stage.loaded_again()
    stage.act(ActionName.COMMENT, 22, text="looking", again=said.id)
    assert len(stage.incidents.rows.timeline) == lines


def test_who_resolves_what_still_fires_has_its_end_told_once(stage: Stage) -> None:
    stage.act(ActionName.RESOLVE, 20)
    assert (stage.group.status, stage.group.resolved_at) == ("resolved", at(20))
    assert stage.told(20) == ["all resolved"]
    assert [one["status"] for one in stage.body()["alerts"]] == ["resolved"]
    assert not any(stage.told(seconds) for seconds in range(50, 2000, 30))
    stage.end(seconds=2000)
    assert not any(stage.told(seconds) for seconds in range(2000, 2100, 30))
    assert not stage.incidents.members
    assert stage.group.members == 0


def test_what_fires_on_opens_nothing_and_what_fires_anew_does(stage: Stage) -> None:
    stage.act(ActionName.RESOLVE, 20)
    stage.told(20)
    stage.fire(seconds=60, summary="it is still down")
    assert stage.group.status == "resolved"
    stage.end(seconds=70)
    stage.fire(seconds=80)
    assert (stage.group.status, stage.group.reopened) == ("open", 1)
    assert not stage.group.handled.resolved_by


def test_an_alert_that_joins_after_the_window_begins_a_new_incident_that_has_the_firing_ones(stage: Stage) -> None:
    first = stage.group.incident_id
    stage.act(ActionName.RESOLVE, 20)
    stage.told(20)
    stage.fire(key="2", seconds=1000)
    assert stage.group.incident_id != first
    assert (stage.group.predecessor_id, stage.group.handling) == (first, None)
    assert {member.incident_id for member in stage.incidents.members.values()} == {stage.group.incident_id}
    links = stage.incidents.rows.links
    assert sorted(at_[0] == first for at_, link in links.items() if link.firing) == [False, False]


def test_reopened_by_hand_it_is_told_again(stage: Stage) -> None:
    stage.act(ActionName.RESOLVE, 20)
    stage.told(20)
    stage.act(ActionName.REOPEN, 30)
    assert (stage.group.status, stage.group.resolved_at) == ("open", None)
    assert stage.told(50) == ["first firing"]


def test_a_snooze_withholds_everything_and_ends_with_the_incident(stage: Stage) -> None:
    stage.act(ActionName.SNOOZE, 20, until=at(1000))
    assert not stage.group.speaks
    stage.fire(key="2", seconds=100)
    assert not any(stage.told(seconds) for seconds in range(40, 900, 30))
    stage.end(seconds=910)
    stage.end(key="2", seconds=911)
    assert (stage.group.status, stage.group.handled.snoozed_until) == ("resolved", None)
    assert [reason for seconds in range(911, 990, 30) for reason in stage.told(seconds)] == ["all resolved"]


@pytest.mark.parametrize("until", [None, at(20), at(10)])
def test_a_snooze_into_the_past_is_refused(stage: Stage, until: datetime | None) -> None:
    assert stage.act(ActionName.SNOOZE, 20, until=until).outcome == "refused"


def test_a_severity_that_a_person_set_stays_until_it_is_automatic_again(stage: Stage) -> None:
    stage.act(ActionName.EDIT, 20, severity="info", title="Slow", labels={"ticket": "7"})
    stage.fire(key="2", seconds=30, severity="critical")
    assert (stage.group.severity, stage.group.title, stage.group.handled.labels) == ("info", "Slow", {"ticket": "7"})
    stage.act(ActionName.EDIT, 40, severity="auto")
    assert stage.group.severity == "critical"


def test_an_edit_of_what_somebody_else_has_edited_is_refused(stage: Stage) -> None:
    seen = stage.group.revision
    assert stage.act(ActionName.EDIT, 20, title="One", expected=seen).outcome == "done"
    assert stage.act(ActionName.EDIT, 21, title="Two", expected=seen, actor="bob").outcome == "refused"
    assert stage.act(ActionName.EDIT, 22, title="Two", expected=stage.group.revision).outcome == "done"


def test_assignee_links_and_comments_are_kept_and_told(stage: Stage) -> None:
    stage.act(ActionName.ASSIGN, 20, assignee="bob")
    stage.act(ActionName.LINK, 21, url="https://wiki/x", text="runbook")
    stage.act(ActionName.LINK, 22, url="https://wiki/x", text="the runbook")
    handled = stage.group.handled
    assert (handled.assignee, [(link.href, link.text) for link in handled.links]) == (
        "bob", [("https://wiki/x", "the runbook")],
    )  # fmt: skip
    row = stage.incidents.rows.incidents[stage.group.incident_id]
    assert row.handling is not None
    assert msgspec.json.decode(row.handling)["assignee"] == "bob"


def test_a_past_incident_takes_comments_alone(stage: Stage) -> None:
    comment = stage.action(ActionName.COMMENT, 2000, text="it was the cable")
    reopen = stage.action(ActionName.REOPEN, 2001)
    stage.end(seconds=20)
    stage.told(50)
    stage.fire(seconds=1000)
    assert stage.group.incident_id != comment.incident_id
    work = stage.step(comment)
    assert [(row.incident_id, row.event) for _, row in work.actions.late] == [(comment.incident_id, "comment")]
    stage.step(reopen)
    assert [stage.rows[one.id].outcome for one in (comment, reopen)] == ["done", "refused"]


def test_a_text_that_postgres_cannot_keep_stops_no_step(stage: Stage) -> None:
    stage.act(ActionName.ASSIGN, 20, assignee="a\x00b", actor="x\x00")
    assert stage.group.handled.assignee == "a\ufffdb"


def test_an_action_that_cannot_be_handled_is_a_dead_letter(stage: Stage) -> None:
    action = stage.action(ActionName.ASSIGN, 20, assignee="bob")
    work = stage.incidents.step(action, poisoned={(stage.incidents.view.offset + 1, 0): "why"})
    assert [(row.event_id, row.reason) for row in work.dead_rows()] == [(action.id, "why")]
