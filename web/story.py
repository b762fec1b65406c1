"""One alert's story in plain words: what came, what was decided, who was told, and what happens next. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from agents.rules import escalation
from agents.rules import silence as rules
from agents.rules.dedup import Pulse
from agents.rules.escalation import Escalation
from agents.rules.group_state import GroupState
from sinks.story_reads import Material, StoryAlert
from streams.records import Silence
from streams.rules_config import RulesConfig
from web.picture import Picture

_group: Final = msgspec.msgpack.Decoder(GroupState)
_CAME: Final = {
    "new": "It fired, as {source} said{over}.",
    "changed": "Its text changed.",
    "resolved": "It ended, as {source} said{over}.",
    "late": "An older word about it came late and was only counted.",
}
_DECIDED: Final = {
    "grouped": "It joined the group {labels} on the {reason}.",
    "reopened": "It fired again soon enough: its incident was opened again.",
    "silenced by": "Silence {reason} muted it.",
    "inhibited by": "Alert {reason} fires and muted it.",
    "muted": "The time interval {reason} muted its route.",
    "heard again": "It is no longer muted by {reason}.",
    "waiting until": "Its group waits until {reason}.",
    "task made": "A notice to {to} was decided: {reason}.",
    "withheld": "No notice went to {to}: {reason}.",
    "withheld because": "No notice went out: {reason}.",
    "escalation": "Escalation by {reason}.",
    "correlated under": "Its incident was put under {reason}, which speaks for it.",
}
_TOLD: Final = {
    "sent": "{receiver} was told by {channel}: {reason}.",
    "failed": "{receiver} could not be told by {channel}, for good: {why}.",
    "due": "{receiver} is about to be told by {channel}: {reason}{tried}.",
    "sending": "{receiver} is being told by {channel}: {reason}{tried}.",
    "folded": "{receiver} is about to be told by {channel} in a digest with others: {reason}.",
    "digested": "{receiver} was told by {channel} in a digest with others: {reason}.",
}


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened. `kind` is came, decided or told; `by` is the rule or the silence, where one is named."""

    at: datetime
    kind: str
    text: str
    by: str = ""


