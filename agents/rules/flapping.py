"""Alerts that fire again and again within a short while: which of their changes are told. Pure.

A refiring within the window after the end before it prolongs an episode. Of an
episode the second refiring is told, the fourth, the eighth and so on, so the
notices grow with its logarithm; and once an alert has kept its state for the
window, that state is told if it is another one than was told last.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from agents.rules.group_state import Member

QUIET: Final = 2
"""Refirings of an episode from which on not every change is told."""


def is_flapping(member: Member) -> bool:
    """Whether the member is in an episode, between two of its milestones."""
    return QUIET <= member.flapping < max(QUIET, 2 * member.told_flapping)


def damped(members: Iterable[Member], now: datetime, window: timedelta) -> frozenset[str]:
    """Identities whose present state is not told yet: it has not lasted for the window."""
    return frozenset(
        member.identity
        for member in members
        if is_flapping(member) and member.moved_at is not None and now - member.moved_at < window
    )
