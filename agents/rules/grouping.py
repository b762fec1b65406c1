"""When a group is flushed and what the flush tells: pure, with the tick's own time.

The rules are Alertmanager's (`dispatch/dispatch.go`): a first flush after
group_wait, later ones every group_interval from the last flush, always with the
whole group; resolved members leave after a flush that succeeded. What is muted
is left out before the notification log is asked. `strict` is Alertmanager's
mode: our deliberate differences are off.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from agents.rules import flapping
from agents.rules.group_state import GroupState, Member, told_as
from agents.rules.notify_log import (
    Pending,
    Reason,
    Told,
    identities,
    in_force,
    together,
    told_name,
    told_of,
    why_notify,
)
from streams.rules_config import Integration, Receiver, Route

_NEVER: Final = timedelta(0)
_NOBODY: Final[frozenset[str]] = frozenset()
_NOTHING: Final[tuple[tuple[str, ...], tuple[Member, ...]]] = ((), ())
SWEEP: Final = timedelta(seconds=30)
"""How long an emptied group lives on in Alertmanager's mode, its ticks included (there: until the next sweep)."""


class Notice(msgspec.Struct, frozen=True):
    """One integration to be told, why, and of which members."""

    receiver: str
    integration: Integration
    decision: int
    reason: str
    members: tuple[Member, ...]


class Flush(msgspec.Struct, frozen=True):
    """What a flush leads to. `gone` are identities of members that leave, `hidden` some kept for a few alone."""

    group: GroupState
    notices: tuple[Notice, ...] = ()
    gone: tuple[str, ...] = ()
    hidden: tuple[Member, ...] = ()


def first_flush_at(route: Route, starts_at: datetime, now: datetime) -> datetime:
    """When a new group is flushed; at once when its alert is older than group_wait."""
    return now if starts_at + route.group_wait < now else now + route.group_wait


def joined(group: GroupState, member: Member, route: Route, *, now: datetime, strict: bool) -> GroupState:
    """The group with its next flush, after a member joined or changed.

    A group that was emptied counts as gone, so it waits anew; until the first
    flush, any alert older than group_wait brings it on.
    """
    began = strict or member.firing
    gone = group.next_flush_at is None or (strict and group.empty_at is not None and group.empty_at + SWEEP <= now)
    if gone and began:
        flush_at = first_flush_at(route, member.starts_at, now)
        return msgspec.structs.replace(group, next_flush_at=flush_at, flushed=False, empty_at=None, held_up=False)
    if group.empty_at is not None:
        group = msgspec.structs.replace(group, empty_at=None)
    if not gone and not group.flushed and member.starts_at + route.group_wait < now:
        return msgspec.structs.replace(group, next_flush_at=now)
    return group


def reloaded(group: GroupState, members: Iterable[Member], route: Route, *, now: datetime) -> GroupState:
    """The group after a reload in Alertmanager's mode: as if all its members came anew."""
    held = list(members)
    if not held:
        return msgspec.structs.replace(group, next_flush_at=None, empty_at=None)
    flush_at = min(first_flush_at(route, member.starts_at, now) for member in held)
    return msgspec.structs.replace(group, next_flush_at=flush_at, flushed=False, empty_at=None, held_up=False)


def integration_key(receiver: str, integration: Integration) -> str:
    """Names one integration of one receiver in a group's notification log."""
    return f"{receiver}/{integration.index}"


