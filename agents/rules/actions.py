"""What people do to an incident: pure decisions of (group, action, now).

Whether an action can be done is answered by `life`; this is what it changes.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Final

import msgspec

from agents.rules import life
from agents.rules.handling import REMEMBERED
from agents.rules.incident import TITLE_LENGTH, Event, GroupState, moved_to, reopened, worst_of
from streams.records import Action, ActionName, Kind, Link, Severity

AUTOMATIC: Final = "auto"
MAX_LINKS: Final = 50
SUPERSEDED: Final = "it is over, and nothing but comments can be added to it any more"
ALWAYS: Final = frozenset({ActionName.COMMENT})
"""What can be done to an incident that its group no longer holds."""

Changed = tuple[GroupState, list[Event]]


class RefusedError(Exception):
    """Raised inside a decision where an action cannot be done."""


class Acted(msgspec.Struct, frozen=True, kw_only=True):
    """A group after an action. `refused` says why nothing was done; `again` that it was done before.

    With `flush` the group is to be flushed at once, so that people hear of it.
    """

    group: GroupState
    events: tuple[Event, ...] = ()
    refused: str = ""
    again: bool = False
    flush: bool = False


def act(group: GroupState, action: Action, *, now: datetime) -> Acted:
    """Do it, or say why not."""
    if action.id in group.handled.actions:
        return Acted(group=group, again=True)
    answer = life.answer(group.state, action.action)
    if isinstance(answer, life.Refusal):
        return Acted(group=group, refused=answer.reason)
    try:
        after, events = _EFFECTS[action.action](group, action, answer, now)
    except RefusedError as error:
        return Acted(group=group, refused=str(error))
    if action.args.comment and action.action is not ActionName.COMMENT:
        events = [*events, _event("comment", action, text=action.args.comment)]
    known = (*group.handled.actions, action.id)[-REMEMBERED:]
    handling = msgspec.structs.replace(after.handled, actions=known)
    after = msgspec.structs.replace(after, handling=handling, revision=group.revision + 1, updated_at=now)
    flush = after.alive != group.alive or (after.speaks and not group.speaks)
    return Acted(group=after, events=tuple(events), flush=flush)


def comment_of(action: Action) -> Event:
    """The line of a comment on an incident that its group no longer holds."""
    return _event("comment", action, text=action.args.text)


def _acknowledge(group: GroupState, action: Action, answer: life.Answer, now: datetime) -> Changed:
    after = _with(moved_to(group, answer, resolved_at=None), acknowledged_by=action.actor)
    return msgspec.structs.replace(after, acknowledged_at=now), [_event("acknowledged", action)]


def _unacknowledge(group: GroupState, action: Action, answer: life.Answer, _now: datetime) -> Changed:
    before = group.handled.acknowledged_by
    after = _with(moved_to(group, answer, resolved_at=None), acknowledged_by="")
    return msgspec.structs.replace(after, acknowledged_at=None), [_event("unacknowledged", action, before=before)]


def _resolve(group: GroupState, action: Action, answer: life.Answer, now: datetime) -> Changed:
    after = moved_to(group, answer, resolved_at=now, by=action.actor)
    detail = {"by": action.actor, "before": group.status, "firing": sum(group.firing)}
    return after, [_event("resolved", action, **detail)]


def _reopen(group: GroupState, action: Action, _answer: life.Answer, _now: datetime) -> Changed:
    after, [event] = reopened(group, {"by": action.actor, "action": action.id})
    return _with(after, acknowledged_by=""), [msgspec.structs.replace(event, actor=action.actor)]


def _snooze(group: GroupState, action: Action, answer: life.Answer, now: datetime) -> Changed:
    until, before = action.args.until, group.handled.snoozed_until
    if until is None or until <= now:
        raise RefusedError("the time until which it shall be quiet has passed")
    after = _with(moved_to(group, answer, resolved_at=None), snoozed_until=until)
    return after, [_event("snoozed", action, before=_iso(before), until=_iso(until))]


def _unsnooze(group: GroupState, action: Action, answer: life.Answer, _now: datetime) -> Changed:
    before = _iso(group.handled.snoozed_until)
    return moved_to(group, answer, resolved_at=None), [_event("snooze ended", action, before=before)]


def _assign(group: GroupState, action: Action, _answer: life.Answer, _now: datetime) -> Changed:
    before, after = group.handled.assignee, action.args.assignee or ""
    return _with(group, assignee=after), [_event("assigned", action, before=before, after=after)]


def _comment(group: GroupState, action: Action, _answer: life.Answer, _now: datetime) -> Changed:
    return group, [comment_of(action)]


def _link(group: GroupState, action: Action, _answer: life.Answer, _now: datetime) -> Changed:
    link = Link(action.args.url, action.args.text)
    others = tuple(one for one in group.handled.links if one.href != link.href)
    if len(others) >= MAX_LINKS:
        raise RefusedError(f"it has {MAX_LINKS} links already")
    event = _event("link added", action, url=link.href, title=link.text)
    return _with(group, links=(*others, link)), [event]


def _edit(group: GroupState, action: Action, _answer: life.Answer, _now: datetime) -> Changed:
    args, handled = action.args, group.handled
    if args.expected and handled.edited > args.expected:
        raise RefusedError("somebody has edited it meanwhile")
    after, changed = group, dict[str, object]()
    if args.title is not None and args.title != group.title:
        changed["title"] = {"before": group.title, "after": args.title}
        after = msgspec.structs.replace(after, title=args.title[:TITLE_LENGTH])
    if args.description is not None and args.description != group.description:
        changed["description"] = {"before": group.description, "after": args.description}
        after = msgspec.structs.replace(after, description=args.description)
    if args.kind and args.kind != group.kind:
        changed["kind"] = {"before": group.kind, "after": args.kind}
        after = msgspec.structs.replace(after, kind=Kind(args.kind))
    if args.severity:
        set_by_person = None if args.severity == AUTOMATIC else Severity(args.severity)
        after = _with(after, severity=set_by_person)
        worst = worst_of(after, after.firing)
        changed["severity"] = {"before": group.severity, "after": worst, "automatic": set_by_person is None}
        after = msgspec.structs.replace(after, severity=worst)
    if args.labels is not None and args.labels != handled.labels:
        changed["labels"] = {"before": handled.labels, "after": args.labels}
        after = _with(after, labels=args.labels)
    if args.assignee is not None and args.assignee != handled.assignee:
        changed["assignee"] = {"before": handled.assignee, "after": args.assignee}
        after = _with(after, assignee=args.assignee)
    return _with(after, edited=group.revision + 1), [_event("edited", action, **changed)] if changed else []


def _impossible(_group: GroupState, action: Action, _answer: life.Answer, _now: datetime) -> Changed:
    raise RefusedError(f"{action.action.value} cannot be done to it")


_EFFECTS: Final[dict[ActionName, Callable[[GroupState, Action, life.Answer, datetime], Changed]]] = {
    **dict.fromkeys(ActionName, _impossible),
    ActionName.ACKNOWLEDGE: _acknowledge,
    ActionName.UNACKNOWLEDGE: _unacknowledge,
    ActionName.RESOLVE: _resolve,
    ActionName.REOPEN: _reopen,
    ActionName.SNOOZE: _snooze,
    ActionName.UNSNOOZE: _unsnooze,
    ActionName.ASSIGN: _assign,
    ActionName.COMMENT: _comment,
    ActionName.LINK: _link,
    ActionName.EDIT: _edit,
}


def _with(group: GroupState, **changed: object) -> GroupState:
    handling = msgspec.structs.replace(group.handled, **changed)
    return msgspec.structs.replace(group, handling=handling)


def _event(name: str, action: Action, **detail: object) -> Event:
    return Event(name, {**detail, "action": action.id}, action.actor)


def _iso(at: datetime | None) -> str | None:
    return at.isoformat() if at is not None else None
