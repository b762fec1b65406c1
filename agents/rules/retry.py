"""When a notice is tried again, and when it is given up: pure."""

import random
import uuid
from datetime import timedelta
from typing import Final

from sinks.outcome import Failed, Reason, RetryLater

FIRST: Final = timedelta(seconds=1)
CAP: Final = timedelta(seconds=60)
LEAST: Final = timedelta(milliseconds=100)
LONGEST_WISH: Final = timedelta(hours=1)


def after(
    outcome: RetryLater, task_id: uuid.UUID, attempt: int, age: timedelta, max_age: timedelta
) -> timedelta | Failed:
    """How long to wait before the next attempt, or that there is none.

    `attempt` is the one that just ended, from 1; `age` is since the task was
    made. What the target asked for is honoured up to an hour.
    """
    delay = max(backoff(task_id, attempt), min(outcome.after or LEAST, LONGEST_WISH))
    if age + delay > max_age:
        return Failed(Reason.EXPIRED, f"{outcome.reason}: {outcome.detail}")
    return delay


def backoff(task_id: uuid.UUID, attempt: int) -> timedelta:
    """Exponential with full jitter; the same for the same task and attempt, so a replay agrees."""
    ceiling = min(FIRST * (1 << min(attempt - 1, 10)), CAP)
    share = random.Random(f"{task_id}/{attempt}").random()  # noqa: S311 - jitter, not a secret
    return max(LEAST, ceiling * share)