def flush(
    group: GroupState,
    members: Sequence[Member],
    route: Route,
    receiver: Receiver,
    *,
    now: datetime,
    suppressed: Collection[str] = (),
    muted: bool = False,
    strict: bool = False,
    former: Sequence[Receiver] = (),
    waiting: Sequence[Receiver] = (),
    acknowledged: bool = False,
    flap_window: timedelta = _NEVER,
) -> Flush:
    """Decide, for each integration, whether it is told now.

    `suppressed` are identities that are inhibited or silenced; `muted` says that
    the route's times mute the whole group. `former` receivers were the group's
    under other rules: they hear of the ends that are owed to them, and those `waiting`
    do so once all is over: until then what has ended is kept for them. What is
    `acknowledged` is told of again only where something is new. What flaps is
    told as `flapping` says.
    """
    if strict and group.pending:
        # There a flush lasts until its notices have ended, and the next tick waits for that.
        later = now + route.group_interval
        return Flush(msgspec.structs.replace(group, held_up=True, next_flush_at=later))
    held = flapping.damped(members, now, flap_window) if group.flapping and not group.written_off else _NOBODY
    unsteady = bool(held) and all(member.identity in held for member in members if member.firing)
    repeat = None if acknowledged or unsteady else route.repeat_interval
    notices, told = _decide(group, members, repeat, receiver, now, suppressed, muted=muted, strict=strict, damped=held)
    if not muted:
        notices += _owed_to(former, group, members, group.decision + len(notices))
    after = msgspec.structs.replace(
        group, told=told, decision=group.decision + len(notices), flushed=True, flushed_revision=group.revision,
        failed=False, held_up=False, next_flush_at=now + route.group_interval,
    )  # fmt: skip
    ended = [member for member in members if not member.firing]
    gone, hidden = _NOTHING
    if strict:
        gone = () if notices else tuple(member.identity for member in ended)
    elif ended:
        stays = _stays(after, (receiver, *former), notices, held)
        gone, hidden = _leaving(after, [one for one in ended if not stays(one)], waiting)
    left = len(members) - len(gone)
    return Flush(_emptied(after, left, now, strict=strict), tuple(notices), gone, hidden)


def pending(members: Iterable[Member], decision: int, task_id: str, now: datetime, *, strict: bool = False) -> Pending:
    """What a task made of these members tells."""
    held = list(members)
    return Pending(
        decision,
        task_id,
        tuple(sorted(told_as(m, strict=strict) for m in held if m.firing)),
        tuple(sorted(told_as(m, strict=strict) for m in held if not m.firing)),
        now,
    )


def pending_of(group: GroupState, key: str, task_id: str) -> Pending | None:
    """What one task is telling, where the group waits for its outcome."""
    waiting = group.pending.get(key)
    under_way = waiting.under_way if waiting is not None else ()
    return next((one for one in under_way if one.task_id == task_id), None)


def heard(
    group: GroupState, key: str, task_id: str, *, sent: bool, at: datetime | None = None, strict: bool = False
) -> GroupState | None:
    """The group after a task's outcome; None when it does not wait for that task.

    `at` is when the task ended, where that was too late for the flush's own time.
    """
    waiting = pending_of(group, key, task_id)
    if waiting is None:
        return None
    rest = {other: value for other, value in group.pending.items() if other != key}
    if left := [one for one in group.pending[key].under_way if one.task_id != task_id]:
        rest[key] = together(left)
    missed = {other: names for other, names in group.missed.items() if other != key}
    before = group.told.get(key)
    if sent:
        entry = told_of(before, waiting, at or waiting.at)
        told = {**group.told, key: msgspec.structs.replace(entry, owed=()) if strict else entry}
        return msgspec.structs.replace(group, pending=rest, told=told, missed=missed)
    unheard = tuple(name for name in waiting.firing if before is None or name not in before.owed)
    # What ended unheard, and was told in vain now too, is still to be told.
    still = tuple(name for name in group.missed.get(key, ()) if name in waiting.resolved)
    if (unheard or still) and not strict:
        missed[key] = (*unheard, *still)
    return msgspec.structs.replace(group, pending=rest, missed=missed, failed=True)


