"""What a flush sends: the notice's stored body and one task for each integration. Pure."""

import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from agents.rules.group_state import GroupState, Member
from agents.rules.grouping import Notice
from sinks import task_rows
from streams import codec, keys
from streams.intake_alertmanager import SOURCE as ALERTMANAGER
from streams.records import AlertBody


class Flushed(msgspec.Struct, frozen=True):
    """A group at one flush, and the receiver, of one version of the rules, that is told of it."""

    key: str
    group: GroupState
    receiver: str
    config_version: int
    at: datetime


def body(flushed: Flushed, members: Iterable[Member], page_url: str, trace: str = "", *, first: bool = False) -> str:
    """The group as a notice tells it, in Alertmanager's words and order: JSON of `sinks.message.NoticeBody`.

    `trace` is the context that a send continues, where the flush is traced. The `first` notice of a group says when
    it was accepted.
    """
    group = flushed.group
    said = sorted(((member, codec.decode_body(member.body)) for member in members), key=_place)
    return codec.to_json(
        {
            "receiver": flushed.receiver,
            "groupKey": f"{group.route}:{_quoted(group.labels)}",
            "groupLabels": group.labels,
            "route": group.route,
            "incident": {
                "id": group.incident_id,
                "title": group.title,
                "severity": group.severity,
                "status": group.status,
                "kind": group.kind,
                "team": group.team,
                "url": f"{page_url}/incidents/{group.incident_id}",
            },
            "alerts": [_alert(member, words) for member, words in said],
            "externalURL": page_url,
            "truncatedAlerts": 0,
            **({"traceparent": trace} if trace else {}),
            **({"acceptedAt": iso(min(member.joined_at for member, _ in said))} if first and said else {}),
        }
    )


def task(flushed: Flushed, notice: Notice, text: str) -> tuple[task_rows.Notice, task_rows.Task]:
    """The rows of one notice to one integration; ids follow from the decision, so a repeat makes the same."""
    group, to = flushed.group, notice.integration
    incident_id = uuid.UUID(group.incident_id)
    notice_id = keys.derived_id("notice", group.incident_id, notice.decision)
    row = task_rows.Notice(notice_id, incident_id, notice.decision, text, flushed.at)
    made = task_rows.Task(
        id=keys.derived_id("task", group.incident_id, notice.decision, flushed.receiver, to.index, to.target),
        notice_id=notice_id,
        incident_id=incident_id,
        group_key=flushed.key,
        team=group.team,
        decision=notice.decision,
        config_version=flushed.config_version,
        receiver=flushed.receiver,
        integration=to.index,
        channel=to.channel,
        target=to.target,
        urgency=group.severity.rank,
        reason=notice.reason,
        due_at=flushed.at,
        created_at=flushed.at,
    )
    return row, made


def iso(at: datetime | None) -> str | None:
    """RFC 3339, or None."""
    return at.isoformat() if at is not None else None


def _place(said: tuple[Member, AlertBody]) -> "_Place":
    return _Place(said[1].labels)


class _Place:
    """Alertmanager's order of alerts (`alert/alert.go`, `model/labelset.go`): by job, instance, then all labels."""

    def __init__(self, labels: Mapping[str, str]) -> None:
        first = tuple((labels.get(name) is None, labels.get(name, "")) for name in ("job", "instance"))
        self._key = (first, len(labels))
        self._sorted = sorted(labels.items())

    def __lt__(self, other: "_Place") -> bool:
        if self._key != other._key:
            return self._key < other._key
        for mine, theirs in zip(self._sorted, other._sorted, strict=True):
            if mine[0] != theirs[0]:
                return mine[0] > theirs[0]  # the one that lacks the lesser name comes first
            if mine[1] != theirs[1]:
                return mine[1] < theirs[1]
        return False


def _quoted(labels: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{name}={codec.to_json(value)}" for name, value in sorted(labels.items())) + "}"


def _alert(member: Member, said: AlertBody) -> dict[str, Any]:
    ours = {"summary": said.summary, "description": said.description}
    shown = {
        "status": "firing" if member.firing else "resolved",
        "labels": said.labels,
        "annotations": said.annotations if said.annotations or said.source == ALERTMANAGER else ours,
        "startsAt": member.starts_at.isoformat(),
        "endsAt": iso(member.ends_at) or "0001-01-01T00:00:00Z",
        "generatorURL": said.generator_url,
        "fingerprint": member.fingerprint,
    }
    times = max(member.flaps, member.flapping)
    return {**shown, "flapping": times} if times else shown
