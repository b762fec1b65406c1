"""A calendar rule becomes windows at the zone's own hours, and never many or for ever."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from agents.rules.silence import SilenceError
from sinks.silence_rows import Recurrence
from web.recurrence import MAX_WINDOWS, windows_of

SUNDAY = datetime(2026, 3, 22, 1, 0, tzinfo=UTC)  # a week before clocks change in Berlin


def windows(rule: str, *, days: float = 30, zone: str = "UTC", hours: float = 2) -> list[datetime]:
    recurrence = Recurrence(rule=rule, zone=zone, until=SUNDAY + timedelta(days=days))
    found = windows_of(recurrence, SUNDAY, SUNDAY + timedelta(hours=hours))
    assert all(end - start == timedelta(hours=hours) for start, end in found)
    return [start for start, _ in found]


def test_the_same_hour_of_the_zone_each_week_whatever_the_clocks_do() -> None:
    assert [at.isoformat()[5:16] for at in windows("FREQ=WEEKLY;BYDAY=SU", zone="Europe/Berlin")] == [
        "03-22T01:00", "03-29T01:00", "04-05T00:00", "04-12T00:00", "04-19T00:00",
    ]  # fmt: skip


def test_the_last_sunday_of_each_month() -> None:
    assert [at.date().isoformat() for at in windows("FREQ=MONTHLY;BYDAY=-1SU", days=100)] == [
        "2026-03-29", "2026-04-26", "2026-05-31", "2026-06-28",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "days", "field"),
    [
        ("FREQ=HOURLY", 30, "recurrence.rule"),
        ("FREQ=DAILY;COUNT=2;COUNT=3", 30, "recurrence.rule"),
        ("FREQ=DAILY;UNTIL=20300101T000000Z", 30, "recurrence.rule"),
        ("FREQ=DAILY;INTERVAL=0", 30, "recurrence.rule"),
        ("FREQ=DAILY;INTERVAL=7;BYDAY=MO", 30, "recurrence.rule"),
        ("FREQ=WEEKLY;BYMONTHDAY=30", 30, "recurrence.rule"),
        ("FREQ=YEARLY;BYMONTH=13", 30, "recurrence.rule"),
        ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", 30, "recurrence.rule"),
        ("FREQ=MONTHLY;BYSETPOS=31", 30, "recurrence.rule"),
        ("RDATE=20260101", 30, "recurrence.rule"),
        ("", 30, "recurrence.rule"),
        ("FREQ=DAILY", 800, "recurrence.until"),
        ("FREQ=DAILY", 600, "recurrence.until"),
        ("FREQ=DAILY", -1, "recurrence.rule"),
    ],
)
def test_what_is_no_bounded_rule_is_refused_in_a_moment(rule: str, days: float, field: str) -> None:
    began = time.process_time()
    with pytest.raises(SilenceError) as refused:
        windows(rule, days=days)
    assert refused.value.field == field
    assert time.process_time() - began < 1


def test_windows_must_not_overlap() -> None:
    with pytest.raises(SilenceError, match="before the next begins"):
        windows("FREQ=DAILY", hours=25)
    assert len(windows("FREQ=DAILY", hours=24, days=MAX_WINDOWS - 1)) == MAX_WINDOWS
