"""When a recurring silence is on: a calendar rule (RFC 5545) read in its time zone, as a bounded list of windows."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from typing import Final
from zoneinfo import ZoneInfo

from dateutil.rrule import rrulestr

from agents.rules.silence import SilenceError, Window
from sinks.silence_rows import Recurrence

MAX_WINDOWS: Final = 500
_FAR: Final = 19 * 400
"""Years by which a rule is moved: the calendar repeats every 400, and the library looks for a day until 9999."""
_LAST_YEAR: Final = 2300
LONGEST: Final = timedelta(days=731)
_DAY: Final = r"[+-]?[1-5]?(MO|TU|WE|TH|FR|SA|SU)"
_NUMBER: Final = r"-?([1-9]|[12]\d|3[01])"
_PARTS: Final = {
    "INTERVAL": r"[1-9]\d{0,2}",
    "COUNT": r"[1-9]\d{0,2}",
    "WKST": r"(MO|TU|WE|TH|FR|SA|SU)",
    "BYDAY": rf"{_DAY}(,{_DAY})*",
    "BYMONTH": r"([1-9]|1[0-2])(,([1-9]|1[0-2]))*",
    "BYMONTHDAY": rf"{_NUMBER}(,{_NUMBER})*",
    "BYSETPOS": rf"{_NUMBER}(,{_NUMBER})*",
}
_ALLOWED: Final = {
    "DAILY": {"INTERVAL", "COUNT", "BYDAY", "BYMONTH"},
    "WEEKLY": {"INTERVAL", "COUNT", "BYDAY", "BYMONTH", "WKST"},
    "MONTHLY": set(_PARTS),
    "YEARLY": set(_PARTS),
}


def windows_of(recurrence: Recurrence, starts_at: datetime, ends_at: datetime) -> tuple[Window, ...]:
    """Every window from the first start on: as long as the first, at the same time of the zone's day.

    Raises:
        SilenceError: the rule or zone is none, never holds, holds too often, or its windows overlap.
    """
    length = ends_at - starts_at
    if recurrence.until.tzinfo is None:
        raise SilenceError("recurrence.until", "needs a time zone")
    if recurrence.until < starts_at:
        raise SilenceError("recurrence.rule", "it never holds before its end")
    if not starts_at.year < _LAST_YEAR or recurrence.until - starts_at > LONGEST:
        raise SilenceError("recurrence.until", f"at most {LONGEST.days} days after the start")
    try:
        zone = ZoneInfo(recurrence.zone)
    except (KeyError, ValueError, OSError) as error:
        raise SilenceError("recurrence.zone", "no such time zone; write one like Europe/Berlin") from error
    first = starts_at.astimezone(zone).replace(tzinfo=None)
    last = recurrence.until.astimezone(zone).replace(tzinfo=None)
    found = islice(_rule(recurrence.rule, _moved(first, _FAR), _moved(last, _FAR)), MAX_WINDOWS + 1)
    starts = [_moved(start, -_FAR) for start in found]
    if not starts:
        raise SilenceError("recurrence.rule", "it never holds before its end")
    if len(starts) > MAX_WINDOWS:
        raise SilenceError("recurrence.until", f"more than {MAX_WINDOWS} windows: end it sooner")
    begun = [start.replace(tzinfo=zone).astimezone(UTC) for start in starts]
    if any(after - before < length for before, after in pairwise(begun)):
        raise SilenceError("endsAt", "each window must end before the next begins")
    return tuple((start, start + length) for start in begun)


def _moved(at: datetime, years: int) -> datetime:
    return at.replace(year=at.year + years)


def _rule(text: str, first: datetime, last: datetime) -> Iterable[datetime]:
    _check(text)
    try:
        return rrulestr(f"{text};UNTIL={last:%Y%m%dT%H%M%S}", dtstart=first, cache=False)
    except ValueError as error:
        raise SilenceError("recurrence.rule", str(error)) from error


def _check(text: str) -> None:
    parts = [part.partition("=")[::2] for part in text.split(";")]
    said = dict(parts)
    frequency = said.pop("FREQ", "")
    if frequency not in _ALLOWED or len(said) + 1 != len(parts):
        raise SilenceError("recurrence.rule", "write it like FREQ=WEEKLY;BYDAY=SU; daily is the most often")
    for name, value in said.items():
        if name not in _ALLOWED[frequency]:
            raise SilenceError("recurrence.rule", f"{name} does not go with {frequency} here")
        if not re.fullmatch(_PARTS[name], value):
            raise SilenceError("recurrence.rule", f"{name}={value} is not understood")
    if frequency == "DAILY" and "INTERVAL" in said and len(said.keys() - {"COUNT"}) > 1:
        raise SilenceError("recurrence.rule", "an INTERVAL of days goes with no other condition")
