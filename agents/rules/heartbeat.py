"""Since when one may say that a watched thing is missing. Pure."""

from datetime import datetime, timedelta
from typing import NamedTuple

GAP = timedelta(seconds=15)
"""Looking every second or so, a longer pause means that nobody looked, or that the clock was set."""


class Watch(NamedTuple):
    """Since when beats have been watched without a break; `turned_back` when the clock went back."""

    since_at: datetime
    turned_back: bool


def watched(looked_at: datetime, since_at: datetime, now: datetime) -> Watch:
    """The watch as it goes on.

    After a break nothing is missing before it has had its time again: beats could not be taken, or the clock tells
    nothing of how long they have been away.
    """
    broken = abs(now - looked_at) > GAP
    return Watch(now if broken else since_at, broken and now < looked_at)
