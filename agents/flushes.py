"""One group's flush as a whole: who is muted, who is told of what, and the tasks and words for it. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from agents import notices
from agents.rules import grouping
from agents.rules.grouping import Flush, integration_key
from agents.rules.incident import Event, GroupState, Member
from agents.suppression import Suppression
from sinks import task_rows
from streams.rules_config import Receiver, Route
from streams.trace_context import child


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
    config_version: int
    now: datetime
    page_url: str
    strict: bool
    muted_by: Callable[[Member], Suppression]
    """Silences and inhibition, asked for members one by one."""
    closed_by: tuple[str, ...] = ()
    """Names of the time intervals that mute the whole route now."""


class Made(NamedTuple):
    """What a flush leads to: states, rows, and lines for the story."""

    group: GroupState
    gone: tuple[str, ...]
    calmed: tuple[Member, ...]
    """Members whose flapping has been said."""
    notices: tuple[task_rows.Notice, ...]
    tasks: tuple[task_rows.Task, ...]
    events: tuple[Event, ...]
    decisions: tuple[Decision, ...]
    trace: str = ""
    """The context of what was told, where it is traced."""


def flush(key: str, group: GroupState, members: Sequence[Member], setting: Setting) -> Made:
    """Flush one group: mute (inhibition, times, silences), then ask the log of each integration."""
    held = {member.identity: by for member in members if (by := setting.muted_by(member))}
    done = grouping.flush(
        group, members, setting.route, setting.receiver, now=setting.now, suppressed=held,
        muted=bool(setting.closed_by), strict=setting.strict, former=setting.former,
    )  # fmt: skip
    said = {identity: _by(one) for identity, one in held.items()}
    decisions = [*_muting(group, members, said), *_closing(group, setting.closed_by)]
    after = msgspec.structs.replace(
        done.group, revision=group.revision + 1, updated_at=setting.now, suppressed=said, muted_by=setting.closed_by,
        trace="",
    )  # fmt: skip
    context = child(group.trace, "flush", after.revision) if group.trace and done.notices else ""
    return _told(key, after, done, decisions, setting, context)


def _told(key: str, after: GroupState, done: Flush, decisions: list[Decision], setting: Setting, context: str) -> Made:
    rows, tasks, events = list[task_rows.Notice](), list[task_rows.Task](), list[Event]()
    bodies: dict[tuple[str, ...], str] = {}
    calmed: dict[str, Member] = {}
    waiting = dict(after.pending)
    for notice in done.notices:
        flushed = notices.Flushed(key, after, notice.receiver, setting.config_version, setting.now)
        which = (notice.receiver, *(member.identity for member in notice.members))
        if which not in bodies:
            bodies[which] = notices.body(flushed, notice.members, setting.page_url, context)
        row, task = notices.task(flushed, notice, bodies[which])
        rows.append(row)
        tasks.append(task)
        target = integration_key(notice.receiver, notice.integration)
        waiting[target] = grouping.pending(
            notice.members, notice.decision, str(task.id), setting.now, strict=setting.strict
        )
        flapping = [member for member in notice.members if member.flaps]
        calmed.update((m.identity, msgspec.structs.replace(m, flaps=0)) for m in flapping)
        detail: dict[str, object] = {"to": target, "reason": notice.reason}
        if flapping:
            detail["flapping"] = f"flapping ×{sum(member.flaps for member in flapping)}"  # noqa: RUF001 - as it is read
        events.append(Event("notice made", detail))
        decisions.append(Decision("task made", notice.reason, detail))
    return Made(
        msgspec.structs.replace(after, pending=waiting), done.gone, tuple(calmed.values()), tuple(rows), tuple(tasks),
        tuple(events), tuple(decisions), context,
    )  # fmt: skip


def _by(one: Suppression) -> str:
    if one.inhibited_by:
        return f"inhibited by {', '.join(one.inhibited_by)}"
    return f"silenced by {', '.join(one.silenced_by)}"


def _muting(group: GroupState, members: Iterable[Member], said: Mapping[str, str]) -> Iterable[Decision]:
    """Lines for those of whom it has changed since the last flush."""
    for member in members:
        by, before = said.get(member.identity, ""), group.suppressed.get(member.identity, "")
        if by != before:
            word, _, whom = by.partition(" by ")
            yield Decision(f"{word} by" if by else "heard again", whom or before, {}, member.identity)


def _closing(group: GroupState, closed_by: tuple[str, ...]) -> Iterable[Decision]:
    if closed_by != group.muted_by:
        names = ", ".join(closed_by or group.muted_by)
        yield Decision("muted" if closed_by else "heard again", names, {})
