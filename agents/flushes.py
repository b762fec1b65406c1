"""One group's flush as a whole: who is muted, who is told of what, and the tasks and words for it. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import msgspec

from agents import notices
from agents.rules import grouping
from agents.rules.group_state import GroupState, Member
from agents.rules.grouping import Flush, integration_key
from agents.rules.incident import Event
from agents.suppression import Suppression
from sinks import task_rows
from streams.records import IncidentStatus
from streams.rules_config import Receiver, Route
from streams.trace_context import child

UNDER: Final = "correlated under"
"""What the members of a merged incident are muted by: its parent speaks."""
SNOOZED: Final = "it is snoozed until"


class Decision(NamedTuple):
    """One line of why: what was decided, the reason, more about it, and the alert (None: the group)."""

    decision: str
    reason: str
    detail: dict[str, object]
    identity: str | None = None


class Setting(NamedTuple):
    """What a flush needs to know beside the group: the rules of one version, the time, and who is muted."""

    route: Route
    receiver: Receiver
    former: tuple[Receiver, ...]
    waiting: tuple[Receiver, ...]
    """Whom escalation told: they hear of ends once all is over."""
    config_version: int
    now: datetime
    page_url: str
    strict: bool
    muted_by: Callable[[Member], Suppression]
    """Silences and inhibition, asked for members one by one."""
    closed_by: tuple[str, ...] = ()
    """Names of the time intervals that mute the whole route now."""
    flap_window: timedelta = timedelta(0)
    """An alert that fires within this after its end flaps; 0: none does."""


class Made(NamedTuple):
    """What a flush leads to: states, rows, and lines for the story."""

    group: GroupState
    gone: tuple[str, ...]
    changed: tuple[Member, ...]
    """Members whose flapping has been said, and those that are kept for a few alone."""
    notices: tuple[task_rows.Notice, ...]
    tasks: tuple[task_rows.Task, ...]
    events: tuple[Event, ...]
    decisions: tuple[Decision, ...]
    trace: str = ""
    """The context of what was told, where it is traced."""


def flush(key: str, group: GroupState, members: Sequence[Member], setting: Setting) -> Made:
    """Flush one group: mute (inhibition, times, silences), then ask the log of each integration."""
    held = {member.identity: by for member in members if (by := setting.muted_by(member))}
    said = {identity: in_words(one) for identity, one in held.items()}
    if group.status is IncidentStatus.MERGED:
        said = {member.identity: f"{UNDER} {group.handled.parent_id}" for member in members}
    closed_by = (*setting.closed_by, *_snooze(group))
    shown = [_written_off(one, group) for one in members] if group.written_off else members
    done = grouping.flush(
        group, shown, setting.route, setting.receiver, now=setting.now, suppressed=said, muted=bool(closed_by),
        strict=setting.strict, former=setting.former, waiting=setting.waiting,
        acknowledged=group.acknowledged_at is not None, flap_window=setting.flap_window,
    )  # fmt: skip
    if group.written_off:
        done = _firing_on(done, members, setting)
    decisions = [*_muting(group, members, said), *_closing(group, closed_by)]
    after = msgspec.structs.replace(
        done.group, revision=group.revision + 1, updated_at=setting.now, suppressed=said, muted_by=closed_by,
        trace="",
    )  # fmt: skip
    if not done.notices and not done.hidden:
        return Made(after, done.gone, (), (), (), (), tuple(decisions))
    context = child(group.trace, "flush", after.revision) if group.trace and done.notices else ""
    return _told(key, after, done, decisions, setting, members, context)


def _snooze(group: GroupState) -> Iterable[str]:
    until = group.handled.snoozed_until
    if until is not None:
        yield f"{SNOOZED} {until:%Y-%m-%d %H:%M} UTC"


def _written_off(member: Member, group: GroupState) -> Member:
    """The member as it is told of once its incident was ended over its head."""
    if not member.firing:
        return member
    return msgspec.structs.replace(member, firing=False, ends_at=group.resolved_at)


def _firing_on(done: Flush, members: Sequence[Member], setting: Setting) -> Flush:
    """What fires in truth stays in the group, so that its repeats are known, and its end."""
    firing = {member.identity for member in members if member.firing}
    if not firing:
        return done
    gone = tuple(identity for identity in done.gone if identity not in firing)
    later = done.group.next_flush_at or setting.now + setting.route.group_interval
    group = msgspec.structs.replace(done.group, members=len(members) - len(gone), next_flush_at=later)
    return Flush(group, done.notices, gone)


def _told(
    key: str, after: GroupState, done: Flush, decisions: list[Decision], setting: Setting,
    members: Sequence[Member], context: str,
) -> Made:  # fmt: skip
    rows, tasks, events = list[task_rows.Notice](), list[task_rows.Task](), list[Event]()
    bodies: dict[tuple[str, ...], str] = {}
    calm: set[str] = set()
    waiting = dict(after.pending)
    for notice in done.notices:
        flushed = notices.Flushed(key, after, notice.receiver, setting.config_version, setting.now)
        which = (notice.receiver, *(member.identity for member in notice.members))
        if which not in bodies:
            bodies[which] = notices.body(flushed, notice.members, setting.page_url, context, first=not after.told)
        row, task = notices.task(flushed, notice, bodies[which])
        rows.append(row)
        tasks.append(task)
        target = integration_key(notice.receiver, notice.integration)
        waiting[target] = grouping.pending(
            notice.members, notice.decision, str(task.id), setting.now, strict=setting.strict
        )
        flapping = [member for member in notice.members if member.flaps or member.flapping]
        calm.update(member.identity for member in flapping)
        detail: dict[str, object] = {"to": target, "reason": notice.reason}
        if flapping:
            detail["flapping"] = f"flapping ×{sum(max(member.flaps, member.flapping) for member in flapping)}"  # noqa: RUF001 - as it is read
        events.append(Event("notice made", detail))
        decisions.append(Decision("task made", notice.reason, detail))
    changed = {one.identity: one for one in done.hidden}
    for one in members:
        if one.identity in calm:
            held = changed.get(one.identity, one)
            changed[one.identity] = msgspec.structs.replace(held, flaps=0, told_flapping=one.flapping)
    return Made(
        msgspec.structs.replace(after, pending=waiting), done.gone, tuple(changed.values()), tuple(rows),
        tuple(tasks),
        tuple(events), tuple(decisions), context,
    )  # fmt: skip


def in_words(one: Suppression) -> str:
    """By what something is muted."""
    if one.inhibited_by:
        return f"inhibited by {', '.join(one.inhibited_by)}"
    return f"silenced by {', '.join(one.silenced_by)}"


def _muting(group: GroupState, members: Iterable[Member], said: Mapping[str, str]) -> Iterable[Decision]:
    """Lines for those of whom it has changed since the last flush."""
    for member in members:
        by, before = said.get(member.identity, ""), group.suppressed.get(member.identity, "")
        if by != before and by.startswith(UNDER):
            yield Decision(UNDER, by.removeprefix(f"{UNDER} "), {}, member.identity)
        elif by != before:
            word, _, whom = by.partition(" by ")
            yield Decision(f"{word} by" if by else "heard again", whom or before, {}, member.identity)


def _closing(group: GroupState, closed_by: tuple[str, ...]) -> Iterable[Decision]:
    if closed_by != group.muted_by:
        names = ", ".join(closed_by or group.muted_by)
        snoozed = closed_by and closed_by[-1].startswith(SNOOZED)
        word = "withheld because" if snoozed else "muted" if closed_by else "heard again"
        yield Decision(word, names, {})
