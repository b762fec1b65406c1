"""People's part of a step of incidents: actions decided, what became of each, and who else is to hear of it."""

from datetime import datetime
from typing import Any

import msgspec

from agents import refusals
from agents.group_overlay import GroupOverlay
from agents.group_story import GroupStory
from agents.rules import actions
from agents.rules.incident import GroupState
from sinks.action_rows import ActionRow
from sinks.incident_rows import TimelineRow
from streams.records import Action, ActionArgs


class StepActions:
    """The actions of one partition's part of a step.

    `late` are lines, with their action's id, for incidents that no group holds any more.
    """

    def __init__(self, held: GroupOverlay, story: GroupStory) -> None:
        self.rows: list[ActionRow] = []
        self.late: list[tuple[str, TimelineRow]] = []
        self._held = held
        self._story = story

    def apply(self, action: Action, now: datetime) -> None:
        """Do one action."""
        action = _storable(action)
        group = self._held.group(action.group)
        if group is None or group.incident_id != action.incident_id:
            self._of_the_past(action, now)
            return
        acted = actions.act(group, action, now=now)
        if acted.again:
            return
        self._record(action, acted.refused, now)
        if acted.refused:
            return
        after = _brought_on(acted.group, now) if acted.flush else acted.group
        self._held.put(action.group, after)
        self._story.tell(after, acted.events, now)

    def _of_the_past(self, action: Action, now: datetime) -> None:
        """Its group has forgotten the incident, or has a newer one."""
        self._record(action, "" if action.action in actions.ALWAYS else actions.SUPERSEDED, now)
        if action.action in actions.ALWAYS:
            story = GroupStory()
            story.tell_of(action.incident_id, int(now.timestamp() * 1000), (actions.comment_of(action),), now)
            self.late += ((action.id, row) for row in story.timeline)

    def _record(self, action: Action, refused: str, now: datetime) -> None:
        self.rows.append(
            ActionRow(
                id=action.id,
                incident_id=action.incident_id,
                group_key=action.group,
                team=action.team,
                actor=action.actor,
                action=action.action,
                outcome="refused" if refused else "done",
                reason=refused,
                asked_at=action.at,
                decided_at=now,
            )
        )


def _storable(action: Action) -> Action:
    """The action without what Postgres takes in no text: its row must never be what stops a step."""
    args = {name: _without_nul(getattr(action.args, name)) for name in ActionArgs.__struct_fields__}
    return msgspec.structs.replace(action, actor=refusals.storable(action.actor), args=ActionArgs(**args))


def _without_nul(value: object) -> Any:  # noqa: ANN401 - of the type that came
    if isinstance(value, str):
        return refusals.storable(value)
    if isinstance(value, dict):
        return {refusals.storable(key): refusals.storable(text) for key, text in value.items()}
    return value


def _brought_on(group: GroupState, now: datetime) -> GroupState:
    """The group with its next flush at once, if it waits for one."""
    if group.next_flush_at is None or group.next_flush_at <= now:
        return group
    return msgspec.structs.replace(group, next_flush_at=now)
