"""Which time intervals keep a route closed: pure (Alertmanager's `notify/mute.go`)."""

from collections.abc import Mapping
from datetime import datetime

from streams.rules_routes import Route
from streams.rules_times import TimeInterval


def closed_by(intervals: Mapping[str, TimeInterval], route: Route, now: datetime) -> tuple[str, ...]:
    """Names of the intervals it must not be in and is, and of all it must be in one of and is in none; sorted.

    A route of former rules may name intervals that are gone: they close nothing.
    """
    muting = [name for name in route.mute_time_intervals if _contains(intervals, name, now)]
    active = [name for name in route.active_time_intervals if name in intervals]
    outside = [] if any(_contains(intervals, name, now) for name in active) else active
    return tuple(sorted({*muting, *outside}))


def _contains(intervals: Mapping[str, TimeInterval], name: str, now: datetime) -> bool:
    return name in intervals and intervals[name].contains(now)
