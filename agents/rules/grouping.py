"""When a group is flushed and what the flush tells: pure, with the tick's own time.

The rules are Alertmanager's (`dispatch/dispatch.go`): a first flush after
group_wait, later ones every group_interval from the last flush, always with the
whole group; resolved members leave once everybody who heard of them knows.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from agents.rules.incident import GroupState, Member, told_as
from agents.rules.notify_log import Pending, Reason, Told, why_notify
from streams.rules_config import Integration, Receiver, Route


class Notice(msgspec.Struct, frozen=True):
    """One integration to be told, and why."""

    integration: Integration
    decision: int
    reason: Reason


class Withheld(msgspec.Struct, frozen=True):
    """One integration that is not told, and why not."""

    integration: Integration
    reason: str


class Flush(msgspec.Struct, frozen=True):
    """What a flush leads to. `gone` are identities of members that leave."""

    group: GroupState
    notices: tuple[Notice, ...]
    withheld: tuple[Withheld, ...]
    gone: tuple[str, ...]


def first_flush_at(route: Route, starts_at: datetime, now: datetime) -> datetime:
    """When a new group is flushed; at once when its alert is older than group_wait."""
    return now if starts_at + route.group_wait < now else now + route.group_wait


def integration_key(receiver: str, integration: Integration) -> str:
    """Names one integration of one receiver in a group's notification log."""
    return f"{receiver}/{integration.index}"


def flush(group: GroupState, members: Sequence[Member], route: Route, receiver: Receiver, *, now: datetime) -> Flush:
    """Decide, for each integration, whether it is told now."""
    firing = tuple(sorted(told_as(m) for m in members if m.firing))
    resolved = tuple(sorted(told_as(m) for m in members if not m.firing))
    told, decision = dict(group.told), group.decision
    notices: list[Notice] = []
    withheld: list[Withheld] = []
    for integration in receiver.integrations:
        key = integration_key(receiver.name, integration)
        if key in group.pending:
            withheld.append(Withheld(integration, "an earlier notice is still on its way"))
            continue
        reason = why_notify(
            told.get(key), firing=firing, resolved=resolved, send_resolved=integration.send_resolved,
            repeat_interval=route.repeat_interval, now=now,
        )  # fmt: skip
        if reason is None:
            withheld.append(Withheld(integration, "it knows already"))
        elif reason is Reason.ALL_RESOLVED and not integration.send_resolved:
            told[key] = Told((), resolved, now)
            withheld.append(Withheld(integration, "it does not want recoveries"))
        else:
            decision += 1
            notices.append(Notice(integration, decision, reason))
    after = msgspec.structs.replace(group, told=told, decision=decision)
    gone = tuple(m.identity for m in members if not m.firing and not _waits(after, m, receiver, notices))
    left = len(members) - len(gone)
    return Flush(
        msgspec.structs.replace(after, members=left, next_flush_at=now + route.group_interval if left else None),
        tuple(notices),
        tuple(withheld),
        gone,
    )


def pending(members: Iterable[Member], decision: int, task_id: str, now: datetime) -> Pending:
    """What a task made of these members tells."""
    held = list(members)
    return Pending(
        decision,
        task_id,
        tuple(sorted(told_as(m) for m in held if m.firing)),
        tuple(sorted(told_as(m) for m in held if not m.firing)),
        now,
    )


def heard(group: GroupState, key: str, task_id: str, *, sent: bool) -> GroupState | None:
    """The group after a task's outcome; None when it does not wait for that task."""
    waiting = group.pending.get(key)
    if waiting is None or waiting.task_id != task_id:
        return None
    rest = {other: value for other, value in group.pending.items() if other != key}
    told = {**group.told, key: Told(waiting.firing, waiting.resolved, waiting.at)} if sent else group.told
    return msgspec.structs.replace(group, pending=rest, told=told)


def _waits(group: GroupState, member: Member, receiver: Receiver, notices: Iterable[Notice]) -> bool:
    """Whether some integration still has to hear that this member ended."""
    name = told_as(member)
    about_to = {notice.integration.index for notice in notices}
    for integration in receiver.integrations:
        key = integration_key(receiver.name, integration)
        told = group.told.get(key)
        if integration.index in about_to or key in group.pending:
            return True
        if integration.send_resolved and told is not None and name in told.firing and name not in told.resolved:
            return True
    return False
