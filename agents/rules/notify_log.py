"""Whether an integration must be told, from what it was told before.

The rules are Alertmanager's (`notify/dedup_stage.go`, `nflog/nflog.go`); the
log is written only after a success, for each integration by itself. Beyond
them, an entry keeps what it owes: firings that were told and whose end was not.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, TypeVar

import msgspec

RETENTION: Final = timedelta(hours=120)
"""The longest that an entry counts; a longer repeat_interval therefore repeats after this."""
MAINTENANCE: Final = timedelta(minutes=15)
"""Alertmanager clears its log at intervals: an entry that has run out counts until then."""

UNDER_WAY: Final = 8
"""Tasks for one integration whose outcome is waited for at a time."""


class Reason(StrEnum):
    """Why a notice is made."""

    FIRST = "first firing"
    NEW_ALERTS = "new alerts"
    ALL_RESOLVED = "all resolved"
    SOME_RESOLVED = "some resolved"
    REPEAT = "repeat interval passed"
    MISSED = "it ended before it could be told"
    SILENCE_ENDS = "a silence of it ends soon"


class Told(msgspec.Struct, frozen=True, array_like=True):
    """What one integration was told last, and when; `owed` are firings whose end it has still to hear."""

    firing: tuple[str, ...]
    resolved: tuple[str, ...]
    at: datetime
    owed: tuple[str, ...] = ()


class Pending(msgspec.Struct, frozen=True, array_like=True):
    """What a task that has no outcome yet is telling; `earlier` tasks, oldest first, have none yet either.

    Only escalation tells somebody again who has not been reached yet.
    """

    decision: int
    task_id: str
    firing: tuple[str, ...]
    resolved: tuple[str, ...]
    at: datetime
    earlier: tuple["Pending", ...] = ()

    @property
    def under_way(self) -> tuple["Pending", ...]:
        """It and those before it, each by itself."""
        return (*self.earlier, msgspec.structs.replace(self, earlier=()))

    @property
    def all_firing(self) -> tuple[str, ...]:
        """The firings that any of them tells of."""
        return tuple(name for one in self.under_way for name in one.firing)


Entry = TypeVar("Entry", Told, Pending)


def without(entry: Entry, identity: str, *, owing: bool = False) -> Entry:
    """The entry as if nothing had been said of an alert that has left; `owing`: save that its end is still to tell."""
    kept = _not_of(entry.firing, {identity})
    if isinstance(entry, Told):
        owed = entry.owed if owing else _not_of(entry.owed, {identity})
        return msgspec.structs.replace(entry, firing=kept, owed=owed)
    earlier = tuple(without(one, identity) for one in entry.earlier)
    return entry if owing else msgspec.structs.replace(entry, firing=kept, earlier=earlier)


def together(tasks: Sequence[Pending]) -> Pending:
    """Tasks under way for one integration, oldest first, as its entry; of a great many the first are forgotten."""
    return msgspec.structs.replace(tasks[-1], earlier=tuple(tasks[-UNDER_WAY:-1]))


def told_of(before: Told | None, sent: Pending, at: datetime) -> Told:
    """The entry after a success: a new occurrence takes the place of an earlier one of the same alert."""
    named = {_identity(name) for name in (*sent.firing, *sent.resolved)}
    owed = (*_not_of(before.owed if before is not None else (), named), *sent.firing)
    return Told(sent.firing, sent.resolved, at, tuple(sorted(owed)))


def in_force(entry: Told | None, repeat_interval: timedelta | None, now: datetime) -> Told | None:
    """The entry as it counts now: it lives for twice the repeat interval and no longer than the retention.

    Where nothing is to be repeated (None) it lives on.
    """
    if entry is None or repeat_interval is None or now <= entry.at + min(RETENTION, 2 * repeat_interval) + MAINTENANCE:
        return entry
    return Told((), (), entry.at, entry.owed) if entry.owed else None


def why_notify(
    told: Told | None,
    *,
    firing: Collection[str],
    resolved: Collection[str],
    send_resolved: bool,
    repeat_interval: timedelta | None,
    now: datetime,
) -> Reason | None:
    """The reason to tell, or None. A recovery nobody heard of is never announced."""
    if told is None:
        return Reason.FIRST if firing else None
    if not set(firing) <= set(told.firing):
        return Reason.NEW_ALERTS if told.firing else Reason.FIRST
    if not firing:
        return Reason.ALL_RESOLVED if told.firing or not set(told.owed).isdisjoint(resolved) else None
    if send_resolved and not set(resolved) <= set(told.resolved):
        return Reason.SOME_RESOLVED
    return Reason.REPEAT if repeat_interval is not None and told.at < now - repeat_interval else None


def told_name(names: Iterable[str], identity: str) -> str:
    """Under which name an alert is among these; empty when it is not."""
    return next((name for name in names if _identity(name) == identity), "")


def identities(names: Iterable[str]) -> set[str]:
    """The alerts that are named, whatever their occurrence: who heard of a firing is owed the end of the last one."""
    return {_identity(name) for name in names}


def _not_of(names: Iterable[str], identities: Collection[str]) -> tuple[str, ...]:
    return tuple(name for name in names if _identity(name) not in identities)


def _identity(name: str) -> str:
    return name.partition(":")[0]
