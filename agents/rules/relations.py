"""Incidents that speak for others: merged by a person, or put together by a rule. Pure.

Each group has its own owner, so this is a talk: a child says how it is
(`CHILD`), and a parent that cannot speak for it says so (`ORPHAN`), upon which
the child speaks for itself again. So of two that are merged into each other at
the same moment, one at least ends up speaking. Each word carries the child's
revision, so that an older one, said again or come late, changes nothing.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from agents.rules import life
from agents.rules.changed import Changed, RefusedError, event, with_handling
from agents.rules.group_state import GroupState
from agents.rules.handling import Child
from agents.rules.incident import Event, fires, moved_to, reopened, worst_of
from agents.rules.life import Happening
from streams.keys import derived_id
from streams.records import Action, ActionArgs, ActionName, IncidentStatus

GONE: Final = "gone"
"""`field` of a child's word: it is no child any more."""
MAX_CHILDREN: Final = 500
_SYSTEM: Final = "system"
Related = tuple[GroupState, list[Event], tuple[Action, ...]]


def merge(group: GroupState, action: Action, answer: life.Answer, now: datetime) -> Changed:
    """The incident falls silent under another."""
    args, handled = action.args, group.handled
    if not args.into or args.into == group.incident_id:
        raise RefusedError("it cannot be merged into itself")
    followers = _followers(group, action)
    if any(one.worst >= 0 for name, one in handled.children.items() if name not in followers):
        raise RefusedError("others are merged into it: split them first")
    if action.action is ActionName.CORRELATE:
        _check_rule(group, args)
    after = with_handling(
        moved_to(group, answer, resolved_at=None), parent_id=args.into, parent_group=args.into_group, rule=args.rule,
        parent_since=args.since, parent_key=args.field, parent_revision=group.revision + 1, acknowledged_by="",
        children={name: one for name, one in handled.children.items() if name not in followers},
    )  # fmt: skip
    detail = {"into": args.into, "before": group.status, "rule": args.rule, "evidence": args.evidence}
    line = event("merged", action, **{name: value for name, value in detail.items() if value})
    after = msgspec.structs.replace(after, acknowledged_at=None, severity=worst_of(after, after.firing))
    if fires(after):
        return after, [line]
    # Only what it spoke for fired still, and that follows by itself.
    ended = moved_to(after, life.answer(after.state, Happening.CEASES), resolved_at=now)
    return ended, [line, Event("resolved", {"by": "its alerts"})]


def _check_rule(group: GroupState, args: ActionArgs) -> None:
    """What a person did stays; of two rules the one whose incident is the older counts, whichever came first."""
    handled = group.handled
    if args.into in handled.apart:
        raise RefusedError("a person has taken it away from that incident")
    if handled.parent_id and (not handled.rule or handled.parent_since is None or args.since is None):
        raise RefusedError("it is merged already")
    if handled.parent_id == args.into:
        raise RefusedError("it is merged into that incident already")
    if handled.parent_since is not None and args.since is not None and handled.parent_key != args.field:
        older = (args.since, args.into_group) < (handled.parent_since, handled.parent_group)
        if not older:
            raise RefusedError("an older incident speaks for it already")


def _followers(group: GroupState, action: Action) -> tuple[str, ...]:
    """Children by a rule, of an incident that a rule puts under another: they are let go, to follow it there."""
    if action.action is not ActionName.CORRELATE:
        return ()
    return tuple(name for name, one in group.handled.children.items() if one.rule)


def split(group: GroupState, action: Action, answer: life.Answer, _now: datetime) -> Changed:
    """The incident speaks for itself again; no rule puts it back."""
    handled = group.handled
    if action.action is ActionName.UNCORRELATE and not handled.rule:
        raise RefusedError("no rule but a person has merged it: split it")
    line = event("split", action, before=handled.parent_id, rule=handled.rule)
    return _alone(group, answer, (*handled.apart, handled.parent_id)), [line]


def orphan(group: GroupState, action: Action, now: datetime, _window: timedelta) -> Related:
    """Its parent cannot speak for it, or shall not any more."""
    answer = life.answer(group.state, ActionName.ORPHAN)
    if isinstance(answer, life.Refusal) or group.handled.parent_id != action.args.into:
        return group, [], ()
    if 0 < action.args.revision < group.handled.parent_revision:
        return group, [], ()  # of an earlier time under that parent
    line = event("split", action, before=group.handled.parent_id, reason=action.args.reason)
    gone = told_parent(group, action.group, action.id, now, field=GONE)
    return _alone(group, answer, group.handled.apart), [line], (gone,)


def child(group: GroupState, action: Action, now: datetime, window: timedelta) -> Related:
    """A child says how it is; where this one cannot speak for it, it is told so."""
    args, children = action.args, group.handled.children
    known = children.get(args.into)
    last = max(known.revision if known is not None else 0, group.handled.gone.get(args.into, 0))
    if 0 < args.revision <= last:
        return group, [], ()
    if args.field == GONE:
        return *_bereft(_without(group, args), action, now), ()
    again: list[Event] = []
    if args.worst >= 0:
        reason = _why_not(group, args.into, now, window)
        if reason:
            return _without(group, args), [], (orphaned(action, reason, now),)
        if not group.alive:
            group, again = reopened(group, {"by": f"incident {args.into}"})
    elif known is None and not group.alive:
        return group, [], ()
    if known is not None and known.worst == args.worst and not again:
        return group, [], ()
    name = "child merged" if known is None else "child fires" if args.worst >= 0 else "child ended"
    detail = {"child": args.into, "rule": args.rule} if known is None else {"child": args.into}
    after = {**children, args.into: Child(args.into_group, args.worst, args.rule, args.revision)}
    return *_weighed(group, after, [*again, event(name, action, **detail)], now), ()


