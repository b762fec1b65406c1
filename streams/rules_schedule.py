"""When a job is due: cron expressions in a time zone, and what becomes of slots that were missed. Pure.

Where clocks change it follows Debian's cron: a time of day that does not exist comes at the first moment after
the gap, one that exists twice comes once, the first time; what runs every so often (`*` as minute or hour) goes by
elapsed time.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

ON_TIME: Final = timedelta(minutes=2)
"""A slot that is taken up this late is not missed yet."""
MOST_COUNTED: Final = 10_000
_FIELDS: Final = 5
_LONGEST: Final = 200
_EPOCH: Final = datetime(2024, 1, 1, tzinfo=UTC)


class Missed(StrEnum):
    """What becomes of slots for which no worker was there: left out, or done once, however many they are."""

    SKIP = "skip"
    RUN_ONCE = "run_once"


class ScheduleError(ValueError):
    """Raised for an expression or a zone that cannot be used; `field` names which."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class Due(NamedTuple):
    """What to do about a job whose next slot has come.

    `run` is the slot to run, `skipped` the last one that is left out; `missed` counts all that nobody was there for.
    """

    run: datetime | None
    skipped: datetime | None
    missed: int
    next_at: datetime


def check(expression: str, zone: str) -> None:
    """Make sure that a schedule can be used.

    Raises:
        ScheduleError: it cannot.
    """
    next_slot(expression, zone, _EPOCH)


def next_slot(expression: str, zone: str, after: datetime) -> datetime:
    """The first slot after a moment, in UTC.

    Raises:
        ScheduleError: the expression or the zone is none, or it never comes.
    """
    return next(_slots(expression, zone, after))


def due(expression: str, zone: str, next_at: datetime, now: datetime, missed: Missed) -> Due:
    """Judge a job whose slot `next_at` is not later than `now`.

    The last slot runs if it has come just now; older ones are missed. With `Missed.RUN_ONCE` missed slots come to
    one run, of the last of them; with `Missed.SKIP` to none.

    Raises:
        ScheduleError: as `next_slot`.
    """
    count, last = 1, next_at
    for slot in islice(_slots(expression, zone, next_at), MOST_COUNTED):
        if slot > now:
            break
        count, last = count + 1, slot
    following = next_slot(expression, zone, now)
    is_late = now - last > ON_TIME
    over = count if is_late else count - 1
    if not is_late or missed is Missed.RUN_ONCE:
        return Due(last, None, over, following)
    return Due(None, last, over, following)


def _slots(expression: str, zone: str, after: datetime) -> Iterator[datetime]:
    if len(expression) > _LONGEST or len(expression.split()) != _FIELDS:
        raise ScheduleError("schedule", "write five fields: minute hour day month weekday, as 30 2 * * MON")
    try:
        place = ZoneInfo(zone)
    except (KeyError, ValueError, OSError) as error:
        raise ScheduleError("zone", "no such time zone; write one like Europe/Berlin") from error
    try:
        found = CronSim(expression, after.astimezone(place))
    except (CronSimError, AssertionError, ValueError) as error:
        raise ScheduleError("schedule", f"{expression!r} is not understood ({error})") from error
    last = after
    for slot in found:
        at = slot.astimezone(UTC)
        if at > last:  # of an hour that comes twice, and of two times in a gap, only the first
            last = at
            yield at
    raise ScheduleError("schedule", f"{expression!r} never comes")
