"""Go's time.Time and time.Duration: their methods, layouts and texts.

Layouts are those of Go's package `time`: a layout shows how the reference time
Mon Jan 2 15:04:05 MST 2006 would be written.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from sinks.gotemplate.errors import ValueProblemError
from sinks.gotemplate.values import Method, Month, Struct, Weekday

_NANO: Final = 1_000_000_000
_UNITS: Final = (("h", 3600 * _NANO), ("m", 60 * _NANO), ("s", _NANO))
_LAYOUT: Final = re.compile(
    r"January|Jan|Monday|Mon|MST|2006|-07:00:00|-070000|-07:00|-0700|-07|Z07:00:00|Z070000|Z07:00|Z0700|Z07"
    r"|__2|_2006|_2|002|01|02|03|04|05|06|15|1|2|3|4|5|PM|pm|[.,]0+(?!\d)|[.,]9+(?!\d)"
)
_LONGEST: Final = (1 << 63) - 1
_ZERO: Final = datetime(1, 1, 1, tzinfo=UTC)


class Duration(int, Struct):
    """A length of time in nanoseconds."""

    go_type = "time.Duration"

    def __str__(self) -> str:
        return duration_text(int(self))

    def methods(self) -> dict[str, Method]:
        """The usual ones of time.Duration."""
        return {
            "String": Method(lambda: str(self)),
            "Hours": Method(lambda: _in_units(int(self), 3600 * _NANO)),
            "Minutes": Method(lambda: _in_units(int(self), 60 * _NANO)),
            "Seconds": Method(lambda: _in_units(int(self), _NANO)),
            "Milliseconds": Method(lambda: int(int(self) / 1_000_000)),
            "Nanoseconds": Method(lambda: int(self)),
            "Abs": Method(lambda: Duration(abs(self))),
            "Round": Method(lambda to: Duration(_rounded(int(self), int(to))), ("duration",)),
            "Truncate": Method(lambda to: Duration(_cut(int(self), int(to))), ("duration",)),
        }


class Time(Struct):
    """A moment with its zone, to the microsecond."""

    go_type = "time.Time"
    __slots__ = ("at",)

    def __init__(self, at: datetime) -> None:
        self.at = at

    def __str__(self) -> str:
        return self.text("2006-01-02 15:04:05.999999999 -0700 MST")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Time) and self.at == other.at

    def __hash__(self) -> int:
        return hash(self.at)

    def text(self, layout: str) -> str:
        """The moment as the layout shows it."""
        return _LAYOUT.sub(lambda found: _part(self.at, found.group()), layout)

    def minus(self, other: "Time") -> Duration:
        """How long the other lies before it."""
        return Duration(max(-_LONGEST - 1, min(_nanoseconds(self.at - other.at), _LONGEST)))

    def within(self, zone: str) -> "Time":
        """The same moment in another zone."""
        return Time(self.at.astimezone(UTC if zone in {"", "UTC"} else _zone(zone)))

    def methods(self) -> dict[str, Method]:
        """The usual ones of time.Time."""
        at = self.at
        numbers: dict[str, Callable[[], Any]] = {
            "Year": lambda: at.year,
            "Month": lambda: Month(at.month),
            "Day": lambda: at.day,
            "Hour": lambda: at.hour,
            "Minute": lambda: at.minute,
            "Second": lambda: at.second,
            "Nanosecond": lambda: at.microsecond * 1000,
            "Weekday": lambda: Weekday(at.isoweekday() % 7),
            "YearDay": lambda: at.timetuple().tm_yday,
            "Unix": lambda: _nanoseconds(at - _EPOCH) // _NANO,
            "UnixMilli": lambda: _nanoseconds(at - _EPOCH) // 1_000_000,
            "UnixMicro": lambda: _nanoseconds(at - _EPOCH) // 1_000,
            "UnixNano": lambda: _nanoseconds(at - _EPOCH),
            "IsZero": lambda: at == _ZERO,
            "String": lambda: str(self),
            "UTC": lambda: self.within("UTC"),
            "Local": lambda: self.within("UTC"),
        }
        return {
            **{name: Method(run) for name, run in numbers.items()},
            "Format": Method(self.text, ("string",)),
            "Sub": Method(self.minus, ("time",)),
            "Add": Method(lambda more: Time(_added(at, int(more))), ("duration",)),
            "Before": Method(lambda other: at < other.at, ("time",)),
            "After": Method(lambda other: at > other.at, ("time",)),
            "Equal": Method(lambda other: at == other.at, ("time",)),
        }


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def duration_text(nanoseconds: int) -> str:
    """`1h2m3.5s`, as Go writes it."""
    sign, left = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if not left:
        return "0s"
    if left < _NANO:
        unit, size = next(pair for pair in (("ms", 1_000_000), ("µs", 1_000), ("ns", 1)) if left >= pair[1])
        return f"{sign}{_decimal(left, size)}{unit}"
    hours, left = divmod(left, 3600 * _NANO)
    minutes, left = divmod(left, 60 * _NANO)
    text = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{sign}{text}{_decimal(left, _NANO)}s"


def humanized(seconds: float) -> str:  # noqa: PLR0911 - a size, a line
    """A length of time for people, as Prometheus's `humanizeDuration` writes it."""
    if seconds != seconds or seconds in {float("inf"), float("-inf")}:  # noqa: PLR0124 - NaN
        return {float("inf"): "+Inf", float("-inf"): "-Inf"}.get(seconds, "NaN")
    if seconds == 0:
        return "0s"
    sign, size = ("-", -seconds) if seconds < 0 else ("", seconds)
    if size >= 1:
        whole = int(size)
        days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
        if days:
            return f"{sign}{days}d {hours}h {minutes}m {whole % 60}s"
        if hours:
            return f"{sign}{hours}h {minutes}m {whole % 60}s"
        if minutes:
            return f"{sign}{minutes}m {whole % 60}s"
        return f"{sign}{size:.4g}s"
    prefix = ""
    for letter in "mµnpfazy":
        if size >= 1:
            break
        prefix, size = letter, size * 1000
    return f"{sign}{size:.4g}{prefix}s"