def _bereft(group: GroupState, action: Action, now: datetime) -> Changed:
    left, children = action.args.into, group.handled.children
    if left not in children:
        return group, []
    rest = {name: one for name, one in children.items() if name != left}
    return _weighed(group, rest, [event("child split", action, child=left)], now)


def _without(group: GroupState, args: ActionArgs) -> GroupState:
    """The group, which remembers how far it has heard of an incident that it does not speak for."""
    if not args.revision:
        return group
    others = [one for one in group.handled.gone.items() if one[0] != args.into]
    return with_handling(group, gone=dict([*others[1 - MAX_CHILDREN :], (args.into, args.revision)]))


def orphaned(action: Action, reason: str, now: datetime) -> Action:
    """What a child is told that cannot be spoken for."""
    return Action(
        id=str(derived_id("orphan", action.id)), team=action.team, group=action.args.into_group,
        incident_id=action.args.into, actor=_SYSTEM, action=ActionName.ORPHAN, at=now,
        args=ActionArgs(into=action.incident_id, reason=reason, revision=action.args.revision),
    )  # fmt: skip


def _let_go(group: GroupState, child_id: str, one: Child, action: Action, now: datetime) -> Action:
    return Action(
        id=str(derived_id("orphan", action.id, child_id)), team=group.team, group=one.group, incident_id=child_id,
        actor=_SYSTEM, action=ActionName.ORPHAN, at=now,
        args=ActionArgs(
            into=group.incident_id, reason=f"it was itself put under incident {action.args.into}", revision=one.revision
        ),
    )  # fmt: skip


def follow(before: GroupState, after: GroupState, action: Action, now: datetime) -> tuple[Action, ...]:
    """What the owners of related groups hear after an action on this one."""
    if action.action is ActionName.RESOLVE:
        return resolve_children(before, action.id, action.actor, now)
    if action.action is ActionName.CORRELATE:
        children = before.handled.children
        let_go = tuple(_let_go(before, name, children[name], action, now) for name in _followers(before, action))
        left = before.handled.parent_id
        gone = (told_parent(before, action.group, action.id, now, field=GONE),) if left else ()
        return (*let_go, *gone)
    left = before.handled.parent_id
    if left and not after.handled.parent_id:
        return (told_parent(before, action.group, action.id, now, actor=action.actor, field=GONE),)
    return ()


def resolve_children(group: GroupState, cause: str, actor: str, now: datetime) -> tuple[Action, ...]:
    """Who ends an incident ends those that it speaks for."""
    return tuple(
        Action(
            id=str(derived_id("resolve", cause, child_id)), team=group.team, group=one.group, incident_id=child_id,
            actor=actor, action=ActionName.RESOLVE, at=now,
            args=ActionArgs(comment=f"with incident {group.incident_id}, which it is merged into"),
        )
        for child_id, one in group.handled.children.items()
        if one.worst >= 0
    )  # fmt: skip


def told_parent(
    group: GroupState, key: str, cause: object, now: datetime, *, actor: str = _SYSTEM, field: str = ""
) -> Action:
    """What a child tells its parent: how bad it is now, or (of the group as it was) that it is gone."""
    handled = group.handled
    return Action(
        id=str(derived_id("child", group.incident_id, cause)), team=group.team, group=handled.parent_group,
        incident_id=handled.parent_id, actor=actor, action=ActionName.CHILD, at=now,
        args=ActionArgs(
            into=group.incident_id, into_group=key, worst=group.worst, rule=handled.rule, field=field,
            revision=group.revision + (field == GONE),
        ),
    )  # fmt: skip


def _why_not(group: GroupState, child_id: str, now: datetime, window: timedelta) -> str:
    """Why this incident cannot speak for a child that fires; empty when it can."""
    if group.status is IncidentStatus.MERGED:
        return "it is merged itself"
    if child_id not in group.handled.children and len(group.handled.children) >= MAX_CHILDREN:
        return f"it speaks for {MAX_CHILDREN} others already"
    late = group.resolved_at is not None and now - group.resolved_at > window
    return "it is resolved" if not group.alive and (late or child_id not in group.handled.children) else ""


def _alone(group: GroupState, answer: life.Answer, apart: Sequence[str]) -> GroupState:
    after = moved_to(group, answer, resolved_at=group.resolved_at, by=group.handled.resolved_by)
    kept = tuple(dict.fromkeys(apart))[-MAX_CHILDREN:]
    return with_handling(
        after, parent_id="", parent_group="", parent_since=None, parent_key="", parent_revision=0, rule="", apart=kept
    )


def _weighed(
    group: GroupState, children: dict[str, Child], events: list[Event], now: datetime
) -> tuple[GroupState, list[Event]]:
    """The parent with these children: its severity, and whether anything of it fires still."""
    after = with_handling(group, children=children)
    worst = worst_of(after, after.firing)
    if worst is not after.severity:
        events.append(Event("severity", {"before": after.severity, "after": worst}))
        after = msgspec.structs.replace(after, severity=worst)
    if after.alive and not fires(after):
        after = moved_to(after, life.answer(after.state, Happening.CEASES), resolved_at=now)
        events.append(Event("resolved", {"by": "its alerts"}))
    return after, events
