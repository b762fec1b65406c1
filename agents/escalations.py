"""Escalation of one group's incident: what its clock leads to, as tasks and words. Pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from agents import notices
from agents.flushes import Decision
from agents.rules import escalation, grouping, notify_log
from agents.rules.escalation import Advanced, Standing
from agents.rules.group_state import GroupState, Member
from agents.rules.grouping import integration_key
from agents.rules.incident import Event
from sinks import task_rows
from streams.records import IncidentStatus
from streams.rules_config import Receiver, RulesConfig


class Escalated(NamedTuple):
    """A group after a step: its rows, and lines for the story."""

    group: GroupState
    notices: tuple[task_rows.Notice, ...] = ()
    tasks: tuple[task_rows.Task, ...] = ()
    events: tuple[Event, ...] = ()
    decisions: tuple[Decision, ...] = ()


class Setting(NamedTuple):
    """What a step needs to know beside the group: `receiver` is the route's own, `muted` what mutes all of it."""

    config: RulesConfig
    receiver: str
    now: datetime
    page_url: str
    strict: bool
    muted: str = ""


def standing(group: GroupState, receiver: str) -> Standing:
    """The group's incident as escalation sees it."""
    return Standing(
        active=group.alive,
        stopped_by=stopped_by(group),
        labels=group.labels,
        receiver=receiver,
        severity=group.severity,
        flush_at=group.next_flush_at if not group.flushed else None,
    )


def _waits(group: GroupState) -> bool:
    return group.status is IncidentStatus.OPEN and (group.handling is None or group.handling.snoozed_until is None)


def stopped_by(group: GroupState) -> str:
    """Why nobody is to be told of an incident that goes on; empty where somebody is."""
    if group.status is IncidentStatus.MERGED:
        return "merged into another incident, which speaks for it"
    if group.handled.snoozed_until is not None:
        return "snoozed"
    return "acknowledged" if group.status is IncidentStatus.ACKNOWLEDGED else ""


def follow(group: GroupState, receiver: str, config: RulesConfig, now: datetime) -> tuple[GroupState, Decision | None]:
    """The group with its clock set by what has become of its incident; called for every change of a group."""
    state = group.escalation
    if (state is None and not config.ours.escalations.rules) or not group.incident_id:
        return group, None
    if state is not None and not state.later and state.due_at is not None and _waits(group):
        return group, None  # what most changes are: the clock runs, and goes on running
    after, said = escalation.followed(state, standing(group, receiver), escalation.rules_of(config), now)
    if after is state or after is None:
        return group, None
    return msgspec.structs.replace(group, escalation=after), _clock(after.policy, said, after.due_at) if said else None


def escalate(key: str, group: GroupState, members: Sequence[Member], setting: Setting) -> Escalated:
    """What is due of a group: who is told, each integration by a task of its own."""
    state = group.escalation
    if state is None:
        return Escalated(group)
    done = escalation.advanced(
        state, standing(group, setting.receiver), escalation.rules_of(setting.config), setting.now, muted=setting.muted
    )
    after = msgspec.structs.replace(group, revision=group.revision + 1, updated_at=setting.now, escalation=done.state)
    said = [Decision("withheld", one.reason, {"to": one.target, "policy": state.policy}) for one in done.withheld]
    if done.said:
        said.append(_clock(done.state.policy, done.said, done.state.due_at))
    return _told(key, after, members, done, said, setting)


def _told(
    key: str, group: GroupState, members: Sequence[Member], done: Advanced, said: list[Decision], setting: Setting
) -> Escalated:
    rows: list[task_rows.Notice] = []
    tasks: list[task_rows.Task] = []
    heard_of = [member for member in members if not member.left]
    for telling in done.tellings:
        receiver = setting.config.told_as(telling.target)
        if receiver is None:
            said.append(Decision("withheld", "the rules do not have it any more", {"to": telling.target}))
            continue
        why = escalation.reason(done.state.policy, telling)
        group, made = _tell(key, group, heard_of, why, receiver, setting)
        rows.append(made[0][0])
        tasks += (task for _, task in made)
        said.append(Decision("task made", why, {"to": telling.target, "reason": why}))
    if tasks:
        asked = tuple(str(task.id) for task in tasks)
        group = msgspec.structs.replace(
            group, escalation=msgspec.structs.replace(done.state, asked=asked, reached=False)
        )
    return Escalated(group, tuple(rows), tuple(tasks), tuple(_events(done)), tuple(said))


def _tell(
    key: str, group: GroupState, members: Sequence[Member], why: str, receiver: Receiver, setting: Setting
) -> tuple[GroupState, list[tuple[task_rows.Notice, task_rows.Task]]]:
    group = msgspec.structs.replace(group, decision=group.decision + 1)
    flushed = notices.Flushed(key, group, receiver.name, setting.config.version, setting.now)
    text = notices.body(flushed, members, setting.page_url)
    made = [
        notices.task(flushed, grouping.Notice(receiver.name, one, group.decision, why, tuple(members)), text)
        for one in receiver.integrations
    ]
    if setting.strict or receiver.name == setting.receiver:
        return group, made
    # Whoever is told that it fires is told that it ended: the group's log owes it to them.
    pending = dict(group.pending)
    for one, (_, task) in zip(receiver.integrations, made, strict=True):
        target = integration_key(receiver.name, one)
        before = pending[target].under_way if target in pending else ()
        telling = grouping.pending(members, group.decision, str(task.id), setting.now)
        pending[target] = notify_log.together([*before, telling])
    return msgspec.structs.replace(group, pending=pending), made


def _events(done: Advanced) -> list[Event]:
    """One for each step that somebody is told of: who was quiet hears of an earlier one."""
    told: dict[tuple[int, int, bool], list[str]] = {}
    for one in done.tellings:
        told.setdefault((one.round, one.step, one.late), []).append(one.target)
    return [
        Event(
            "escalated",
            {
                "policy": done.state.policy, "step": step, "round": turn, "run": done.state.run, "to": ", ".join(whom),
                **({"late": "after quiet hours"} if late else {}),
            },
        )
        for (turn, step, late), whom in told.items()
    ]  # fmt: skip


def answered(group: GroupState, task_id: str, now: datetime, *, sent: bool) -> tuple[GroupState, Decision | None]:
    """The group after one of its tasks ended, where that was a step's."""
    state = group.escalation
    if state is None:
        return group, None
    after, said = escalation.answered(state, task_id, now, sent=sent)
    if after is state:
        return group, None
    return msgspec.structs.replace(group, escalation=after), _clock(after.policy, said, after.due_at) if said else None


def owed(group: GroupState, names: set[str], receiver: str) -> set[str]:
    """Of those who are owed ends, with whom escalation tells just now, those that hear of ends now.

    Whom escalation told hears nothing of single ends, but that the incident is over. `receiver` is the route's own.
    """
    told = set(group.escalation.told) - {receiver} if group.escalation is not None else set()
    if group.alive:
        return names - told
    return names | {key.rpartition("/")[0] for key in group.pending} & told


def _clock(policy: str, said: str, due_at: datetime | None) -> Decision:
    detail: dict[str, object] = {"policy": policy}
    if due_at is not None:
        detail["next_at"] = due_at.isoformat()
    return Decision("escalation", f"policy {policy} {said}", detail)
