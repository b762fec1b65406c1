"""A host is left alone when several of its targets go unanswered, not for the sake of one."""

import time

import pytest

from agents.rules.breaker import THRESHOLD
from agents.targets import DOUBTED_HOST, PER_HOST, Targets
from sinks.outcome import Failed, Outcome, Reason, RetryLater, Sent
from sinks.task_rows import host_of

SILENT = RetryLater(Reason.TIMEOUT, "no answer")


def after(targets: Targets, *heard: tuple[str, Outcome]) -> None:
    for name, outcome in heard:
        target = targets.of(name, "email")
        targets.hold(target)
        targets.heard(target, outcome)
        targets.release(name)


def test_many_addresses_at_a_server_that_hangs_are_left_alone_together() -> None:
    targets = Targets()
    after(targets, *[(f"smtp://relay:25/{n}@example.org", SILENT) for n in range(THRESHOLD)])
    assert list(targets.host_room().closed) == ["relay:25"]
    assert targets.room().closed == []


@pytest.mark.parametrize("answer", [Sent(), Failed(Reason.AUTH), RetryLater(Reason.SERVER_ERROR)])
def test_one_answer_shows_that_the_host_is_there(answer: Outcome) -> None:
    targets = Targets()
    after(targets, *[(f"smtp://relay:25/{n}", SILENT) for n in range(THRESHOLD)], ("smtp://relay:25/last", answer))
    assert targets.host_room().free == {"relay:25": PER_HOST}


def test_one_target_that_hangs_closes_itself_and_not_its_host() -> None:
    targets = Targets()
    after(targets, *[("https://hooks/slow", SILENT)] * (THRESHOLD + 1))
    assert targets.room().closed == ["https://hooks/slow"]
    assert targets.host_room().free == {"hooks": PER_HOST}


def test_a_host_that_begins_to_fail_has_fewer_places() -> None:
    targets = Targets()
    after(targets, ("smtp://relay:25/a", SILENT), ("smtp://relay:25/b", SILENT))
    assert targets.host_room().free == {"relay:25": DOUBTED_HOST}


def test_a_target_that_nothing_is_sent_to_any_more_fails_no_longer() -> None:
    targets = Targets()
    after(targets, ("https://hooks/gone", SILENT))
    now = time.monotonic()
    assert [state.failures for state in targets.news(now)] == [1]
    targets.news(now + 100)
    assert targets.failing() == ["hooks"]
    targets.news(now + 400)
    assert targets.failing() == []


@pytest.mark.parametrize(
    ("target", "host"),
    [("https://a.example/#1", "a.example"), ("smtp://m:25/a@b, c@d", "m:25"), ("http://h", "h"), ("odd", "")],
)
def test_the_host_of_a_target(target: str, host: str) -> None:
    assert host_of(target) == host
