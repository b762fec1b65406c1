"""Faults that a test plants into the code under test, one at a time, to see that the laws find them."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

import msgspec
import pytest

from agents import escalations, flushes, group_overlay, group_partition, incidents_work
from agents.alert_partition import AlertsPartition
from agents.dedup_telling import Telling
from agents.dedup_work import DedupWork
from agents.incident_actions import StepActions
from agents.incidents_work import IncidentsWork
from agents.rules import actions, changed, dedup, escalation, grouping, incident, relations
from agents.rules.escalation import Escalation
from agents.timers import Clock
from streams.records import Change, IncidentStatus

Plant = Callable[[pytest.MonkeyPatch], None]


def _forgets_events(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(AlertsPartition, "remember", lambda self, key, at, ids: self.chunks.update({key: (at, ids)}))


def _believes_late_firings(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(dedup, "_is_late", lambda *_: False)


def _owes_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(grouping, "_stays", lambda *_: lambda _member: False)


def _hears_no_outcome(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(grouping, "heard", lambda *_args, **_named: None)


def _wakes_no_group(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(group_overlay, "arm", lambda *_: None)


def _replays_in_silence(patch: pytest.MonkeyPatch) -> None:
    outgoing = DedupWork.outgoing
    patch.setattr(DedupWork, "outgoing", lambda self: () if self.replaying else outgoing(self))


def _starts_without_deadlines(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(group_partition, "arm", lambda *_: None)


def _leaves_no_group(patch: pytest.MonkeyPatch) -> None:
    tell = Telling._tell

    def telling(self: Telling, *args: Any, **named: Any) -> None:
        if Change.LEFT not in args:
            tell(self, *args, **named)

    patch.setattr(Telling, "_tell", telling)


def _stays_open(patch: pytest.MonkeyPatch) -> None:
    ended = incident._ended

    def open_still(*args: Any) -> Any:
        done = ended(*args)
        group = msgspec.structs.replace(done.group, status=IncidentStatus.OPEN, resolved_at=None)
        return msgspec.structs.replace(done, group=group) if done.group.reopened else done

    patch.setattr(incident, "_ended", open_still)


def _hears_one_of_a_record(patch: pytest.MonkeyPatch) -> None:
    is_new = IncidentsWork._is_new

    def once(self: IncidentsWork, change: Any, log_id: str) -> bool:
        known = self._newest.get(change.cause_partition, -1)
        return is_new(self, change, log_id) and change.cause > known

    patch.setattr(IncidentsWork, "_is_new", once)


def _keeps_groups(patch: pytest.MonkeyPatch) -> None:
    due_at = group_partition.due_at
    for module in (group_partition, incidents_work):
        patch.setattr(
            module, "due_at", lambda what, group: due_at(what, group) if what != group_partition.DROP else None
        )


def _tells_by_the_step(patch: pytest.MonkeyPatch) -> None:
    joined = grouping.joined

    def later(group: Any, member: Any, route: Any, **named: Any) -> Any:
        after = joined(group, member, route, **named)
        return msgspec.structs.replace(after, told={}) if group.members > 1 else after

    patch.setattr(grouping, "joined", later)


def _repeats_all_the_same(patch: pytest.MonkeyPatch) -> None:
    flush = grouping.flush
    patch.setattr(grouping, "flush", lambda *args, **named: flush(*args, **{**named, "acknowledged": False}))


def _forgets_actions(patch: pytest.MonkeyPatch) -> None:
    known = ("actions", "refused")
    with_handling = changed.with_handling

    def forgetting(group: Any, **made: Any) -> Any:
        return with_handling(group, **{name: value for name, value in made.items() if name not in known})

    patch.setattr(actions, "with_handling", forgetting)


def _snoozes_on(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(StepActions, "end_snooze", lambda *_: None)


def _tells_no_parent(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(StepActions, "changed", lambda *_: None)


def _leaves_children(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(relations, "resolve_children", lambda *_: ())


def _speaks_though_merged(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(flushes, "IncidentStatus", SimpleNamespace(MERGED=None))


def _escalates_what_somebody_has(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(escalations, "stopped_by", lambda _group: "")
    patch.setattr(escalations, "_waits", lambda group: group.alive)


def _takes_a_step_twice(patch: pytest.MonkeyPatch) -> None:
    moved_on = escalation._moved_on

    def again(state: Escalation, policy: Any, now: Any) -> Escalation:
        after = moved_on(state, policy, now)
        return msgspec.structs.replace(after, step=state.step) if state.round > 1 else after

    patch.setattr(escalation, "_moved_on", again)


def _believes_every_clock(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Clock, "now", lambda self: self._read_wall())


PLANTED: Final[dict[str, Plant]] = {
    "events are not remembered": _forgets_events,
    "a firing counts that is older than its end": _believes_late_firings,
    "ends that are owed are forgotten": _owes_nothing,
    "how a notice ended is not heard": _hears_no_outcome,
    "nothing wakes a group": _wakes_no_group,
    "a new process arms no deadlines": _starts_without_deadlines,
    "what is done again is not sent again": _replays_in_silence,
    "an alert never leaves its group": _leaves_no_group,
    "an incident that was reopened never ends": _stays_open,
    "of each record only the first change is heard": _hears_one_of_a_record,
    "groups are never dropped": _keeps_groups,
    "what was told is forgotten when an alert joins": _tells_by_the_step,
    "what somebody has acknowledged is repeated": _repeats_all_the_same,
    "an action is done each time it comes": _forgets_actions,
    "a snooze never ends": _snoozes_on,
    "nobody tells a parent how its child is": _tells_no_parent,
    "whoever ends an incident leaves those merged into it": _leaves_children,
    "a merged incident speaks on": _speaks_though_merged,
    "what somebody has is escalated on": _escalates_what_somebody_has,
    "a step of an escalation is taken twice": _takes_a_step_twice,
    "a clock is believed as soon as it is set": _believes_every_clock,
}
