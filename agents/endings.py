"""How sends ended, as what is written down: pure."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from agents.rules import retry
from sinks.outcome import Failed, Outcome, RetryLater, Sent
from sinks.task_rows import Claimed, Ending, Retry

MAX_DETAIL: Final = 500


def written(task: Claimed, outcome: Outcome | None, max_age: timedelta) -> Ending | Retry | Claimed:
    """The row of an outcome; the task itself when it was never tried."""
    if outcome is None:
        return task
    delay: timedelta | Failed | None = None
    if isinstance(outcome, RetryLater):
        delay = retry.after(outcome, task.id, task.attempt, task.age, max_age)
    if isinstance(delay, timedelta):
        return Retry(
            id=task.id, attempt=task.attempt, reason=outcome.reason, detail=_clean(outcome.detail), delay=delay
        )
    end = delay or outcome
    state = "sent" if isinstance(end, Sent) else "failed"
    return Ending(id=task.id, attempt=task.attempt, state=state, reason=end.reason, detail=_clean(end.detail))


def memories(done: Sequence[tuple[Claimed, Outcome | None]]) -> list[tuple[Claimed, dict[str, str]]]:
    """What to keep, of each incident and integration the latest; a digest speaks of no one incident."""
    kept = {
        (task.incident_id, task.receiver, task.integration): (task, end.memory)
        for task, end in sorted(done, key=lambda one: one[0].decision)
        if isinstance(end, Sent) and end.memory is not None and task.incident_id is not None
    }
    return list(kept.values())


def _clean(detail: str) -> str:
    """Text that Postgres and a log line can hold."""
    return "".join(letter if letter.isprintable() else " " for letter in detail[:MAX_DETAIL])
