"""People's actions on a partition's incidents: states, rows, notices, and what is known when they come twice."""

import itertools
from datetime import datetime
from typing import Any

import msgspec
import pytest

from agents.group_partition import GROUPS, MEMBERS, InputsPartition
from agents.incidents_work import IncidentsWork
from agents.rules.group_state import GroupState
from sinks.action_rows import ActionRow
from streams import codec
from streams.records import Action, ActionArgs, ActionName, InputsRecord, Outcome
from streams.topics import INPUTS
from tests.agents.stage import Dedup, Incidents, alert, at, batch, tick

_numbers = itertools.count(1)


class Stage:
    """One partition of groups, alerts that come to it, and people."""

    def __init__(self, **changed: Any) -> None:
        self.dedup = Dedup(**changed)
        self.incidents = Incidents(**changed)
        self.rows: dict[str, ActionRow] = {}
        self.own = ""
        self.heard: list[Action] = []

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
        for sent in work.outgoing():
            if sent.topic.endswith(INPUTS):
                said = codec.decode_inputs(sent.value)
                self.heard += [said] if isinstance(said, Action) else []
                self.step(said)
        return work

    @property
    def key(self) -> str:
        """The group that is meant: the only one, or the one that was chosen."""
        if self.own:
            return self.own
        [key] = self.incidents.groups
        return key

    def of(self, service: str) -> "Stage":
        """The same partition, meaning the group of one service."""
        self.own = next(key for key, one in self.incidents.groups.items() if one.labels.get("service") == service)
        return self

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
        waits = [
            (name, key, one) for name, group in self.incidents.groups.items() for key, one in group.pending.items()
        ]
        for group, key, waiting in waits:
            receiver, _, number = key.rpartition("/")
            self.step(Outcome(
                group=group, task_id=waiting.task_id, receiver=receiver, integration=int(number),
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
    before = stage.incidents.rows.incidents[stage.group.incident_id]
    refused = stage.act(ActionName.ACKNOWLEDGE, 21, actor="bob")
    assert (refused.outcome, refused.reason) == ("refused", "it is acknowledged already")
    assert stage.incidents.rows.incidents[stage.group.incident_id] is before
    assert stage.group.handled.acknowledged_by == "ada"


def test_what_was_refused_is_not_done_when_it_comes_again(stage: Stage) -> None:
    refused = stage.act(ActionName.UNSNOOZE, 20)
    assert refused.outcome == "refused"
    stage.act(ActionName.SNOOZE, 21, until=at(1000))
    assert stage.incidents.rows.groups == stage.incidents.view.tables[GROUPS]  # what a rebuild would find
    stage.loaded_again()
    assert stage.act(ActionName.UNSNOOZE, 22, again=refused.id) is refused
    assert stage.group.handled.snoozed_until == at(1000)


def test_a_comment_on_what_is_past_is_one_line_though_it_comes_twice_in_one_step(stage: Stage) -> None:
    said = stage.action(ActionName.COMMENT, 20, text="it was the cable")
    past = msgspec.structs.replace(said, incident_id="00000000-0000-4000-8000-00000000abcd")
    work = stage.incidents.step(past, past)
    assert [action_id for action_id, _ in work.actions.late] == [past.id]
    assert [row.outcome for row in work.actions.rows] == ["done"]


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
    assert sum(stage.group.firing) == 2
    stage.end(seconds=1010)
    assert stage.group.status == "open"
    stage.end(key="2", seconds=1020)
    assert stage.group.status == "resolved"


def test_what_opens_again_by_itself_is_acknowledged_by_nobody(stage: Stage) -> None:
    stage.act(ActionName.ACKNOWLEDGE, 20)
    stage.end(seconds=30)
    stage.fire(seconds=40)
    assert (stage.group.status, stage.group.handled.acknowledged_by) == ("open", "")


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


def merged() -> tuple[Stage, str, str]:
    """Two incidents that were told, of which `web` is merged into `api`; their ids."""
    stage = Stage()
    stage.fire(service="api")
    stage.fire(service="web", severity="critical")
    assert stage.told(10) == ["first firing"] * 2
    parent, parent_group = stage.of("api").group.incident_id, stage.key
    child = stage.of("web").group.incident_id
    done = stage.act(ActionName.MERGE, 20, into=parent, into_group=parent_group)
    assert done.outcome == "done"
    return stage, parent, child


def events_of(stage: Stage, incident_id: str) -> list[str]:
    return [event for of, _, event in stage.incidents.rows.timeline if of == incident_id]


def test_a_merged_incident_is_silent_and_its_parent_speaks() -> None:
    stage, parent, child = merged()
    assert (stage.group.status, stage.group.handled.parent_id) == ("merged", parent)
    row = stage.incidents.rows.incidents[child]
    assert (row.parent_id, row.status) == (parent, "merged")
    assert stage.of("api").group.severity == "critical"
    assert stage.group.handled.children[child].worst == 0
    assert "child merged" in events_of(stage, parent)
    stage.fire(service="web", key="2", seconds=30)
    later = [reason for seconds in range(40, 300, 30) for reason in stage.told(seconds)]
    assert later == []
    stage.of("web")
    assert stage.act(ActionName.ACKNOWLEDGE, 300).reason == "it is merged into another incident, which speaks for it"


def test_a_parent_lasts_until_what_was_merged_into_it_has_ended() -> None:
    stage, parent, child = merged()
    stage.end(service="api", seconds=40)
    assert stage.of("api").group.status == "open"
    stage.end(service="web", seconds=50)
    assert stage.of("web").group.status == "resolved"
    assert stage.of("api").group.status == "resolved"
    told = [reason for seconds in range(50, 200, 30) for reason in stage.told(seconds)]
    assert told == ["all resolved"] * 2  # each to those who were told that it fires
    stage.fire(service="web", seconds=210)
    assert stage.of("web").group.status == "merged"
    assert (stage.of("api").group.status, stage.group.reopened) == ("open", 1)
    assert parent != child


def test_what_ended_under_another_is_opened_again_only_where_somebody_can_speak_of_it() -> None:
    stage, *_ = merged()
    stage.end(service="api", seconds=40)
    stage.end(service="web", seconds=50)
    refused = stage.of("web").act(ActionName.REOPEN, 60)
    assert (refused.outcome, refused.reason.rpartition(": ")[2]) == ("refused", "split it first")
    stage.act(ActionName.SPLIT, 70)
    assert stage.act(ActionName.REOPEN, 80).outcome == "done"
    assert stage.group.status == "open"


def test_who_resolves_a_parent_resolves_what_was_merged_into_it() -> None:
    stage, _, child = merged()
    stage.of("api").act(ActionName.RESOLVE, 30)
    assert stage.group.status == "resolved"
    assert stage.of("web").group.status == "resolved"
    assert events_of(stage, child)[-2:] == ["resolved", "comment"]


def test_split_it_speaks_for_itself_and_no_rule_puts_it_back() -> None:
    stage, parent, child = merged()
    assert stage.act(ActionName.UNCORRELATE, 29).outcome == "refused"
    stage.act(ActionName.SPLIT, 30)
    assert (stage.group.status, stage.group.handled.parent_id) == ("open", "")
    assert stage.of("api").group.handled.children == {}
    assert stage.group.severity == "error"
    group = stage.key
    stage.of("web")
    back = stage.act(ActionName.CORRELATE, 31, into=parent, into_group=group, rule="same", actor="system")
    assert back.reason == "a person has taken it away from that incident"
    assert stage.act(ActionName.MERGE, 32, into=parent, into_group=group).outcome == "done"
    assert child in stage.of("api").group.handled.children


def test_what_a_former_owner_says_late_changes_nothing() -> None:
    stage, parent, child = merged()
    group = stage.of("api").key
    child_says = stage.heard[-1]  # CHILD
    stage.of("web").act(ActionName.SPLIT, 30)
    gone = stage.heard[-1]
    stage.step(child_says)
    assert stage.of("api").group.handled.children == {}
    assert stage.of("web").act(ActionName.MERGE, 40, into=parent, into_group=group).outcome == "done"
    stage.step(gone)
    stage.step(child_says)
    assert set(stage.of("api").group.handled.children) == {child}
    assert stage.of("web").group.status == "merged"
    stage.end(service="web", seconds=50)
    stage.end(service="api", seconds=51)
    assert stage.of("api").group.status == "resolved"


def test_a_word_that_was_refused_stays_so_and_so_does_its_answer() -> None:
    stage, parent, child = merged()
    stage.fire(service="db")
    web = stage.of("web").key
    refused = stage.of("db").action(ActionName.MERGE, 30, into=child, into_group=web)
    stage.step(refused)
    child_says, orphan, _ = stage.heard[-3:]
    assert [one.action for one in (child_says, orphan)] == [ActionName.CHILD, ActionName.ORPHAN]
    assert stage.of("db").group.status == "open"
    stage.of("web").act(ActionName.SPLIT, 40)
    stage.step(child_says)
    assert stage.of("web").group.handled.children == {}
    assert stage.of("db").act(ActionName.MERGE, 50, into=child, into_group=web).outcome == "done"
    stage.step(orphan)
    assert stage.of("db").group.handled.parent_id == child
    assert stage.of("web").group.handled.children[stage.of("db").group.incident_id].worst >= 0
    assert parent != child


@pytest.mark.parametrize("interleaved", [False, True])
def test_of_two_that_are_merged_into_each_other_at_once_one_goes_on_speaking(*, interleaved: bool) -> None:
    stage = Stage()
    stage.fire(service="api")
    stage.fire(service="web")
    api, api_group = stage.of("api").group.incident_id, stage.key
    web, web_group = stage.of("web").group.incident_id, stage.key
    one = stage.of("api").action(ActionName.MERGE, 5, into=web, into_group=web_group)
    other = stage.of("web").action(ActionName.MERGE, 5, into=api, into_group=api_group)
    sent = []
    for action in (one, other):  # both are decided before either hears of the other
        sent += list(stage.incidents.step(action).outgoing())
    assert {stage.of(name).group.status for name in ("api", "web")} == {"merged"}
    if interleaved:
        answers = [
            answer
            for record in sent
            for answer in stage.incidents.step(codec.decode_inputs(record.value)).outgoing()
        ]  # fmt: skip
        sent = answers
    for record in sent:
        stage.step(codec.decode_inputs(record.value))
    found = [stage.of(name).group.status for name in ("api", "web")]
    assert found == (["open", "open"] if interleaved else ["open", "merged"])
    speaks = stage.of("api").group.handled.children
    assert set(speaks) == (set() if interleaved else {web})


def test_what_is_merged_into_an_incident_that_is_over_goes_on_speaking() -> None:
    stage = Stage()
    stage.fire(service="api")
    stage.fire(service="web")
    api, api_group = stage.of("api").group.incident_id, stage.key
    stage.act(ActionName.RESOLVE, 5)
    stage.of("web").act(ActionName.MERGE, 6, into=api, into_group=api_group)
    assert stage.group.status == "open"
    stage.act(ActionName.MERGE, 7, into="00000000-0000-4000-8000-000000000000", into_group=api_group)
    assert stage.group.status == "open"


def test_a_parent_that_speaks_for_others_is_not_merged_itself() -> None:
    stage, parent, child = merged()
    group = stage.key
    refused = stage.of("api").act(ActionName.MERGE, 40, into=child, into_group=group)
    assert refused.reason == "others are merged into it: split them first"
    assert stage.act(ActionName.MERGE, 41, into=parent, into_group=group).reason == "it cannot be merged into itself"


def test_a_snooze_ends_by_itself_and_what_was_withheld_is_told(stage: Stage) -> None:
    stage.act(ActionName.SNOOZE, 20, until=at(1000))
    stage.fire(key="2", seconds=100)
    stage.loaded_again()
    assert not any(stage.told(seconds) for seconds in range(40, 990, 30))
    assert stage.told(1000) == ["new alerts"]
    assert (stage.group.status, stage.group.handled.snoozed_until) == ("open", None)
    assert events_of(stage, stage.group.incident_id).count("snooze ended") == 1


def test_an_incident_of_which_nothing_is_heard_is_resolved_by_timeout() -> None:
    stage = Stage(stale_after=3600)
    stage.fire()
    assert stage.told(10) == ["first firing"]
    stage.act(ActionName.COMMENT, 1000, text="still there?")
    told = [reason for seconds in range(40, 4580, 30) for reason in stage.told(seconds)]
    assert set(told) == {"repeat interval passed"}
    assert stage.group.status == "open"
    assert [reason for seconds in range(4610, 4690, 30) for reason in stage.told(seconds)][-1] == "all resolved"
    assert (stage.group.status, stage.group.handled.resolved_by) == ("resolved", "timeout")
    stage.fire(seconds=4700, summary="still down")
    assert stage.group.status == "resolved"


def test_an_incident_opened_by_hand_is_told_at_once_and_lasts_until_it_is_resolved() -> None:
    stage = Stage()
    action = Action(
        id="00000000-0000-4000-8000-00000000aaaa", team="default", group="ab" * 16,
        incident_id="00000000-0000-4000-8000-00000000bbbb", actor="ada", action=ActionName.OPEN, at=at(0),
        args=ActionArgs(title="The vendor called", severity="critical", receiver="both", labels={"vendor": "x"}),
    )  # fmt: skip
    stage.step(action)
    stage.step(action)
    assert stage.rows[action.id].outcome == "done"
    assert events_of(stage, action.incident_id) == ["opened"]
    assert stage.told(1) == ["first firing"] * 2
    assert {task.receiver for task in stage.incidents.rows.tasks} == {"both"}
    [shown] = stage.body()["alerts"]
    assert (shown["labels"], shown["status"]) == ({"alertname": "The vendor called", "vendor": "x"}, "firing")
    assert stage.group.handled.by_hand
    stage.act(ActionName.RESOLVE, 60)
    assert stage.told(60) == ["all resolved"]
    stage.act(ActionName.REOPEN, 70)
    assert [reason for s in (70, 100) for reason in stage.told(s)] == ["first firing"] * 2
    stage.act(ActionName.RESOLVE, 200)
    for seconds in range(200, 300, 30):
        stage.told(seconds)
    assert not stage.incidents.members
    stage.tick(200 + 25 * 3600)
    assert not stage.incidents.groups


def test_a_redaction_blanks_and_says_so(stage: Stage) -> None:
    action = stage.action(ActionName.REDACT, 20, field="title", reason="a name in it")
    title = stage.group.title
    work = stage.step(action)
    assert stage.group.title == "[redacted]"
    assert [(one.field, one.old) for one in work.actions.redactions] == [("title", title)]
    assert stage.act(ActionName.REDACT, 21, seq=77, reason="a password").outcome == "done"
    assert stage.act(ActionName.REDACT, 22, reason="x").outcome == "refused"
    assert events_of(stage, stage.group.incident_id)[-2:] == ["redacted", "redacted"]


def test_what_people_made_of_incidents_is_built_again_from_the_rows() -> None:
    stage, _, _ = merged()
    stage.of("api").act(ActionName.ASSIGN, 30, assignee="bob")
    stage.act(ActionName.SNOOZE, 31, until=at(5000))
    rows, tables = stage.incidents.rows, stage.incidents.view.tables
    assert rows.groups == tables[GROUPS]
    members = {f"{row.group_key}:{row.identity}": row.state for row in rows.links.values() if row.state is not None}
    assert members == tables[MEMBERS]
    stage.incidents.partition = InputsPartition.over(
        stage.incidents.view, pg_applied=0, config_version=1, watermark=at(31)
    )  # fmt: skip
    assert ("snooze", stage.key) in [entry[1:] for entry in stage.incidents.partition.deadlines.entries()]


def test_a_state_of_before_people_could_act_is_read(stage: Stage) -> None:
    fields = msgspec.msgpack.decode(stage.incidents.view.tables[GROUPS][stage.key])
    known = 1 + GroupState.__struct_fields__.index("muted_by")
    old = msgspec.msgpack.decode(msgspec.msgpack.encode(fields[: known + 1]), type=GroupState)  # the tag comes first
    assert (old.incident_id, old.handling, old.flapping) == (stage.group.incident_id, None, 0)
