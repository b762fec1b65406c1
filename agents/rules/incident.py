"""What alerts make of a group, its members and its incident: pure decisions of (state, change, now).

An incident is one occurrence of a group. It opens with the first firing,
resolves with the last end, reopens when a firing follows within the reopen
window, and after that a new one names it as predecessor. Which state follows
which is in `life`, what people do in `actions`.
"""

from datetime import datetime, timedelta
from typing import Final

import msgspec

from agents.rules import life
from agents.rules.group_state import GroupState, Member, told_as
from agents.rules.handling import UNTOUCHED
from agents.rules.life import Happening, State
from agents.rules.notify_log import Entry, without
from streams.keys import derived_id
from streams.records import AlertBody, Change, IncidentStatus, MemberChange, Severity

TITLE_LENGTH: Final = 255


class Event(msgspec.Struct, frozen=True):
    """One line of an incident's timeline."""

    name: str
    detail: dict[str, object]
    actor: str = "system"


class Applied(msgspec.Struct, frozen=True):
    """A group and member after a change; a member of None has left. Events are for the timeline."""

    group: GroupState
    member: Member | None
    events: tuple[Event, ...]


def apply(
    group: GroupState | None,
    member: Member | None,
    change: MemberChange,
    body: AlertBody,
    *,
    log_id: str,
    receiver: str,
    config_version: int,
    reopen_window: timedelta,
    now: datetime,
    strict: bool = False,
) -> Applied | None:
    """The group after one alert's change, or None when it is nothing new to it.

    An end of an alert that never fired joins what is told of the group, as in
    Alertmanager; in its mode (`strict`) it even begins a group.
    """
    if member is not None and change.revision <= member.revision:
        return None
    if change.change in (Change.FIRED, Change.CHANGED):
        header, events = _active_group(
            group, member, change, body, log_id=log_id, receiver=receiver, config_version=config_version,
            reopen_window=reopen_window, now=now,
        )  # fmt: skip
        return _fired(header, member, change, body, events, now)
    if change.change is Change.RESOLVED and member is None:
        there = group is not None and group.members and not change.reached
        joins = (there or strict) and not change.again
        return _joined_ended(group, change, body, receiver, config_version, now) if joins else None
    if group is None or member is None:
        return None
    if change.change is Change.RESOLVED:
        return _resolved(group, member, change, now)
    return _left(group, member, change, now, strict=strict)


def _active_group(
    group: GroupState | None,
    member: Member | None,
    change: MemberChange,
    body: AlertBody,
    *,
    log_id: str,
    receiver: str,
    config_version: int,
    reopen_window: timedelta,
    now: datetime,
) -> tuple[GroupState, list[Event]]:
    if group is not None and (group.alive or _is_known(member, change)):
        return group, []
    if group is not None and group.resolved_at is not None and change.accepted_at - group.resolved_at <= reopen_window:
        return reopened(group, {"by": change.identity})
    incident_id = str(derived_id("incident", change.group, log_id, change.cause_partition, change.cause, change.index))
    opened = GroupState(
        team=change.team,
        route=change.route,
        labels=change.group_labels,
        receiver=receiver,
        config_version=config_version,
        revision=max(group.revision if group else 0, int(now.timestamp() * 1000)),
        incident_id=incident_id,
        status=IncidentStatus.OPEN,
        severity=body.severity,
        kind=body.kind,
        title=title_of(body, change.group_labels),
        description=body.description or body.annotations.get("description", ""),
        opened_at=change.accepted_at,
        updated_at=now,
        predecessor_id=group.incident_id if group else "",
        firing=group.firing if group else (0,) * len(Severity),
        members=group.members if group else 0,
        decision=group.decision if group else 0,
        next_flush_at=group.next_flush_at if group else None,
        told=group.told if group else {},
        pending=group.pending if group else {},
        flushed=group.flushed if group else False,
        flushed_revision=group.flushed_revision if group else 0,
        failed=group.failed if group else False,
        held_up=group.held_up if group else False,
        empty_at=group.empty_at if group else None,
        missed=group.missed if group else {},
        suppressed=group.suppressed if group else {},
        muted_by=group.muted_by if group else (),
    )
    event = Event("opened", {"by": change.identity, "severity": body.severity, "predecessor": opened.predecessor_id})
    return opened, [event]


def _is_known(member: Member | None, change: MemberChange) -> bool:
    """Whether the change is about an occurrence that fires already: it opens nothing."""
    return member is not None and member.firing and member.occurrence == change.occurrence