def _decimal(value: int, size: int) -> str:
    whole, rest = divmod(value, size)
    digits = f"{rest:0{len(str(size)) - 1}d}".rstrip("0") if rest else ""
    return f"{whole}.{digits}" if digits else str(whole)


def _part(at: datetime, part: str) -> str:
    if part[0] in ".,":
        digits = f"{at.microsecond * 1000:09d}"[: len(part) - 1]
        shown = digits if part[1] == "0" else digits.rstrip("0")
        return part[0] + shown if shown else ""
    if part[0] in "-Z":
        return _offset(at, part)
    if part == "_2006":
        return f"_{at.year:04d}"
    return _SIMPLE[part](at)


def _hour(at: datetime) -> int:
    return at.hour % 12 or 12


_SIMPLE: Final[dict[str, Callable[[datetime], str]]] = {
    "January": lambda at: str(Month(at.month)),
    "Jan": lambda at: str(Month(at.month))[:3],
    "Monday": lambda at: str(Weekday(at.isoweekday() % 7)),
    "Mon": lambda at: str(Weekday(at.isoweekday() % 7))[:3],
    "MST": lambda at: at.tzname() or "UTC",
    "2006": lambda at: f"{at.year:04d}",
    "06": lambda at: f"{at.year % 100:02d}",
    "01": lambda at: f"{at.month:02d}",
    "1": lambda at: str(at.month),
    "02": lambda at: f"{at.day:02d}",
    "_2": lambda at: f"{at.day:2d}",
    "2": lambda at: str(at.day),
    "002": lambda at: f"{at.timetuple().tm_yday:03d}",
    "__2": lambda at: f"{at.timetuple().tm_yday:3d}",
    "15": lambda at: f"{at.hour:02d}",
    "03": lambda at: f"{_hour(at):02d}",
    "3": lambda at: str(_hour(at)),
    "04": lambda at: f"{at.minute:02d}",
    "4": lambda at: str(at.minute),
    "05": lambda at: f"{at.second:02d}",
    "5": lambda at: str(at.second),
    "PM": lambda at: "PM" if at.hour >= 12 else "AM",  # noqa: PLR2004 - noon
    "pm": lambda at: "pm" if at.hour >= 12 else "am",  # noqa: PLR2004
}


def _offset(at: datetime, part: str) -> str:
    seconds = int((at.utcoffset() or timedelta(0)).total_seconds())
    if part[0] == "Z" and seconds == 0:
        return "Z"
    sign = "-" if seconds < 0 else "+"
    hours, rest = divmod(abs(seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    colon = ":" if ":" in part else ""
    shown = [f"{hours:02d}"]
    pieces = part.replace(":", "")
    if len(pieces) > len("-07"):
        shown.append(f"{minutes:02d}")
    if len(pieces) > len("-0700"):
        shown.append(f"{seconds:02d}")
    return sign + colon.join(shown)


def _in_units(nanoseconds: int, unit: int) -> float:
    whole, rest = divmod(abs(nanoseconds), unit)
    return (whole + rest / unit) * (1 if nanoseconds >= 0 else -1)


def _nanoseconds(delta: timedelta) -> int:
    return (delta.days * 86_400 + delta.seconds) * _NANO + delta.microseconds * 1000


def _added(at: datetime, nanoseconds: int) -> datetime:
    try:
        return at + timedelta(microseconds=nanoseconds // 1000)
    except OverflowError as error:
        raise ValueProblemError("the time is out of range") from error


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:
        raise ValueProblemError(f"unknown time zone {name}") from error


def _cut(value: int, to: int) -> int:
    return value if to <= 0 else value - (abs(value) % to) * (1 if value >= 0 else -1)


def _rounded(value: int, to: int) -> int:
    if to <= 0:
        return value
    sign, size = (-1, -value) if value < 0 else (1, value)
    rest = size % to
    return sign * (size - rest if rest * 2 < to else size - rest + to)
