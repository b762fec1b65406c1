"""What a flush sends: the notice's stored body and one task for each integration. Pure."""

import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec

from agents.rules.grouping import Notice
from agents.rules.incident import GroupState, Member
from sinks import task_rows
from streams import codec, keys


class Flushed(msgspec.Struct, frozen=True):
    """A group at one flush, and the receiver, of one version of the rules, that is told of it."""

    key: str
    group: GroupState
    receiver: str
    config_version: int
    at: datetime


def body(flushed: Flushed, members: Iterable[Member], page_url: str) -> str:
    """The whole group as its notices tell it: JSON of `sinks.message.NoticeBody`."""
    group = flushed.group
    return codec.to_json(
        {
            "receiver": flushed.receiver,
            "groupKey": flushed.key,
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
            "alerts": [_alert(member) for member in members],
            "externalURL": page_url,
            "truncatedAlerts": 0,
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


def _alert(member: Member) -> dict[str, Any]:
    said = codec.decode_body(member.body)
    return {
        "status": "firing" if member.firing else "resolved",
        "labels": said.labels,
        "annotations": said.annotations or {"summary": said.summary, "description": said.description},
        "startsAt": member.starts_at.isoformat(),
        "endsAt": iso(member.ends_at) or "0001-01-01T00:00:00Z",
        "generatorURL": said.generator_url,
        "fingerprint": member.fingerprint,
    }
