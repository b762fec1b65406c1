"""What may be sent now under a receiver's limit, what waits, and what is told by a digest: pure."""

from collections.abc import Hashable, Sequence
from datetime import timedelta
from typing import Final, Generic, TypeVar

import msgspec

STALE: Final = timedelta(minutes=10)
"""A notice that waited so long for a target that was away is told by a digest when it is back, unless critical."""
_SHARE: Final = 4  # digests of one integration within the limit's time, at most
_LONGEST: Final = timedelta(minutes=5)

T = TypeVar("T")


class Waiting(msgspec.Struct, Generic[T], frozen=True):
    """One task of a limited receiver; 0 is the most urgent, `was_over` says that it was over the limit before."""

    task: T
    integration: Hashable
    urgency: int
    was_over: bool


class Admission(msgspec.Struct, Generic[T], frozen=True):
    """`send` goes now; each list in `fold` becomes one digest, with what else waits; `hold` waits."""

    send: tuple[T, ...]
    fold: tuple[tuple[T, ...], ...]
    hold: tuple[T, ...]


def wanted(waiting: Sequence[Waiting[T]]) -> int:
    """Tokens that would let everything pass: what was over the limit needs one for each integration."""
    return len([one for one in waiting if not one.was_over]) + len({one.integration for one in waiting if one.was_over})


def admit(waiting: Sequence[Waiting[T]], granted: int) -> Admission[T]:
    """Spend the tokens: on what is critical and new, then on digests, then on the rest by urgency."""
    fresh = sorted((one for one in waiting if not one.was_over), key=lambda one: one.urgency)
    over: dict[Hashable, list[T]] = {}
    for one in waiting:
        if one.was_over:
            over.setdefault(one.integration, []).append(one.task)
    critical = [one.task for one in fresh if one.urgency == 0]
    send, left = critical[:granted], max(0, granted - len(critical))
    folds = [tuple(tasks) for tasks in over.values()]
    fold, left_after = folds[:left], max(0, left - len(folds))
    others = [one.task for one in fresh if one.urgency > 0]
    hold = [*critical[granted:], *(task for tasks in folds[left:] for task in tasks), *others[left_after:]]
    return Admission((*send, *others[:left_after]), tuple(fold), tuple(hold))


def pause(next_token: timedelta, per: timedelta) -> timedelta:
    """How long what is over the limit waits: until a token, and long enough that a digest is worth it."""
    return max(next_token, min(per / _SHARE, _LONGEST))