def reopened(group: GroupState, why: dict[str, object]) -> tuple[GroupState, list[Event]]:
    """The group with its incident open again, under its parent if it has one."""
    after = moved_to(group, life.answer(group.state, Happening.FIRES), resolved_at=None)
    handled = after.handling
    if handled is not None and handled.acknowledged_by:
        handled = msgspec.structs.replace(handled, acknowledged_by="")
    after = msgspec.structs.replace(after, acknowledged_at=None, reopened=group.reopened + 1, handling=handled)
    return after, [Event("reopened", {**why, "times": after.reopened})]


def moved_to(group: GroupState, answer: life.Answer, *, resolved_at: datetime | None, by: str = "") -> GroupState:
    """The group with its incident in the state that `life` answered.

    `resolved_at` counts where it is over then, and `by` names who ended it though alerts may fire on.
    """
    if not isinstance(answer, State):
        return group
    handled = group.handling
    over = answer in life.OVER
    if handled is not None or by:
        handled = handled or UNTOUCHED
        snoozed_until = handled.snoozed_until if answer in life.SNOOZED else None
        handled = msgspec.structs.replace(handled, snoozed_until=snoozed_until, resolved_by=by if over else "")
    return msgspec.structs.replace(
        group, status=life.status_of(answer), resolved_at=resolved_at if over else None, handling=handled
    )


def _fired(
    group: GroupState, member: Member | None, change: MemberChange, body: AlertBody, events: list[Event], now: datetime
) -> Applied:
    firing = list(group.firing)
    if member is not None and member.firing:
        firing[member.severity.rank] -= 1
    firing[body.severity.rank] += 1
    again = member is not None and (member.firing or member.left) and member.occurrence == change.occurrence
    flaps = member.flaps if member is not None else 0
    if not again:
        events.append(Event("alert fired", {"alert": change.identity, "summary": body.summary}))
        if member is not None and not member.left:
            flaps += 1
            events.append(Event("flapping", {"alert": change.identity, "times": flaps}))
    elif change.change is Change.CHANGED:
        events.append(Event("alert changed", {"alert": change.identity, "summary": body.summary}))
    worst = worst_of(group, tuple(firing))
    if worst is not group.severity and group.members:
        events.append(Event("severity", {"before": group.severity, "after": worst}))
    after = _moved(group, tuple(firing), worst, group.members + (member is None), now)
    if change.flaps > after.flapping:
        after = msgspec.structs.replace(after, flapping=change.flaps)
    joined = Member(
        identity=change.identity,
        fingerprint=change.fingerprint,
        occurrence=change.occurrence,
        revision=change.revision,
        firing=True,
        severity=body.severity,
        starts_at=change.starts_at,
        ends_at=None,
        joined_at=member.joined_at if again and member is not None else change.accepted_at,
        incident_id=group.incident_id,
        body=change.body,
        seen=after.revision,
        flaps=flaps,
        flapping=change.flaps,
        told_flapping=_told_flapping(member, change.flaps),
        moved_at=_moved_at(member, change.flaps, now, again=again),
    )
    return Applied(after, joined, tuple(events))


def _moved_at(member: Member | None, refirings: int, now: datetime, *, again: bool) -> datetime | None:
    """When the member fired or ended last; only of one that flaps."""
    if not refirings:
        return None
    return member.moved_at if again and member is not None else now


def _told_flapping(member: Member | None, refirings: int) -> int:
    """How many refirings of the episode were told of; of a new member up to the milestone (a power of two) before."""
    if member is not None and member.flapping <= refirings and member.flapping:
        return member.told_flapping
    return 1 << ((refirings - 1).bit_length() - 1) if refirings > 1 else 0


def _joined_ended(
    group: GroupState | None, change: MemberChange, body: AlertBody, receiver: str, config_version: int, now: datetime
) -> Applied:
    """An alert of which only the end was said."""
    if group is None:
        group = GroupState(
            team=change.team,
            route=change.route,
            labels=change.group_labels,
            receiver=receiver,
            config_version=config_version,
            revision=int(now.timestamp() * 1000),
            incident_id="",
            status=IncidentStatus.RESOLVED,
            severity=body.severity,
            kind=body.kind,
            title=title_of(body, change.group_labels),
            description=body.description,
            opened_at=now,
            updated_at=now,
        )
    after = _moved(group, group.firing, group.severity, group.members + 1, now)
    ended = Member(
        identity=change.identity,
        fingerprint=change.fingerprint,
        occurrence=change.occurrence,
        revision=change.revision,
        firing=False,
        severity=body.severity,
        starts_at=change.starts_at,
        ends_at=change.ends_at,
        joined_at=change.accepted_at,
        incident_id=group.incident_id,
        body=change.body,
        seen=after.revision,
    )
    return Applied(after, ended, (Event("alert resolved", {"alert": change.identity}),))