def after_outcome(
    group: GroupState, members: Iterable[Member], receivers: Sequence[Receiver], *, now: datetime, strict: bool = False,
    waiting: Sequence[Receiver] = (), flap_window: timedelta = _NEVER,
) -> Flush:  # fmt: skip
    """Who leaves once the last notice of a flush has ended; a flush that waited for it comes at once (`strict`)."""
    if group.pending:
        return Flush(group)
    held = list(members)
    ended = [member for member in held if not member.firing and member.seen <= group.flushed_revision]
    gone, hidden = _NOTHING
    if strict:
        gone = () if group.failed else tuple(member.identity for member in ended)
    elif ended:
        stays = _stays(group, receivers, (), flapping.damped(held, now, flap_window) if group.flapping else _NOBODY)
        gone, hidden = _leaving(group, [member for member in ended if not stays(member)], waiting)
    after = _emptied(group, len(held) - len(gone), now, strict=strict)
    if group.held_up and after.next_flush_at is not None:
        after = msgspec.structs.replace(after, held_up=False, next_flush_at=now)
    return Flush(after, gone=gone, hidden=hidden)


def _decide(
    group: GroupState,
    members: Sequence[Member],
    repeat_interval: timedelta | None,
    receiver: Receiver,
    now: datetime,
    suppressed: Collection[str],
    *,
    muted: bool,
    strict: bool,
    damped: Collection[str],
) -> tuple[list[Notice], dict[str, Told]]:
    told, notices = dict(group.told), list[Notice]()
    if muted:
        return notices, told
    names = {member.identity: told_as(member, strict=strict) for member in members}
    audible = tuple(m for m in members if m.identity not in suppressed and not m.left)
    for integration in receiver.integrations:
        key = integration_key(receiver.name, integration)
        if key in group.pending:
            continue
        entry = in_force(told.get(key), repeat_interval, now)
        owed = identities(entry.owed) if entry is not None and entry.owed else _NOBODY
        heard_of = audible if len(audible) == len(members) else _heard_of(members, suppressed, owed)
        if not heard_of:
            continue
        firing = tuple(sorted([names[m.identity] for m in heard_of if m.firing]))
        resolved = tuple(sorted([names[m.identity] for m in heard_of if not m.firing]))
        if entry is not None and group.flapping:
            firing, resolved = _as_told(heard_of, entry, names, damped)
        if entry is not None and owed and resolved and not strict:
            # The end of a later firing, which was muted, is the end that is owed.
            resolved = tuple(sorted(_as_owed(name, entry) for name in resolved))
        reason = why_notify(
            entry, firing=firing, resolved=resolved, send_resolved=integration.send_resolved,
            repeat_interval=repeat_interval, now=now,
        )  # fmt: skip
        if reason is None and integration.send_resolved and resolved and _missed(group, key, resolved):
            reason = Reason.MISSED
        if reason is Reason.ALL_RESOLVED and not integration.send_resolved:
            told[key] = Told((), resolved, now)
        elif reason is not None:
            reason = _as_shown(reason, heard_of)
            notices.append(Notice(receiver.name, integration, group.decision + len(notices) + 1, reason, heard_of))
    return notices, told


def _heard_of(members: Iterable[Member], suppressed: Collection[str], owed: Collection[str]) -> tuple[Member, ...]:
    """Whom an integration hears of: whoever was told that it fires is told that it ended, muted or not."""
    return tuple(
        m for m in members if (m.identity not in suppressed and not m.left) or (m.identity in owed and _is_over(m))
    )


def _missed(group: GroupState, key: str, resolved: Iterable[str]) -> bool:
    return not set(group.missed.get(key, ())).isdisjoint(resolved)


def _as_shown(reason: Reason, members: Iterable[Member]) -> Reason:
    """The reason as it fits what the notice shows: what flaps counts as it was told last, and is shown as it is."""
    if reason not in {Reason.ALL_RESOLVED, Reason.SOME_RESOLVED}:
        return reason
    return Reason.SOME_RESOLVED if any(member.firing for member in members) else Reason.ALL_RESOLVED


def _as_owed(name: str, entry: Told) -> str:
    known = name in entry.owed or name in entry.resolved
    return name if known else told_name(entry.owed, name.partition(":")[0]) or name


