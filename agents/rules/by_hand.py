"""Incidents that a person opens: a group of their own, with one member that fires until somebody resolves it. Pure."""

from datetime import datetime
from typing import Final

import msgspec

from agents.rules.group_state import GroupState, Member
from agents.rules.handling import Handling
from agents.rules.incident import TITLE_LENGTH, Event
from streams.keys import fingerprint, group_of, hashed, identity_of_key
from streams.records import Action, AlertBody, IncidentStatus, Kind, Severity

SOURCE: Final = "person"
_encode = msgspec.msgpack.Encoder().encode


def group_key(team: str, action_id: str) -> str:
    """The key of the group that an action opens."""
    return hashed(group_of(team, SOURCE, [("action", action_id)]))


def opened(
    action: Action, *, route: str, receiver: str, config_version: int, now: datetime
) -> tuple[GroupState, Member | None]:
    """The group and its member, to be told at once."""
    args = action.args
    severity = Severity(args.severity or Severity.ERROR)
    revision = int(now.timestamp() * 1000)
    handling = Handling(
        assignee=args.assignee or "", labels=args.labels or {}, by_hand=True, receiver=args.receiver,
        actions=(action.id,), edited=revision,
    )  # fmt: skip
    title = (args.title or "")[:TITLE_LENGTH]
    group = GroupState(
        team=action.team, route=route, labels={"incident": action.incident_id}, receiver=args.receiver or receiver,
        config_version=config_version, revision=revision, incident_id=action.incident_id, status=IncidentStatus.OPEN,
        severity=severity, kind=Kind(args.kind or Kind.OTHER), title=title, description=args.description or "",
        opened_at=now, updated_at=now, next_flush_at=now, handling=handling,
    )  # fmt: skip
    return followed(group, None, now)


def opening(action: Action, group: GroupState) -> Event:
    """The line that says who opened it."""
    detail: dict[str, object] = {"by": action.actor, "severity": group.severity, "title": group.title}
    detail["action"] = action.id
    return Event("opened", detail, action.actor)


def followed(group: GroupState, member: Member | None, now: datetime) -> tuple[GroupState, Member | None]:
    """The member, and what fires of the group, as the incident is now: it fires until the incident is over."""
    if group.alive == (member is not None and member.firing):
        return group, member
    severity = member.severity if member is not None else group.severity
    firing = tuple(int(group.alive and one is severity) for one in Severity)
    after = msgspec.structs.replace(group, firing=firing, members=1)
    if not group.alive and member is not None:
        return after, msgspec.structs.replace(member, firing=False, ends_at=now, seen=group.revision)
    return after, _begun(group, member.revision + 1 if member is not None else 1, now)


def _begun(group: GroupState, revision: int, now: datetime) -> Member:
    """A new occurrence of what a person says, in the words that the incident has now."""
    labels = {"alertname": group.title, **group.handled.labels}
    body = AlertBody(
        source=SOURCE, severity=group.severity, kind=group.kind, summary=group.title, description=group.description,
        labels=labels,
    )  # fmt: skip
    return Member(
        identity=hashed(identity_of_key(group.team, SOURCE, group.incident_id)), fingerprint=fingerprint(labels),
        occurrence=group.revision, revision=revision, firing=True, severity=group.severity, starts_at=now,
        ends_at=None, joined_at=now, incident_id=group.incident_id, body=_encode(body), seen=group.revision,
    )  # fmt: skip
