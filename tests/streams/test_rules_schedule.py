"""When slots come, across changed clocks, and what becomes of those that were missed."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.rules_schedule import Due, Missed, ScheduleError, check, due, next_slot

BERLIN = "Europe/Berlin"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def slots(expression: str, zone: str, start: str, end: str) -> list[str]:
    found, now = [], at(start)
    while (now := next_slot(expression, zone, now)) <= at(end):
        found.append(f"{now:%d %H:%M}")
    return found


@pytest.mark.parametrize(
    ("expression", "start", "end", "expected"),
    [
        pytest.param(
            "30 2 * * *", "2026-03-27T12:00", "2026-03-30T12:00", ["28 01:30", "29 01:00", "30 00:30"],
            id="a time that does not exist comes at the first moment after the gap",
        ),
        pytest.param(
            "30 2 * * *", "2026-10-23T12:00", "2026-10-26T12:00", ["24 00:30", "25 00:30", "26 01:30"],
            id="a time that exists twice comes once, the first time",
        ),
        pytest.param(
            "30 2,3 * * *", "2026-03-28T12:00", "2026-03-29T12:00", ["29 01:00", "29 01:30"],
            id="what was in the gap does not push out what follows",
        ),
        pytest.param(
            "30 * * * *", "2026-10-24T23:45", "2026-10-25T02:45", ["25 00:30", "25 01:30", "25 02:30"],
            id="every hour goes by elapsed time where an hour comes twice",
        ),
        pytest.param(
            "*/20 * * * *", "2026-03-29T00:30", "2026-03-29T01:30", ["29 00:40", "29 01:00", "29 01:20"],
            id="every 20 minutes goes on over the gap",
        ),
        pytest.param(
            "0 0 * * *", "2026-03-28T12:00", "2026-03-30T12:00", ["28 23:00", "29 22:00"],
            id="midnight stays midnight",
        ),
    ],
)  # fmt: skip
def test_slots_where_clocks_change(expression: str, start: str, end: str, expected: list[str]) -> None:
    assert slots(expression, BERLIN, start, end) == expected


def test_asking_within_the_second_half_of_a_doubled_hour_gives_the_next_day() -> None:
    again = at("2026-10-25T01:10")  # 02:10 in Berlin, for the second time
    assert next_slot("30 2 * * *", BERLIN, again) == at("2026-10-26T01:30")


@pytest.mark.parametrize(
    ("expression", "zone", "field"),
    [
        ("* * * *", "UTC", "schedule"),
        ("* * * * * *", "UTC", "schedule"),
        ("61 * * * *", "UTC", "schedule"),
        ("0 0 31 2 *", "UTC", "schedule"),
        ("", "UTC", "schedule"),
        ("5-1 * * * *", "UTC", "schedule"),
        ("0 0 * * 9#1", "UTC", "schedule"),
        ("* " * 300, "UTC", "schedule"),
        ("* * * * *", "Mars/Olympus", "zone"),
        ("* * * * *", "../etc/passwd", "zone"),
        ("* * * * *", "", "zone"),
    ],
)
def test_what_cannot_be_a_schedule_is_refused_by_field(expression: str, zone: str, field: str) -> None:
    with pytest.raises(ScheduleError) as refused:
        check(expression, zone)
    assert refused.value.field == field


NOON = at("2026-05-05T12:00")


@pytest.mark.parametrize(
    ("late", "policy", "expected"),
    [
        pytest.param(
            timedelta(seconds=1), Missed.SKIP, Due(NOON, None, 0, NOON + timedelta(hours=1)), id="in time: it runs"
        ),
        pytest.param(
            timedelta(minutes=5), Missed.SKIP, Due(None, NOON, 1, NOON + timedelta(hours=1)),
            id="late: it is left out",
        ),
        pytest.param(
            timedelta(minutes=5), Missed.RUN_ONCE, Due(NOON, None, 1, NOON + timedelta(hours=1)),
            id="late: it runs all the same",
        ),
        pytest.param(
            timedelta(hours=5, minutes=30), Missed.RUN_ONCE,
            Due(NOON + timedelta(hours=5), None, 6, NOON + timedelta(hours=6)),
            id="many were missed: the last of them runs, once",
        ),
        pytest.param(
            timedelta(hours=5, minutes=30), Missed.SKIP,
            Due(None, NOON + timedelta(hours=5), 6, NOON + timedelta(hours=6)),
            id="many were missed: none runs",
        ),
        pytest.param(
            timedelta(hours=5, seconds=1), Missed.SKIP,
            Due(NOON + timedelta(hours=5), None, 5, NOON + timedelta(hours=6)),
            id="many were missed, and one has come just now: that one runs",
        ),
    ],
)  # fmt: skip
def test_missed_slots_follow_the_policy(late: timedelta, policy: Missed, expected: Due) -> None:
    assert due("0 * * * *", "UTC", NOON, NOON + late, policy) == expected


def test_a_year_of_missed_minutes_is_counted_within_bounds_and_left_behind() -> None:
    judged = due("* * * * *", "UTC", NOON, NOON + timedelta(days=365), Missed.RUN_ONCE)
    assert judged.run is not None
    assert judged.next_at > NOON + timedelta(days=365)


FIELD = st.sampled_from(["*", "*/7", "0", "30", "1,2", "2-3"])
MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2027, 1, 1))  # noqa: DTZ001 - hypothesis wants naive ones


@given(FIELD, FIELD, MOMENTS, st.sampled_from([BERLIN, "UTC", "Australia/Lord_Howe", "America/St_Johns"]))
def test_slots_always_move_on(minute: str, hour: str, moment: datetime, zone: str) -> None:
    if hour == "30":
        hour = "3"
    now = moment.replace(tzinfo=UTC)
    found = [now]
    for _ in range(5):
        found.append(next_slot(f"{minute} {hour} * * *", zone, found[-1]))
    assert all(before < after for before, after in pairwise(found))
