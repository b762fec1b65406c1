"""People of a rules file: how each is reached, when only what is urgent may reach them, and at most how often."""

from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec

from streams.records import Severity
from streams.rules_channels import CHANNELS, NOT_YET
from streams.rules_files import Reader
from streams.rules_limits import RateLimit, rate_limit_of
from streams.rules_receivers import Receiver, integrations_of
from streams.rules_times import DAY_MINUTES, HOUR_MINUTES, LOCAL, location_of, minutes_of, weekday_of
from streams.rules_yaml import Node

MARK: Final = "@"
"""A person is told as the receiver of this and the person's name."""
_PERSON: Final = frozenset({"time_zone", "quiet_hours", "pierced_by", "rate_limit"})
_QUIET: Final = frozenset({"from", "until", "weekdays"})
_QUIET_AS: Final = 'write it like {from: "22:00", until: "07:00"}'
_CHAINED: Final = 14
"""Quiet hours that follow each other without a gap are followed so far; somebody may always be quiet."""


class QuietHours(msgspec.Struct, frozen=True):
    """From one minute of the day until another, on the next day where that is not later.

    `weekdays` are those on which it begins, from Sunday = 0, both ends included; None means every day.
    """

    start: int
    end: int
    weekdays: tuple[tuple[int, int], ...] | None = None

    def around(self, now: datetime, zone: ZoneInfo) -> datetime | None:
        """When the quiet that `now` falls into ends, in UTC; None when it falls into none.

        An end that the clock shows twice is the later one, and one that it leaps over is as long after the leap.
        """
        today = now.astimezone(zone).date()
        for day in (today - timedelta(days=1), today):
            if self.weekdays is not None and not any(
                first <= day.isoweekday() % 7 <= last for first, last in self.weekdays
            ):
                continue
            ends_on = day if self.end > self.start else day + timedelta(days=1)
            begins = _moment(datetime.combine(day, time()), self.start, zone, fold=0)
            ends = max(_moment(datetime.combine(ends_on, time()), self.end, zone, fold=fold) for fold in (0, 1))
            if begins <= now < ends:
                return ends
        return None


class Person(msgspec.Struct, frozen=True):
    """Somebody who can be told. `receiver` has their contact methods and the name under which notices go to them.

    What is `pierced_by` or worse reaches them in quiet hours too.
    """

    name: str
    receiver: Receiver
    time_zone: str = "UTC"
    quiet_hours: tuple[QuietHours, ...] = ()
    pierced_by: Severity = Severity.CRITICAL
    rate_limit: RateLimit | None = None

    def quiet_until(self, now: datetime, severity: Severity) -> datetime | None:
        """When they may be told of something that severe; None: now."""
        if severity.rank <= self.pierced_by.rank or not self.quiet_hours:
            return None
        zone, until = ZoneInfo(self.time_zone), now
        for _ in range(_CHAINED):
            ends = max((end for one in self.quiet_hours if (end := one.around(until, zone))), default=None)
            if ends is None:
                break
            until = ends
        return until if until > now else None


def people_of(
    node: Node | None, receivers: Mapping[str, Receiver], shared: dict[str, Any], reader: Reader
) -> dict[str, Person]:
    """Read `people`; `shared` is what `global` says, `receivers` are those of the file."""
    people: dict[str, Person] = {}
    for name, entry in node.entries().items() if node is not None else ():
        people[name] = Person(name, Receiver(MARK + name, ()))  # there, whatever else is wrong
        with reader.problems.noted():
            if MARK + name in receivers:
                raise entry.error(f"a receiver is named {MARK + name!r}, as this person would be", "rename one of them")
            people[name] = _person(name, entry, shared, reader)
    return people


def _person(name: str, node: Node, shared: dict[str, Any], reader: Reader) -> Person:
    fields = node.fields({*_PERSON, *CHANNELS}, NOT_YET)
    ways = {key: value for key, value in fields.items() if key in CHANNELS}
    if not ways:
        remedy = "give it `email_configs`, `slack_configs` or another channel, as a receiver has them"
        raise node.error("has no contact method: nobody would be told", remedy)
    quiet: list[QuietHours] = []
    for item in fields["quiet_hours"].items() if "quiet_hours" in fields else ():
        with reader.problems.noted():
            quiet.append(_quiet(item))
    if "pierced_by" in fields and not quiet:
        raise fields["pierced_by"].error("there are no quiet hours to pierce", "give it `quiet_hours`, or leave it out")
    return Person(
        name,
        Receiver(MARK + name, tuple(integrations_of(ways, shared, reader))),
        _zone(fields["time_zone"]) if "time_zone" in fields else "UTC",
        tuple(quiet),
        severity_of(fields["pierced_by"]) if "pierced_by" in fields else Severity.CRITICAL,
        rate_limit_of(fields["rate_limit"]) if "rate_limit" in fields else None,
    )


def _zone(node: Node) -> str:
    name = location_of(node)
    if name == LOCAL:
        raise node.error("would be the zone of whatever machine asks", "write it like Europe/Berlin")
    return name


def _quiet(node: Node) -> QuietHours:
    fields = node.fields(_QUIET)
    for key in ("from", "until"):
        if key not in fields:
            raise node.error(f"has no {key}", _QUIET_AS)
    start, end = minutes_of(fields["from"]), minutes_of(fields["until"])
    if start in {end, DAY_MINUTES}:
        raise node.error("begins when it ends", 'write {from: "00:00", until: "24:00"} for whole days')
    weekdays = tuple(weekday_of(item) for item in fields["weekdays"].items()) if "weekdays" in fields else None
    return QuietHours(start, end, weekdays)


def severity_of(node: Node) -> Severity:
    """One of our severities."""
    try:
        return Severity(node.text())
    except ValueError as error:
        raise node.error(f"{node.text()!r} is not a severity", f"use {', '.join(Severity)}") from error


def _moment(midnight: datetime, minutes: int, zone: ZoneInfo, *, fold: int) -> datetime:
    """What the clock of the zone shows so many minutes into a day, in UTC."""
    days, rest = divmod(minutes, DAY_MINUTES)
    shown = datetime.combine(
        midnight.date() + timedelta(days=days), time(rest // HOUR_MINUTES, rest % HOUR_MINUTES, fold=fold), zone
    )
    return shown.astimezone(UTC)