class Upcoming(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that will happen if nothing else does; `at` is None where that depends on others."""

    at: datetime | None
    text: str


def lines(alert: StoryAlert, material: Material, silences: Mapping[str, Silence]) -> list[Line]:
    """What happened, in order."""
    found = [
        *(_came(alert, row) for row in material.verdicts),
        *(_repeated(row) for row in material.repeats),
        *(_decided(row, silences) for row in material.decisions),
        *(_told(row) for row in material.notices),
    ]
    return sorted(found, key=lambda line: line.at)


def _came(alert: StoryAlert, row: Mapping[str, Any]) -> Line:
    words = _CAME.get(row["verdict"], "An event of it was judged {verdict}.")
    over = f" over {row['via']}" if row["via"] != alert.source else ""
    said = words.format(source=alert.source, over=over, verdict=row["verdict"])
    return Line(at=row["decided_at"], kind="came", text=_with(said, row["reason"]), by=f"verdict {row['verdict']}")


def _repeated(row: Mapping[str, Any]) -> Line:
    times = "once" if row["events"] == 1 else f"{row['events']} times"
    since = f" since {_clock(row['first_at'])}" if row["events"] > 1 else ""
    return Line(
        at=row["last_at"], kind="came", text=f"It was repeated {times}{since}, and folded.", by="verdict duplicate"
    )  # fmt: skip


def _decided(row: Mapping[str, Any], silences: Mapping[str, Silence]) -> Line:
    detail, reason = row["detail"], row["reason"]
    words = _DECIDED.get(row["decision"], "{decision}: {reason}.")
    said = words.format(
        decision=row["decision"].capitalize(),
        reason="top route" if reason == "route {}" else reason,
        labels=_labels(detail.get("labels") or {}),
        to=_receiver(str(detail.get("to", ""))),
    )
    if detail.get("flush_at"):
        said = f"{said} Its first notice waits until {_clock(datetime.fromisoformat(detail['flush_at']))}."
    named = silences.get(reason.partition(",")[0].removeprefix("silenced by ").strip())
    if named is not None:
        said = f"{said} {named.created_by} made it: {named.comment}."
    return Line(at=row["decided_at"], kind="decided", text=said, by=f"{row['decision']} {reason}".strip())


def _told(row: Mapping[str, Any]) -> Line:
    tried = f" (attempt {row['attempts']}, {row['last_reason'] or 'no answer yet'})" if row["attempts"] else ""
    said = _TOLD.get(row["state"], "A notice to {receiver} by {channel} is {state}: {reason}.").format(
        state=row["state"],
        receiver=row["receiver"],
        channel=row["channel"],
        reason=row["reason"],
        why=row["last_reason"],
        tried=tried,
    )
    return Line(at=row["finished_at"] or row["created_at"], kind="told", text=said, by=f"task {row['reason']}")


def upcoming(
    alert: StoryAlert, pulse: Pulse | None, material: Material, picture: Picture, reopen_window: timedelta
) -> list[Upcoming]:
    """What happens next, soonest first."""
    now = picture.now
    found: list[Upcoming] = []
    if alert.status == "firing":
        found += _end_of(pulse)
        found += _mutes(alert, picture)
    for row in material.groups:
        found += _of_group(alert, _group.decode(row["state"]), picture.config, now, reopen_window)
    if alert.status == "firing" and not material.groups:
        found.append(Upcoming(at=None, text="It is in no group yet: its groups hear of it in a moment."))
    return sorted(found, key=lambda one: (one.at is None, one.at or now))


def _end_of(pulse: Pulse | None) -> Iterator[Upcoming]:
    if pulse is not None and pulse.timeout_at is not None:
        yield Upcoming(at=pulse.timeout_at, text="It ends by itself, unless it is said again before.")
    else:
        yield Upcoming(at=None, text="It fires until its sender says that it has ended.")


def _mutes(alert: StoryAlert, picture: Picture) -> Iterator[Upcoming]:
    standing = picture.of(alert.labels, alert.team)
    for silence_id in standing.silenced_by:
        silence = picture.silences.known[silence_id]
        _, end = rules.window_at(silence.windows, picture.now)
        again = " It comes back after that." if end < silence.windows[-1][1] else ""
        yield Upcoming(at=end, text=f"Silence {silence_id} ({silence.comment}) ends.{again}")
    for source in standing.inhibited_by:
        yield Upcoming(at=None, text=f"It is heard again once alert {source} has ended.")
    for name in standing.muted_by:
        yield Upcoming(at=None, text=f"The time interval {name} keeps a route of it closed.")


def _of_group(
    alert: StoryAlert, group: GroupState, config: RulesConfig, now: datetime, reopen_window: timedelta
) -> Iterator[Upcoming]:
    name = _labels(group.labels)
    if group.next_flush_at is not None:
        yield Upcoming(at=group.next_flush_at, text=f"The group {name} decides whom to tell.")
    route = config.route_by_id(group.route)
    if route is not None and alert.status == "firing":
        for target, told in group.told.items():
            due = _flush_after(group.next_flush_at, told.at + route.repeat_interval, route.group_interval)
            if told.firing and due is not None:
                yield Upcoming(at=due, text=f"{_receiver(target)} is told again, if nothing has changed by then.")
    if group.escalation is not None:
        yield from _escalated(group.escalation, config)
    for target in group.pending:
        yield Upcoming(at=None, text=f"A notice to {_receiver(target)} is under way; the next one waits for it.")
    if group.resolved_at is not None and group.resolved_at + reopen_window > now:
        until = group.resolved_at + reopen_window
        yield Upcoming(at=until, text="If it fires before this, its incident is opened again; later a new one opens.")


def _escalated(state: Escalation, config: RulesConfig) -> Iterator[Upcoming]:
    for due, targets, step in escalation.upcoming(state, escalation.rules_of(config)):
        whom = " and ".join(targets)
        if whom:
            said = f"Step {step} of policy {state.policy} tells {whom}, unless somebody acknowledges it before."
            yield Upcoming(at=due, text=said)
    if state.phase is escalation.Phase.STOPPED:
        yield Upcoming(at=None, text=f"Policy {state.policy} tells nobody more while somebody has the incident.")


def _flush_after(flush_at: datetime | None, at: datetime, interval: timedelta) -> datetime | None:
    """The first flush after a moment: groups speak only when they are flushed."""
    if flush_at is None or flush_at > at:
        return flush_at
    return flush_at + ((at - flush_at) // interval + 1) * interval


def _receiver(target: str) -> str:
    return target.removesuffix("/0")


def _labels(labels: Mapping[str, str]) -> str:
    return "{" + ", ".join(f'{name}="{value}"' for name, value in sorted(labels.items()) if value) + "}"


def _with(said: str, reason: str) -> str:
    return f"{said} ({reason})" if reason else said


def _clock(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def silence_ids(decisions: Iterable[Mapping[str, Any]]) -> set[str]:
    """Silences that the decisions name."""
    named = (row["reason"] for row in decisions if row["decision"] in {"silenced by", "heard again"})
    return {part.removeprefix("silenced by ").strip() for reason in named for part in reason.split(",")}
