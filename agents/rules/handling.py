"""What people, and rules beyond one group, have made of an incident: what alerts leave alone in a group's state."""

from datetime import datetime
from typing import Final

import msgspec

from streams.records import Link, Severity

REMEMBERED: Final = 32
"""Actions of one incident, of those done and of those refused, that are known again when they come twice."""


class Child(msgspec.Struct, frozen=True, array_like=True):
    """An incident that was merged into this one: its group, and the rank of its worst firing alert (-1: none fires).

    `rule` put it there (empty: a person did). `revision` is the child's at its last word.
    """

    group: str
    worst: int
    rule: str = ""
    revision: int = 0


class Handling(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """Everything about an incident that was decided outside its alerts.

    `severity` is there while a person's word counts more than the alerts'.
    `parent_id` names the incident that speaks for this one, of the group
    `parent_group`; `rule` is the rule that put it there (empty: a person did), `parent_since` when that one opened,
    `parent_key` the key of the correlation that decided it, `parent_revision` this one's own revision when it was,
    and `children` are those it speaks for, by id; `gone` are some that it does not, with the revision of their last
    word. `edited` is the revision of the last edit; `actions` and `refused`
    are the ids of the last actions that were done, and were not. `resolved_by` names who resolved it while
    alerts may have fired on (empty: its alerts did). `apart` are incidents that
    it was taken away from, and stays away from.
    """

    assignee: str = ""
    labels: dict[str, str] = {}
    links: tuple[Link, ...] = ()
    severity: Severity | None = None
    snoozed_until: datetime | None = None
    acknowledged_by: str = ""
    resolved_by: str = ""
    parent_id: str = ""
    parent_group: str = ""
    rule: str = ""
    children: dict[str, Child] = {}
    apart: tuple[str, ...] = ()
    by_hand: bool = False
    receiver: str = ""
    edited: int = 0
    actions: tuple[str, ...] = ()
    parent_since: datetime | None = None
    parent_key: str = ""
    parent_revision: int = 0
    gone: dict[str, int] = {}
    refused: tuple[str, ...] = ()


UNTOUCHED: Final = Handling()