def _resolved(group: GroupState, member: Member, change: MemberChange, now: datetime) -> Applied:
    ended = msgspec.structs.replace(
        member, firing=False, revision=change.revision, starts_at=change.starts_at, ends_at=change.ends_at,
        body=change.body or member.body, seen=group.revision + 1,
        moved_at=_moved_at(member, member.flapping, now, again=not member.firing),
    )  # fmt: skip
    if not member.firing:
        return Applied(_moved(group, group.firing, group.severity, group.members, now), ended, ())
    name = "alert timed out" if change.by_timeout else "alert resolved"
    return _ended(group, member, ended, change, Event(name, {"alert": member.identity}), group.members, now)


def _left(group: GroupState, member: Member, change: MemberChange, now: datetime, *, strict: bool) -> Applied:
    if not member.firing or member.left:
        # It goes by itself, once everybody who heard of it knows its end.
        newer = msgspec.structs.replace(member, revision=change.revision)
        return Applied(_moved(group, group.firing, group.severity, group.members, now), newer, ())
    event = Event("alert left", {"alert": member.identity, "why": "it belongs to other groups now"})
    silent = msgspec.structs.replace(
        group,
        told={key: _silenced(entry, key, member, change) for key, entry in group.told.items()},
        pending={key: _silenced(entry, key, member, change) for key, entry in group.pending.items()},
    )
    name = told_as(member)
    waited = any(name in entry.owed for entry in silent.told.values())
    if strict or not (waited or any(name in entry.all_firing for entry in silent.pending.values())):
        return _ended(silent, member, None, change, event, group.members - 1, now)
    kept = msgspec.structs.replace(member, firing=False, left=True, revision=change.revision, seen=group.revision + 1)
    return _ended(silent, member, kept, change, event, group.members, now)


def _silenced(entry: Entry, key: str, member: Member, change: MemberChange) -> Entry:
    """The entry as if nothing had been said of an alert that has left, for those who hear of it in its new groups."""
    reached = key.rpartition("/")[0] in change.reached
    return without(entry, member.identity, owing=not reached)


def _ended(
    group: GroupState, member: Member, after: Member | None, change: MemberChange, event: Event, members: int,
    now: datetime,
) -> Applied:  # fmt: skip
    firing = list(group.firing)
    firing[member.severity.rank] -= 1
    events = [event]
    worst = worst_of(group, tuple(firing))
    header = _moved(group, tuple(firing), worst, members, now)
    if not fires(header) and group.alive:
        # An alert of another partition may have opened it with a word that was accepted later.
        over_at = max(change.accepted_at, header.opened_at)
        header = moved_to(header, life.answer(header.state, Happening.CEASES), resolved_at=over_at)
        events.append(Event("resolved", {"by": "its alerts"}))
    elif worst is not group.severity:
        events.append(Event("severity", {"before": group.severity, "after": worst}))
    return Applied(header, after, tuple(events))


def _moved(group: GroupState, firing: tuple[int, ...], severity: Severity, members: int, now: datetime) -> GroupState:
    return msgspec.structs.replace(
        group, firing=firing, severity=severity, members=members, revision=group.revision + 1, updated_at=now
    )


def fires(group: GroupState) -> bool:
    """Whether anything of the incident fires, or of what was merged into it."""
    return any(group.firing) or any(child.worst >= 0 for child in group.handled.children.values())


def worst_of(group: GroupState, firing: tuple[int, ...]) -> Severity:
    """The severity of the worst that fires, here or in what was merged into it, unless a person set one."""
    handled = group.handling
    if handled is None:
        return next((severity for severity in Severity if firing[severity.rank]), group.severity)
    ranks = {child.worst for child in handled.children.values()}
    worst = next((one for one in Severity if firing[one.rank] or one.rank in ranks), group.severity)
    return handled.severity or worst


def title_of(body: AlertBody, group_labels: dict[str, str]) -> str:
    """What people read first, at most 255 characters."""
    named = body.summary or body.labels.get("alertname", "")
    text = " ".join((named or ", ".join(f"{k}={v}" for k, v in sorted(group_labels.items()) if v)).split())
    return text[:TITLE_LENGTH] or "alert"
