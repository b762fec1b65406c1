"""What every effect of an action is made of."""

import msgspec

from agents.rules.group_state import GroupState
from agents.rules.incident import Event
from streams.records import Action

Changed = tuple[GroupState, list[Event]]


class RefusedError(Exception):
    """Raised inside a decision where an action cannot be done."""


def with_handling(group: GroupState, **changed: object) -> GroupState:
    """The group with something else made of its incident by people."""
    handling = msgspec.structs.replace(group.handled, **changed)
    return msgspec.structs.replace(group, handling=handling)


def event(name: str, action: Action, **detail: object) -> Event:
    """A line of the timeline about an action."""
    return Event(name, {**detail, "action": action.id}, action.actor)
