"""What this process knows of each target: its places, its breaker, and how it answered last."""

import time
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

from agents.rules.breaker import Breaker
from sinks.outcome import Outcome, Sent
from sinks.target_rows import TargetState
from streams import metrics

PER_TARGET: Final = 16
TRUSTED: Final = 64
DOUBTED: Final = 4
"""Sends at a time to a target of which nothing is known, that took the last one, or that failed."""


class Target:
    """One target. `held` tasks of it are claimed and not committed."""

    def __init__(self, name: str, channel: str) -> None:
        self.name = name
        self.channel = channel
        self.breaker = Breaker()
        self.held = 0
        self.last_reason = ""
        self.last_sent_at: datetime | None = None
        self.is_new = False  # heard of since it was last written down

    def heard(self, outcome: Outcome) -> None:
        """Note how an attempt ended."""
        self.breaker = self.breaker.heard(outcome, time.monotonic())
        self.last_reason = outcome.reason
        self.is_new = True
        if isinstance(outcome, Sent):
            self.last_sent_at = datetime.now(UTC)

    @property
    def places(self) -> int:
        """How many sends it may have at a time: the more, the better it answers."""
        if self.breaker.failures:
            return DOUBTED
        return TRUSTED if self.last_sent_at is not None else PER_TARGET

    def is_idle(self, now: float) -> bool:
        """Whether nothing would be forgotten with it."""
        return not (self.held or self.is_new or self.breaker.failures or self.breaker.is_open(now))

    def state(self, now: float) -> TargetState:
        """As others may read it."""
        return TargetState(
            target=self.name,
            channel=self.channel,
            failures=self.breaker.failures,
            paused_for=timedelta(seconds=self.breaker.closed_at - now) if self.breaker.is_open(now) else None,
            last_reason=self.last_reason,
            last_sent_at=self.last_sent_at,
        )


class Targets:
    """The targets that this process has to do with."""

    def __init__(self) -> None:
        self._known: dict[str, Target] = {}

    def of(self, name: str, channel: str) -> Target:
        """The target of that name."""
        return self._known.setdefault(name, Target(name, channel))

    def closed(self) -> list[str]:
        """Those that nothing may be claimed for now."""
        now = time.monotonic()
        return [one.name for one in self._known.values() if one.held >= one.places or one.breaker.is_open(now)]

    def free(self) -> dict[str, int]:
        """How many more of each may be claimed."""
        return {one.name: one.places - one.held for one in self._known.values() if one.held < one.places}

    def failing(self) -> list[str]:
        """Hosts of those that failed last, for people."""
        hosts = {urlsplit(one.name).hostname or "?" for one in self._known.values() if one.breaker.failures}
        return sorted(hosts)

    def news(self) -> list[TargetState]:
        """What was heard since this was last asked; what nothing is left to say of is forgotten."""
        now = time.monotonic()
        told = [one for one in self._known.values() if one.is_new]
        for one in told:
            one.is_new = False
        metrics.targets_paused.set(sum(1 for one in self._known.values() if one.breaker.is_open(now)))
        self._known = {name: one for name, one in self._known.items() if not one.is_idle(now)}
        return [one.state(now) for one in told]
