"""What this process knows of each target and of its host: places, breaker, and how it answered last."""

import time
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

from agents.rules.breaker import Breaker
from sinks.outcome import Outcome, Reason, Sent
from sinks.target_rows import TargetState
from sinks.task_rows import Room, host_of
from streams import metrics

PER_TARGET: Final = 16
TRUSTED: Final = 64
DOUBTED: Final = 4
"""Sends at a time to a target of which nothing is known, that took the last one, or that failed."""

_REMEMBERED: Final = 300.0
"""Seconds that failures count after the last one; a notice that is tried again is heard of within a minute."""
PER_HOST: Final = 96
DOUBTED_HOST: Final = 16
"""Sends at a time to all targets of a host, and to those of one that answers none of them."""
_UNANSWERED: Final = frozenset({Reason.TIMEOUT, Reason.NETWORK, Reason.TLS})
_ANSWERED: Final = frozenset(
    {
        Reason.ACCEPTED, Reason.AUTH, Reason.RATE_LIMITED, Reason.CLIENT_ERROR, Reason.SERVER_ERROR, Reason.REDIRECTED,
    }
)  # fmt: skip


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
        self._heard_at = 0.0

    def heard(self, outcome: Outcome, now: float) -> None:
        """Note how an attempt ended."""
        self.breaker = self.breaker.heard(outcome, now)
        self._heard_at = now
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
        """Whether nothing would be forgotten with it that still counts."""
        fails = self.breaker.failures and now - self._heard_at < _REMEMBERED
        return not (self.held or self.is_new or fails or self.breaker.is_open(now))

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


class Host:
    """One host, perhaps of many targets. It is sick when several of them go unanswered, and none is answered."""

    def __init__(self) -> None:
        self.held = 0
        self._breaker = Breaker()
        self._unanswered: set[str] = set()

    def heard(self, target: str, outcome: Outcome, now: float) -> None:
        """Note how an attempt at one of its targets ended."""
        if outcome.reason in _UNANSWERED:
            self._unanswered.add(target)
            self._breaker = self._breaker.heard(outcome, now)
        elif outcome.reason in _ANSWERED:
            self._unanswered.clear()
            self._breaker = Breaker()

    @property
    def is_sick(self) -> bool:
        """Whether it, and not just one of its targets, fails."""
        return len(self._unanswered) > 1

    def free(self, now: float) -> int:
        """How many more sends it may have, at least 0."""
        if self.is_sick and self._breaker.is_open(now):
            return 0
        return max(0, (DOUBTED_HOST if self.is_sick else PER_HOST) - self.held)


class Targets:
    """The targets that this process has to do with."""

    def __init__(self) -> None:
        self._known: dict[str, Target] = {}
        self._hosts: dict[str, Host] = {}

    def of(self, name: str, channel: str) -> Target:
        """The target of that name."""
        return self._known.setdefault(name, Target(name, channel))

    def hold(self, target: Target) -> None:
        """A task of it was claimed."""
        target.held += 1
        self._hosts.setdefault(host_of(target.name), Host()).held += 1

    def release(self, name: str) -> None:
        """A task of the target of that name was committed."""
        self._known[name].held -= 1
        self._hosts[host_of(name)].held -= 1

    def heard(self, target: Target, outcome: Outcome) -> None:
        """Note how an attempt ended."""
        now = time.monotonic()
        target.heard(outcome, now)
        self._hosts[host_of(target.name)].heard(target.name, outcome, now)

    def room(self) -> Room:
        """What may be claimed of each target now."""
        now = time.monotonic()
        free = {one.name: 0 if one.breaker.is_open(now) else one.places - one.held for one in self._known.values()}
        return _room(free, PER_TARGET)

    def host_room(self) -> Room:
        """What may be claimed of each host now."""
        now = time.monotonic()
        return _room({name: host.free(now) for name, host in self._hosts.items()}, PER_HOST)

    def failing(self) -> list[str]:
        """Hosts of those that failed last, for people."""
        hosts = {urlsplit(one.name).hostname or "?" for one in self._known.values() if one.breaker.failures}
        return sorted(hosts)

    def news(self, now: float) -> list[TargetState]:
        """What was heard since this was last asked; what nothing is left to say of is forgotten."""
        told = [one for one in self._known.values() if one.is_new]
        for one in told:
            one.is_new = False
        metrics.targets_failing.set(sum(1 for one in self._known.values() if one.breaker.failures))
        metrics.targets_paused.set(sum(1 for one in self._known.values() if one.breaker.is_open(now)))
        self._known = {name: one for name, one in self._known.items() if not one.is_idle(now)}
        needed = {host_of(name) for name in self._known}
        self._hosts = {name: host for name, host in self._hosts.items() if name in needed}
        return [one.state(now) for one in told]


def _room(free: dict[str, int], usual: int) -> Room:
    return Room(
        closed=[name for name, places in free.items() if places <= 0],
        free={name: places for name, places in free.items() if places > 0},
        usual=usual,
    )