def _as_told(
    members: Iterable[Member], entry: Told, names: Mapping[str, str], damped: Collection[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What fires and what has ended, where what flaps is as it was told last: if damped, or if it is so again."""
    firing, resolved = list[str](), list[str]()
    for member in members:
        fired, ended = told_name(entry.firing, member.identity), told_name(entry.resolved, member.identity)
        name = names[member.identity]
        if not flapping.is_flapping(member) or not (fired or ended or member.identity not in damped):
            (firing if member.firing else resolved).append(name)
        elif member.identity in damped:
            (firing if fired else resolved).append(fired or ended)
        elif member.firing:
            firing.append(fired or name)
        else:
            resolved.append(ended or told_name(entry.owed, member.identity) or name)
    return tuple(sorted(firing)), tuple(sorted(resolved))


def _is_over(member: Member) -> bool:
    """Whether its end is known: one that left may fire on elsewhere."""
    return not member.firing and (not member.left or member.ends_at is not None)


def _owed_to(
    former: Iterable[Receiver], group: GroupState, members: Iterable[Member], decision: int
) -> Iterable[Notice]:
    """Ends for receivers that heard of the firing and are not the group's any more."""
    over = [member for member in members if _is_over(member)]
    for receiver in former:
        for integration in receiver.integrations:
            key = integration_key(receiver.name, integration)
            entry = group.told.get(key)
            if entry is None or not integration.send_resolved or key in group.pending:
                continue
            heard_of = identities(entry.owed)
            owed = tuple(member for member in over if member.identity in heard_of)
            if owed:
                decision += 1
                yield Notice(receiver.name, integration, decision, Reason.ALL_RESOLVED, owed)


def _stays(
    group: GroupState, receivers: Sequence[Receiver], notices: Iterable[Notice], damped: Collection[str]
) -> Callable[[Member], bool]:
    """Whether an ended member is still to be told of: by what was just made, for what is owed, later if it flaps.

    What the group's own receiver, the first, has missed is told to it, unless the alert has left; former ones
    only hear of ends.
    """
    carried = {member.identity for notice in notices for member in notice.members}
    carried.update(damped)
    owed: set[str] = set()
    missed: set[str] = set()
    for receiver, integration in ((one, each) for one in receivers for each in one.integrations):
        key = integration_key(receiver.name, integration)
        if integration.send_resolved:
            entry = group.told.get(key)
            owed |= identities(entry.owed if entry is not None else ())
            owed |= identities(group.pending[key].all_firing if key in group.pending else ())
            missed.update(group.missed.get(key, ()) if receiver is receivers[0] else ())

    def stays(member: Member) -> bool:
        if member.identity in carried or member.identity in owed:
            return True
        return member.ends_at is None if member.left else told_as(member) in missed

    return stays


def _leaving(
    group: GroupState, ended: Sequence[Member], waiting: Sequence[Receiver]
) -> tuple[tuple[str, ...], tuple[Member, ...]]:
    """Of members that everybody else has done with: who leaves, and who is kept for those alone who still wait."""
    if not waiting or not ended:
        return tuple(member.identity for member in ended), ()
    stays = _stays(group, waiting, (), ())
    gone, hidden = list[str](), list[Member]()
    for member in ended:
        if not stays(member):
            gone.append(member.identity)
        elif not member.left:
            hidden.append(msgspec.structs.replace(member, left=True))
    return tuple(gone), tuple(hidden)


def _emptied(group: GroupState, left: int, now: datetime, *, strict: bool) -> GroupState:
    if left:
        return msgspec.structs.replace(group, members=left) if left != group.members else group
    if not strict:
        return msgspec.structs.replace(group, members=0, next_flush_at=None, held_up=False)
    empty_at = group.empty_at or now
    swept = empty_at + SWEEP <= now
    return msgspec.structs.replace(
        group, members=0, empty_at=empty_at, next_flush_at=None if swept else group.next_flush_at
    )
