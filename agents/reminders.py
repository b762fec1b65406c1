"""A silence is about to end: what the groups that it mutes are told, and whom. Pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

import msgspec

from agents import notices
from agents.flushes import Decision
from agents.rules.group_state import GroupState, Member
from agents.rules.grouping import Notice, integration_key
from agents.rules.incident import Event
from agents.rules.notify_log import Reason
from sinks import task_rows
from streams.records import Silence
from streams.rules_config import Receiver

NOTICES: Final = 20
"""Groups of one partition whose receivers are told of one silence; the others only have it in their story."""


class Reminded(NamedTuple):
    """A group after it was reminded: its rows, and lines for the story."""

    group: GroupState
    notices: tuple[task_rows.Notice, ...]
    tasks: tuple[task_rows.Task, ...]
    event: Event
    decision: Decision


def muted_by(group: GroupState, silence: Silence) -> list[str]:
    """Identities that the silence muted at the last flush; nothing of a group whose incident is over."""
    if not group.active:
        return []
    return [identity for identity, by in group.suppressed.items() if silence.id in by]


def remind(
    key: str, group: GroupState, members: Sequence[Member], silence: Silence, receiver: Receiver, *,
    config_version: int, now: datetime, page_url: str,
) -> Reminded:  # fmt: skip
    """Say it of one group, to every integration of the receiver; what each was told of the alerts stays as it is."""
    until = silence.windows[-1][1]
    after = msgspec.structs.replace(group, revision=group.revision + 1, updated_at=now)
    flushed = notices.Flushed(key, after, receiver.name, config_version, now)
    text = notices.body(flushed, members, page_url)
    made = []
    for integration in receiver.integrations:
        after = msgspec.structs.replace(after, decision=after.decision + 1)
        notice = Notice(receiver.name, integration, after.decision, Reason.SILENCE_ENDS, tuple(members))
        made.append(notices.task(flushed, notice, text))
    to = ", ".join(integration_key(receiver.name, integration) for integration in receiver.integrations)
    detail: dict[str, object] = {
        "silence": silence.id, "comment": silence.comment, "ends_at": until.isoformat(), "to": to,
    }  # fmt: skip
    return Reminded(
        after,
        tuple(row for row, _ in made),
        tuple(task for _, task in made),
        Event("silence ends soon", detail),
        Decision("waiting until", f"silence {silence.id} ends at {until:%Y-%m-%d %H:%M} UTC", detail),
    )
