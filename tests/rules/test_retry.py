"""Retries wait longer and longer, at random but repeatably, and end."""

import uuid
from datetime import timedelta

import pytest

from agents.rules.breaker import THRESHOLD, Breaker
from agents.rules.retry import CAP, LEAST, after, backoff
from sinks.outcome import Failed, Outcome, Reason, RetryLater, Sent

TASK = uuid.UUID(int=7)
DAY = timedelta(days=1)
NETWORK = RetryLater(Reason.NETWORK, "gone")


def test_the_same_attempt_of_the_same_task_waits_the_same() -> None:
    assert backoff(TASK, 3) == backoff(TASK, 3)
    assert backoff(TASK, 3) != backoff(uuid.UUID(int=8), 3)


@pytest.mark.parametrize("attempt", [1, 2, 5, 7, 50, 100_000])
def test_the_wait_grows_with_full_jitter_up_to_a_cap(attempt: int) -> None:
    waits = [backoff(uuid.UUID(int=n), attempt) for n in range(200)]
    ceiling = min(timedelta(seconds=2 ** min(attempt - 1, 20)), CAP)
    assert all(LEAST <= wait <= ceiling for wait in waits)
    assert max(waits) > ceiling * 0.9
    assert min(waits) < ceiling * 0.2


@pytest.mark.parametrize(
    ("wished", "least"), [(None, 0.1), (timedelta(seconds=30), 30), (timedelta(hours=9), 3600), (timedelta(0), 0.1)]
)
def test_what_the_target_asks_for_is_honoured_up_to_an_hour(wished: timedelta | None, least: float) -> None:
    wait = after(RetryLater(Reason.RATE_LIMITED, "", wished), TASK, 1, timedelta(0), DAY)
    assert isinstance(wait, timedelta)
    assert least <= wait.total_seconds() <= max(least, 1)


def test_a_notice_that_grew_too_old_is_given_up_with_its_last_reason() -> None:
    given_up = after(NETWORK, TASK, 9, DAY, DAY)
    assert given_up == Failed(Reason.EXPIRED, "network: gone")


def heard(*outcomes: Outcome, at: float = 0.0) -> Breaker:
    breaker = Breaker()
    for outcome in outcomes:
        breaker = breaker.heard(outcome, at)
    return breaker


@pytest.mark.parametrize(
    ("outcomes", "is_open"),
    [
        ([NETWORK] * (THRESHOLD - 1), False),
        ([NETWORK] * THRESHOLD, True),
        ([NETWORK] * (THRESHOLD - 1) + [Sent(), NETWORK], False),
        ([NETWORK] * (THRESHOLD - 1) + [Failed(Reason.CLIENT_ERROR), NETWORK], False),
        ([RetryLater(Reason.RATE_LIMITED, "", timedelta(seconds=9))], True),
        ([RetryLater(Reason.INTERNAL)] * 20, False),
    ],
)
def test_a_target_that_fails_again_and_again_is_left_alone(outcomes: list[Outcome], is_open: bool) -> None:
    assert heard(*outcomes).is_open(1.0) is is_open


def test_a_target_that_asks_for_a_day_is_tried_again_within_the_hour() -> None:
    breaker = heard(RetryLater(Reason.RATE_LIMITED, "", DAY))
    assert breaker.is_open(3599.0)
    assert not breaker.is_open(3601.0)


def test_a_target_is_tried_again_and_one_more_failure_opens_for_longer() -> None:
    breaker = heard(*[NETWORK] * THRESHOLD)
    assert not breaker.is_open(2.5)
    again = breaker.heard(NETWORK, 2.5)
    assert again.is_open(6.0)
    assert not again.heard(Sent(), 7.0).is_open(7.0)
