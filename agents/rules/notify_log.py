"""Whether an integration must be told, from what it was told before.

The rules are Alertmanager's (`notify/dedup_stage.go`, `nflog/nflog.go`); the
log is written only after a success, for each integration by itself.
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeVar

import msgspec


class Reason(StrEnum):
    """Why a notice is made."""

    FIRST = "first firing"
    NEW_ALERTS = "new alerts"
    ALL_RESOLVED = "all resolved"
    SOME_RESOLVED = "some resolved"
    REPEAT = "repeat interval passed"


class Told(msgspec.Struct, frozen=True, array_like=True):
    """What one integration was told last, and when."""

    firing: tuple[str, ...]
    resolved: tuple[str, ...]
    at: datetime


class Pending(msgspec.Struct, frozen=True, array_like=True):
    """What a task that has no outcome yet is telling."""

    decision: int
    task_id: str
    firing: tuple[str, ...]
    resolved: tuple[str, ...]
    at: datetime


Entry = TypeVar("Entry", Told, Pending)


def without(entry: Entry, identity: str) -> Entry:
    """The entry as if nothing had been said of an alert that has left: its end is not this group's to tell."""
    kept = tuple(name for name in entry.firing if name.rpartition(":")[0] != identity)
    return msgspec.structs.replace(entry, firing=kept)


def why_notify(
    told: Told | None,
    *,
    firing: Collection[str],
    resolved: Collection[str],
    send_resolved: bool,
    repeat_interval: timedelta,
    now: datetime,
) -> Reason | None:
    """The reason to tell, or None. A recovery nobody heard of is never announced."""
    if told is None:
        return Reason.FIRST if firing else None
    if not set(firing) <= set(told.firing):
        return Reason.NEW_ALERTS if told.firing else Reason.FIRST
    if not firing:
        return Reason.ALL_RESOLVED if told.firing else None
    if send_resolved and not set(resolved) <= set(told.resolved):
        return Reason.SOME_RESOLVED
    return Reason.REPEAT if told.at < now - repeat_interval else None
