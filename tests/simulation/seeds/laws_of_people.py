"""What must hold of what people did: each action once or refused with a reason, and whom it silenced stays silent."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from agents.rules.escalation import Phase
from agents.rules.group_state import GroupState
from agents.rules.life import SNOOZED, State, state_of
from agents.rules.notify_log import Reason
from sinks.incident_rows import TimelineRow
from streams.records import ActionName, IncidentStatus
from tests.simulation.seeds.machine import Machine
from tests.simulation.seeds.script import CONFIGS

_LINES: Final = {
    ActionName.OPEN: "opened", ActionName.EDIT: "edited", ActionName.ACKNOWLEDGE: "acknowledged",
    ActionName.UNACKNOWLEDGE: "unacknowledged", ActionName.RESOLVE: "resolved", ActionName.REOPEN: "reopened",
    ActionName.SNOOZE: "snoozed", ActionName.UNSNOOZE: "snooze ended", ActionName.ASSIGN: "assigned",
    ActionName.COMMENT: "comment", ActionName.LINK: "link added", ActionName.MERGE: "merged",
    ActionName.SPLIT: "split", ActionName.UNCORRELATE: "split", ActionName.REDACT: "redacted",
}  # fmt: skip
"""The line of the timeline that an action leaves."""
_FIRES: Final = frozenset({Reason.FIRST, Reason.NEW_ALERTS, Reason.REPEAT})
_ESCALATED: Final = "escalation"
_AWAKE: Final = frozenset({State.OPEN, State.ACKNOWLEDGED})
_TOLD: Final = frozenset(State) - SNOOZED
_detail: Final = msgspec.json.Decoder(dict[str, Any])


def broken(machine: Machine) -> Iterator[str]:
    """What does not hold."""
    yield from _actions(machine)
    lives = {incident_id: list(_life(lines)) for incident_id, lines in machine.rows.timeline.items()}
    yield from _standing(machine, lives)
    yield from _silence(machine, lives)
    yield from _escalations(machine)
    yield from _repeats(machine)


def reopened(machine: Machine, group: GroupState) -> bool:
    """Whether a person opened it again last: then it lasts, though nothing fires."""
    lines = machine.rows.timeline[group.incident_id]
    last = [lines[seq] for seq in sorted(lines) if lines[seq].event in ("opened", "reopened", "resolved")]
    return bool(last) and last[-1].event == "reopened" and last[-1].actor != "system"


def _actions(machine: Machine) -> Iterator[str]:
    done: dict[tuple[str, str], int] = {}
    for lines in machine.rows.timeline.values():
        for line in lines.values():
            if '"action":' in line.detail:
                at = (_detail.decode(line.detail)["action"], line.event)
                done[at] = done.get(at, 0) + 1
    for action_id, action in machine.asked.items():
        row = machine.rows.actions.get(action_id)
        if row is None:
            yield f"nobody knows what became of {action.action} of {action.actor}"
            continue
        times = done.get((action_id, _LINES[action.action]), 0)
        if row.outcome == "refused":
            if not row.reason:
                yield f"{action.action} was refused without a reason"
            if times:
                yield f"{action.action} was refused ({row.reason}), and done all the same"
        elif times > 1 or (not times and action.action is not ActionName.EDIT):
            yield f"{action.action} was done {times} times"


Turn = tuple[datetime, State]
"""From when on an incident was in a state."""


def _life(lines: Mapping[int, TimelineRow]) -> Iterator[Turn]:
    """The states of an incident, as its timeline tells them."""
    status, snoozed, parent = IncidentStatus.OPEN, False, False
    for seq in sorted(lines):
        event = lines[seq].event
        if event == "merged":
            status, snoozed, parent = IncidentStatus.MERGED, False, True
        elif event == "split":
            parent = False
            status = status if status is IncidentStatus.RESOLVED else IncidentStatus.OPEN
        elif event == "resolved":
            status, snoozed = IncidentStatus.RESOLVED, False
        elif event == "reopened":
            status = IncidentStatus.MERGED if parent else IncidentStatus.OPEN
        elif event in ("acknowledged", "unacknowledged"):
            status = IncidentStatus.ACKNOWLEDGED if event == "acknowledged" else IncidentStatus.OPEN
        elif event in ("snoozed", "snooze ended"):
            snoozed = event == "snoozed"
        elif event != "opened":
            continue
        yield lines[seq].at, state_of(status, snoozed=snoozed, parent=parent)


def _standing(machine: Machine, lives: Mapping[str, list[Turn]]) -> Iterator[str]:
    """Every group stands where its timeline says."""
    for group in machine.groups().values():
        if not group.incident_id:
            continue
        said = lives[group.incident_id][-1][1]
        if group.state is not said:
            yield f"group {group.labels} is {group.state.value}, its timeline says {said.value}"
        until = group.handled.snoozed_until
        if until is not None and until <= machine.now:
            yield f"group {group.labels} is snoozed until {until}, which is over"
        yield from _words(group, machine.rows.timeline[group.incident_id])


def _words(group: GroupState, lines: Mapping[int, TimelineRow]) -> Iterator[str]:
    assigned = [lines[seq] for seq in sorted(lines) if lines[seq].event == "assigned"]
    whose = _detail.decode(assigned[-1].detail)["after"] if assigned else ""
    if group.handled.assignee != whose:
        yield f"group {group.labels} is {group.handled.assignee!r}'s, its timeline says {whose!r}"
    if group.alive and bool(group.handled.acknowledged_by) != (group.status is IncidentStatus.ACKNOWLEDGED):
        yield f"group {group.labels} is {group.status}, by {group.handled.acknowledged_by!r}"


def _silence(machine: Machine, lives: Mapping[str, list[Turn]]) -> Iterator[str]:
    """Nobody is told what the state of the incident forbids."""
    for task in machine.rows.tasks.values():
        states = _at(lives[str(task.incident_id)], task.created_at)
        only_open = task.reason == Reason.REPEAT or task.reason.startswith(_ESCALATED)
        allowed = {State.OPEN} if only_open else _AWAKE if task.reason in _FIRES else _TOLD
        if states.isdisjoint(allowed):
            was = ", ".join(sorted(state.value for state in states))
            yield f"{task.receiver} was told {task.reason} of an incident that was {was}"


def _at(life: list[Turn], when: datetime) -> frozenset[State]:
    """The states of a moment: the one that lasts from before, and all that it passes through."""
    times = [turn[0] for turn in life]
    first, last = bisect_left(times, when), bisect_right(times, when)
    return frozenset(state for _, state in life[max(0, first - 1) : last])


def _escalations(machine: Machine) -> Iterator[str]:
    """Each step is told once, and the clock stands as the incident does."""
    for incident_id, lines in machine.rows.timeline.items():
        told: set[str] = set()
        for line in lines.values():
            if line.event == "escalated":
                if line.detail in told:
                    yield f"incident {incident_id} was escalated twice: {line.detail}"
                told.add(line.detail)
    for group in machine.groups().values():
        state = group.escalation
        if state is None:
            continue
        running = state.phase in (Phase.RUNNING, Phase.DONE)
        if running and group.state is not State.OPEN:
            yield f"the escalation of {group.labels} is {state.phase}, and it is {group.state.value}"
        elif state.phase is Phase.STOPPED and (
            not group.alive or (group.state is State.OPEN and state.left is not None)
        ):
            yield f"the escalation of {group.labels} is stopped, and it is {group.state.value}"
        elif state.phase is Phase.RUNNING and (state.due_at is None or state.due_at < machine.now):
            yield f"the escalation of {group.labels} runs, and what is due at {state.due_at} is not told"


def _repeats(machine: Machine) -> Iterator[str]:
    """Nobody is told again of what they know before its time."""
    if any(act.what == "away" for act in machine.script.acts):
        return  # what failed is told anew by what was told before it
    versions = {machine.script.version, *(act.version for act in machine.script.acts if act.version)}
    least = min(CONFIGS[version].route.repeat_interval for version in versions)
    made: dict[tuple[str, str, int], datetime] = {}
    for task in sorted(machine.rows.tasks.values(), key=lambda one: one.decision):
        at = (task.group_key, task.receiver, task.integration)
        if task.reason == Reason.REPEAT and task.created_at - made.get(at, task.created_at) < least:
            yield f"{task.receiver} was told again after {task.created_at - made.get(at, task.created_at)}"
        if not task.reason.startswith(_ESCALATED):
            made[at] = task.created_at
