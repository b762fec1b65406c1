"""Whether a target is left alone for a while after it failed again and again: pure."""

from datetime import timedelta
from typing import Final

import msgspec

from agents.rules.retry import LONGEST_WISH
from sinks.outcome import Failed, Outcome, Reason, RetryLater, Sent

THRESHOLD: Final = 5
FIRST: Final = timedelta(seconds=2)
CAP: Final = timedelta(seconds=30)

_SICK: Final = frozenset({Reason.SERVER_ERROR, Reason.TIMEOUT, Reason.NETWORK, Reason.TLS})


class Breaker(msgspec.Struct, frozen=True):
    """One target's failures in a row, and until when (monotonic seconds) it is left alone."""

    failures: int = 0
    closed_at: float = 0.0

    def is_open(self, now: float) -> bool:
        """Whether nothing may be sent now."""
        return now < self.closed_at

    def heard(self, outcome: Outcome, now: float) -> "Breaker":
        """What is known after one more outcome.

        Any answer that speaks of the notice and not of the target counts as health.
        """
        if isinstance(outcome, RetryLater) and outcome.reason is Reason.RATE_LIMITED:
            pause = min(outcome.after or FIRST, LONGEST_WISH)
            return Breaker(self.failures, max(self.closed_at, now + pause.total_seconds()))
        if isinstance(outcome, Sent | Failed) or outcome.reason not in _SICK:
            return Breaker(0, self.closed_at if self.is_open(now) else 0.0)
        failures = self.failures + 1
        if failures < THRESHOLD:
            return Breaker(failures, self.closed_at)
        pause = min(FIRST * (1 << min(failures - THRESHOLD, 10)), CAP)
        return Breaker(failures, max(self.closed_at, now + pause.total_seconds()))
