"""What people do to an incident: pure decisions of (group, action, now).

Whether an action can be done is answered by `life`; this is what it changes.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from agents.rules import life, relations
from agents.rules.changed import Changed, RefusedError, event, with_handling
from agents.rules.group_state import GroupState
from agents.rules.handling import REMEMBERED
from agents.rules.incident import TITLE_LENGTH, Event, moved_to, reopened, worst_of
from streams.records import Action, ActionName, Kind, Link, Severity

AUTOMATIC: Final = "auto"
MAX_LINKS: Final = 50
SUPERSEDED: Final = "it is over, and nothing but comments can be added to it any more"
REDACTED: Final = "[redacted]"


class Acted(msgspec.Struct, frozen=True, kw_only=True):
    """A group after an action. `refused` says why nothing was done; `again` that it was done before.

    With `flush` the group is to be flushed at once, so that people hear of it; `unseen` is a change that
    nobody can see. `sends` are actions for the owners of other groups.
    """

    group: GroupState
    events: tuple[Event, ...] = ()
    refused: str = ""
    again: bool = False
    flush: bool = False
    unseen: bool = False
    sends: tuple[Action, ...] = ()


def act(group: GroupState, action: Action, *, now: datetime, reopen_window: timedelta) -> Acted:
    """Do it, or say why not."""
    if action.id in group.handled.actions or action.id in group.handled.refused:
        return Acted(group=group, again=True)
    if action.action in _BETWEEN_OWNERS:
        after, events, sends = _BETWEEN_OWNERS[action.action](group, action, now, reopen_window)
        done = _done(group, after, events, sends, now)
        return done if events else msgspec.structs.replace(done, unseen=True)
    answer = life.answer(group.state, action.action)
    if isinstance(answer, life.Refusal):
        return _refused(group, action, answer.reason)
    try:
        after, events = _EFFECTS[action.action](group, action, answer, now)
    except RefusedError as error:
        return _refused(group, action, str(error))
    events = [*events, *remark(action)]
    known = (*group.handled.actions, action.id)[-REMEMBERED:]
    return _done(group, with_handling(after, actions=known), events, relations.follow(group, after, action, now), now)


def _refused(group: GroupState, action: Action, why: str) -> Acted:
    """The word is final: the same action that comes again is not done, even if it could be then."""
    known = (*group.handled.refused, action.id)[-REMEMBERED:]
    after = msgspec.structs.replace(with_handling(group, refused=known), revision=group.revision + 1)
    return Acted(group=after, refused=why, unseen=True)


def resolved_by_time(group: GroupState, *, now: datetime) -> Acted:
    """Nothing was heard of it for too long."""
    by = "timeout"
    after = moved_to(group, life.answer(group.state, life.Happening.GOES_STALE), resolved_at=now, by=by)
    sends = relations.resolve_children(group, f"{group.incident_id} {by} {group.revision}", by, now)
    line = Event("resolved", {"by": by, "before": group.status, "firing": sum(group.firing)})
    return _done(group, after, [line], sends, now)


def snooze_over(group: GroupState, *, now: datetime) -> Acted:
    """The time until which it was to be quiet has passed."""
    before = _iso(group.handled.snoozed_until)
    after = moved_to(group, life.answer(group.state, life.Happening.SNOOZE_ENDS), resolved_at=None)
    return _done(group, after, [Event("snooze ended", {"before": before})], (), now)


def _done(
    before: GroupState, after: GroupState, events: Sequence[Event], sends: Sequence[Action], now: datetime
) -> Acted:
    if after is before:
        return Acted(group=before, sends=tuple(sends))
    moved = msgspec.structs.replace(after, revision=before.revision + 1, updated_at=now)
    flush = moved.alive != before.alive or (moved.speaks and not before.speaks)
    return Acted(group=moved, events=tuple(events), flush=flush, sends=tuple(sends))


def remark(action: Action) -> tuple[Event, ...]:
    """The line of the comment that went with an action, if one did."""
    if not action.args.comment or action.action is ActionName.COMMENT:
        return ()
    return (event("comment", action, text=action.args.comment),)


def comment_of(action: Action) -> Event:
    """The line of a comment on an incident that its group no longer holds."""
    return event("comment", action, text=action.args.text)


def redaction_of(action: Action) -> Event:
    """The line that says what was redacted, by whom and why."""
    what: dict[str, object] = {"field": action.args.field} if action.args.field else {"seq": action.args.seq}
    return event("redacted", action, **what, reason=action.args.reason)


def _acknowledge(group: GroupState, action: Action, answer: life.Answer, now: datetime) -> Changed:
    after = with_handling(moved_to(group, answer, resolved_at=None), acknowledged_by=action.actor)
    return msgspec.structs.replace(after, acknowledged_at=now), [event("acknowledged", action)]


def _unacknowledge(group: GroupState, action: Action, answer: life.Answer, _now: datetime) -> Changed:
    before = group.handled.acknowledged_by
    after = with_handling(moved_to(group, answer, resolved_at=None), acknowledged_by="")
    return msgspec.structs.replace(after, acknowledged_at=None), [event("unacknowledged", action, before=before)]


def _resolve(group: GroupState, action: Action, answer: life.Answer, now: datetime) -> Changed:
    after = moved_to(group, answer, resolved_at=now, by=action.actor)
    detail = {"by": action.actor, "before": group.status, "firing": sum(group.firing)}
    return after, [event("resolved", action, **detail)]


def _reopen(group: GroupState, action: Action, _answer: life.Answer, _now: datetime) -> Changed:
    if group.state is life.State.MERGED_RESOLVED and not (any(group.firing) or group.handled.by_hand):
        raise RefusedError("nothing of it fires that the incident it is merged into could speak of: split it first")
    after, [line] = reopened(group, {"by": action.actor, "action": action.id})
    return after, [msgspec.structs.replace(line, actor=action.actor)]


def _snooze(group: GroupState, action: Action, answer: life.Answer, now: datetime) -> Changed:
    until, before = action.args.until, group.handled.snoozed_until
    if until is None or until <= now:
        raise RefusedError("the time until which it shall be quiet has passed")
    after = with_handling(moved_to(group, answer, resolved_at=None), snoozed_until=until)
    return after, [event("snoozed", action, before=_iso(before), until=_iso(until))]


def _unsnooze(group: GroupState, action: Action, answer: life.Answer, _now: datetime) -> Changed:
    before = _iso(group.handled.snoozed_until)
    return moved_to(group, answer, resolved_at=None), [event("snooze ended", action, before=before)]


def _assign(group: GroupState, action: Action, _answer: life.Answer, _now: datetime) -> Changed:
    before, after = group.handled.assignee, action.args.assignee or ""
    return with_handling(group, assignee=after), [event("assigned", action, before=before, after=after)]


def _comment(group: GroupState, action: Action, _answer: life.Answer, _now: datetime) -> Changed:
    return group, [comment_of(action)]


def _link(group: GroupState, action: Action, _answer: life.Answer, _now: datetime) -> Changed:
    link = Link(action.args.url, action.args.text)
    others = tuple(one for one in group.handled.links if one.href != link.href)
    if len(others) >= MAX_LINKS:
        raise RefusedError(f"it has {MAX_LINKS} links already")
    line = event("link added", action, url=link.href, title=link.text)
    return with_handling(group, links=(*others, link)), [line]


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
        after = with_handling(after, severity=set_by_person)
        worst = worst_of(after, after.firing)
        changed["severity"] = {"before": group.severity, "after": worst, "automatic": set_by_person is None}
        after = msgspec.structs.replace(after, severity=worst)
    if args.labels is not None and args.labels != handled.labels:
        changed["labels"] = {"before": handled.labels, "after": args.labels}
        after = with_handling(after, labels=args.labels)
    if args.assignee is not None and args.assignee != handled.assignee:
        changed["assignee"] = {"before": handled.assignee, "after": args.assignee}
        after = with_handling(after, assignee=args.assignee)
    return with_handling(after, edited=group.revision + 1), [event("edited", action, **changed)] if changed else []


def _redact(group: GroupState, action: Action, _answer: life.Answer, _now: datetime) -> Changed:
    field, after = action.args.field, group
    if field == "title":
        after = msgspec.structs.replace(group, title=REDACTED)
    elif field == "description":
        after = msgspec.structs.replace(group, description=REDACTED)
    elif not action.args.seq:
        raise RefusedError("only title, description and lines of the timeline can be redacted")
    return after, [redaction_of(action)]


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
    ActionName.REDACT: _redact,
    ActionName.MERGE: relations.merge,
    ActionName.CORRELATE: relations.merge,
    ActionName.SPLIT: relations.split,
    ActionName.UNCORRELATE: relations.split,
}
_BETWEEN_OWNERS: Final = {ActionName.CHILD: relations.child, ActionName.ORPHAN: relations.orphan}


def _iso(at: datetime | None) -> str | None:
    return at.isoformat() if at is not None else None
