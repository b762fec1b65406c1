"""Which moments a time interval contains."""

import time
from datetime import UTC, datetime

import pytest

from streams.rules_config import ConfigError, TimeInterval, load

FILE = """\
route: {{receiver: a}}
receivers: [{{name: a}}]
time_intervals:
  - name: x
    time_intervals:
      - {window}
"""


def interval(window: str) -> TimeInterval:
    return load(FILE.format(window=window)).time_intervals["x"]


# 2026-02-25 is a Wednesday; February 2026 has 28 days.
@pytest.mark.parametrize(
    ("window", "at", "contains"),
    [
        ("{}", "2026-02-25T12:00", True),
        ("{times: [{start_time: '09:00', end_time: '17:00'}]}", "2026-02-25T09:00", True),
        ("{times: [{start_time: '09:00', end_time: '17:00'}]}", "2026-02-25T08:59", False),
        ("{times: [{start_time: '09:00', end_time: '17:00'}]}", "2026-02-25T17:00", False),
        ("{times: [{start_time: '23:00', end_time: '24:00'}]}", "2026-02-25T23:59", True),
        ("{times: []}", "2026-02-25T12:00", False),
        ("{weekdays: ['monday:friday']}", "2026-02-25T12:00", True),
        ("{weekdays: ['Saturday', 'sunday']}", "2026-02-25T12:00", False),
        ("{weekdays: ['sunday']}", "2026-02-22T12:00", True),
        ("{days_of_month: ['1:5', '25']}", "2026-02-25T12:00", True),
        ("{days_of_month: ['-1']}", "2026-02-28T12:00", True),
        ("{days_of_month: ['-1']}", "2026-02-27T12:00", False),
        ("{days_of_month: ['-3:-1']}", "2026-02-26T00:00", True),
        ("{days_of_month: ['20:31']}", "2026-02-28T12:00", True),
        ("{days_of_month: ['29:31']}", "2026-02-28T12:00", False),
        ("{days_of_month: ['-31:-1']}", "2026-02-01T12:00", True),
        ("{months: ['january:march']}", "2026-02-25T12:00", True),
        ("{months: ['3:12', 'january']}", "2026-02-25T12:00", False),
        ("{years: ['2020:2025', '2027']}", "2026-02-25T12:00", False),
        ("{years: ['2026']}", "2026-02-25T12:00", True),
        ("{weekdays: ['wednesday'], months: ['may']}", "2026-02-25T12:00", False),
        ("{times: [{start_time: '00:00', end_time: '01:00'}], location: Europe/Berlin}", "2026-02-25T23:30", True),
        ("{times: [{start_time: '23:00', end_time: '24:00'}], location: Europe/Berlin}", "2026-02-25T23:30", False),
        ("{weekdays: ['thursday'], location: Australia/Sydney}", "2026-02-25T14:00", True),
    ],
)
def test_a_moment_is_in_an_interval_when_all_that_is_given_holds(window: str, at: str, contains: bool) -> None:
    assert interval(window).contains(datetime.fromisoformat(at).replace(tzinfo=UTC)) is contains


@pytest.mark.parametrize(
    ("window", "field", "reason"),
    [
        ("{times: [{start_time: '9:00', end_time: '17:00'}]}", "times[0].start_time", "not a time of day"),
        ("{times: [{start_time: '24:01', end_time: '17:00'}]}", "times[0].start_time", "not a time of day"),
        ("{times: [{start_time: '17:00', end_time: '09:00'}]}", "times[0]", "not before"),
        ("{times: [{start_time: '17:00'}]}", "times[0]", "needs both"),
        ("{weekdays: ['friday:monday']}", "weekdays[0]", "after its end"),
        ("{weekdays: ['1']}", "weekdays[0]", "not understood"),
        ("{days_of_month: ['0']}", "days_of_month[0]", "does not exist"),
        ("{days_of_month: ['-5:3']}", "days_of_month[0]", "month's end"),
        ("{days_of_month: ['-1:-5']}", "days_of_month[0]", "always comes before"),
        ("{months: ['13']}", "months[0]", "does not exist"),
        ("{months: ['a:b:c']}", "months[0]", "not understood"),
        ("{years: ['2027:2026']}", "years[0]", "after its end"),
        ("{location: Nowhere/Land}", "location", "not a known time zone"),
        ("{location: ../../etc/passwd}", "location", "not a known time zone"),
        ("{hours: []}", "hours", "not a key"),
    ],
)
def test_an_interval_that_is_not_understood_is_refused_with_its_line(window: str, field: str, reason: str) -> None:
    with pytest.raises(ConfigError) as refused:
        interval(window)
    assert reason in refused.value.reason
    assert (refused.value.line, refused.value.field) == (6, f"time_intervals[0].time_intervals[0].{field}")


def test_an_interval_contains_what_any_of_its_windows_contains() -> None:
    both = load(FILE.format(window="{weekdays: [sunday]}\n      - {weekdays: [saturday]}")).time_intervals["x"]
    assert [both.contains(datetime(2026, 2, day, tzinfo=UTC)) for day in (20, 21, 22, 23)] == [False, True, True, False]


def test_local_is_the_zone_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    evening = interval("{times: [{start_time: '20:00', end_time: '21:00'}], location: Local}")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert evening.contains(datetime(2026, 2, 25, 11, 30, tzinfo=UTC))
        assert not evening.contains(datetime(2026, 2, 25, 20, 30, tzinfo=UTC))
    finally:
        monkeypatch.undo()
        time.tzset()
