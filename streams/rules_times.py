"""Time intervals of a rules file: which moments they contain (pure), and how they are written."""

from calendar import monthrange
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from streams.rules_yaml import Node, Problems

_WEEKDAYS: Final = {
    name: number
    for number, name in enumerate(
        ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"),
    )
}
_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        (
            "january", "february", "march", "april", "may", "june", "july", "august", "september", "october",
            "november", "december",
        ),
        start=1,
    )
}  # fmt: skip
_LAST_DAY: Final = 31
_SHORTEST_MONTH: Final = 28
DAY_MINUTES: Final = 24 * 60
HOUR_MINUTES: Final = 60
LOCAL: Final = "Local"
_PART: Final = frozenset({"times", "weekdays", "days_of_month", "months", "years", "location"})

Range = tuple[int, int]


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a time interval: all that is given must hold; None means that it is not given.

    `times` are minutes of the day, the end excluded; the other ranges include both ends. Weekdays count
    from Sunday = 0, negative days from the month's end. `location` is a name of the IANA database, or Local for
    the zone of the machine.
    """

    times: tuple[Range, ...] | None = None
    weekdays: tuple[Range, ...] | None = None
    days_of_month: tuple[Range, ...] | None = None
    months: tuple[Range, ...] | None = None
    years: tuple[Range, ...] | None = None
    location: str = "UTC"

    def contains(self, now: datetime) -> bool:
        """Whether the moment falls into it."""
        local = now.astimezone(_zone(self.location))
        minute = local.hour * HOUR_MINUTES + local.minute
        return (
            (self.times is None or any(start <= minute < end for start, end in self.times))
            and (self.days_of_month is None or _on_day(local, self.days_of_month))
            and _within(local.month, self.months)
            and _within(local.isoweekday() % 7, self.weekdays)
            and _within(local.year, self.years)
        )


class TimeInterval(msgspec.Struct, frozen=True):
    """A named set of windows."""

    name: str
    windows: tuple[Window, ...]

    def contains(self, now: datetime) -> bool:
        """Whether the moment falls into any of its windows."""
        return any(window.contains(now) for window in self.windows)


def time_intervals_of(nodes: list[Node], problems: Problems) -> dict[str, TimeInterval]:
    """Read `time_intervals` and the older `mute_time_intervals`; names are unique over both."""
    found: dict[str, TimeInterval] = {}
    for node in nodes:
        with problems.noted():
            for item in node.items():
                with problems.noted():
                    interval = _interval(item, problems)
                    if interval.name in found:
                        raise item.error(f"{interval.name!r} is the name of two time intervals", "rename one of them")
                    found[interval.name] = interval
    return found


def _interval(node: Node, problems: Problems) -> TimeInterval:
    fields = node.fields({"name", "time_intervals"})
    if "name" not in fields:
        raise node.error("has no name", "give it a `name`")
    windows: list[Window] = []
    for item in fields["time_intervals"].items() if "time_intervals" in fields else []:
        with problems.noted():
            windows.append(_window(item))
    return TimeInterval(fields["name"].filled(), tuple(windows))


def _window(node: Node) -> Window:
    fields = node.fields(_PART)
    return Window(
        times=_each(fields, "times", _clock),
        weekdays=_each(fields, "weekdays", weekday_of),
        days_of_month=_each(fields, "days_of_month", _days),
        months=_each(fields, "months", _month),
        years=_each(fields, "years", _year),
        location=location_of(fields["location"]) if "location" in fields else "UTC",
    )


def _each(fields: dict[str, Node], key: str, read: Callable[[Node], Range]) -> tuple[Range, ...] | None:
    return tuple(read(item) for item in fields[key].items()) if key in fields else None


def _clock(node: Node) -> Range:
    fields = node.fields({"start_time", "end_time"})
    if len(fields) < len(("start_time", "end_time")):
        raise node.error("needs both a start_time and an end_time", "write them like 09:00 and 17:30")
    start, end = minutes_of(fields["start_time"]), minutes_of(fields["end_time"])
    if start >= end:
        raise node.error("the start_time is not before the end_time", "split a span over midnight into two")
    return start, end


def minutes_of(node: Node) -> int:
    """A time of day in minutes, 24:00 included."""
    text = node.text()
    hour, colon, minute = text.partition(":")
    well_formed = colon and len(hour) == len(minute) == 2 and (hour + minute).isdecimal() and text.isascii()  # noqa: PLR2004
    value = int(hour) * HOUR_MINUTES + int(minute) if well_formed else -1
    if value < 0 or int(minute) >= HOUR_MINUTES or value > DAY_MINUTES:
        raise node.error(f"{text!r} is not a time of day", "write it in quotes like '09:30', at most '24:00'")
    return value


def _span(node: Node, number: Callable[[str], int | None], example: str) -> Range:
    text = node.text().lower()
    parts = text.split(":")
    numbers = [value for part in parts if (value := number(part)) is not None]
    if len(numbers) != len(parts) or len(parts) > 2:  # noqa: PLR2004 - a start and an end
        raise node.error(f"{text!r} is not understood", f"write it like {example}")
    return numbers[0], numbers[-1]


def _ordered(node: Node, span: Range) -> Range:
    if span[0] > span[1]:
        raise node.error("its start comes after its end", "write two entries instead")
    return span


def weekday_of(node: Node) -> Range:
    """One weekday or a range of them, from Sunday = 0."""
    return _ordered(node, _span(node, _WEEKDAYS.get, "monday:friday"))


def _month(node: Node) -> Range:
    span = _span(node, lambda part: _MONTHS.get(part, _whole(part)), "june:august or 6:8")
    if not all(1 <= month <= len(_MONTHS) for month in span):
        raise node.error("has a month that does not exist", "use january to december or 1 to 12")
    return _ordered(node, span)


def _year(node: Node) -> Range:
    return _ordered(node, _span(node, _whole, "2026:2027"))


def _days(node: Node) -> Range:
    start, end = _span(node, _whole, "1:5 or -3:-1")
    if not all(1 <= abs(day) <= _LAST_DAY for day in (start, end)):
        raise node.error("has a day that does not exist", "use 1 to 31, or -1 to -31 from the month's end")
    if start < 0 < end:
        raise node.error("starts at the month's end and ends at a day from its start", "make both negative")
    least = [_SHORTEST_MONTH + day if day < 0 else day for day in (start, end)]
    if least[0] > least[1]:
        raise node.error("its end always comes before its start", "swap them")
    return start, end


def _whole(text: str) -> int | None:
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdecimal() and len(digits) <= 4 else None  # noqa: PLR2004 - a year


def location_of(node: Node) -> str:
    """The name of a time zone that is known."""
    name = node.filled()
    try:
        _zone(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise node.error(f"{name!r} is not a known time zone", "write it like Europe/Berlin") from error
    return name


def _zone(name: str) -> tzinfo | None:
    if name == LOCAL:
        return None  # the process's own, as astimezone takes it
    return UTC if name == "UTC" else ZoneInfo(name)


def _within(value: int, ranges: tuple[Range, ...] | None) -> bool:
    return ranges is None or any(start <= value <= end for start, end in ranges)


def _on_day(local: datetime, ranges: tuple[Range, ...]) -> bool:
    """Days past the month's end are clamped to it; a range that begins past it contains nothing."""
    last = monthrange(local.year, local.month)[1]
    for span in ranges:
        start, end = (last + day + 1 if day < 0 else day for day in span)
        if start <= last and max(start, -last) <= local.day <= min(end, last):
            return True
    return False
