"""Partitions of one topic side by side in time while workers catch up.

After an outage each partition's log is read as fast as it comes, and one that
is read ahead of the others would let an incident hear of an alert before it
hears of what ended in another partition minutes earlier. Kafka Streams takes
the partition with the oldest head first for the same reason; here it is done
once for each step, and only where what waits is old. Workers do so among each
other too: of each, the others know when the oldest record that waits there was
written (`agents.abreast`).

All times are seconds since 1970, records' by the broker's clock.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

from faust.types import EventT

SPAN: Final = 5.0
"""Seconds of the log that a step takes at most while it catches up, and how old what waits is then."""
PATIENCE: Final = 10.0
"""Seconds of waiting that another worker is worth while its oldest record stays the same."""
_TURN: Final = 1.0
"""Seconds between two questions that count as waiting at most: longer is a rebalance, or the process had stopped."""


def oldest_first(events: Sequence[EventT[Any]], now: float) -> tuple[Sequence[EventT[Any]], float]:
    """The events in the order of the broker's time, and until when a step may take them.

    Each partition's own order is kept, whatever the broker's clock did. Where none
    is old they stay as they came, without a limit.
    """
    firsts: dict[int, float] = {}
    for event in events:
        firsts.setdefault(event.message.partition, appended_at(event))
    if not firsts or not is_old(min(firsts.values()), now):
        return events, math.inf
    newest: dict[int, float] = {}
    timed = []
    for event in events:
        number = event.message.partition
        at = newest[number] = max(newest.get(number, 0.0), appended_at(event))
        timed.append((at, event))
    timed.sort(key=itemgetter(0))
    return [event for _, event in timed], timed[0][0] + SPAN


def is_within(event: EventT[Any], until: float) -> bool:
    """Whether a step that ends there may take it."""
    return appended_at(event) <= until


def is_old(written: float, now: float) -> bool:
    """Whether a worker of which a record of that time waits is catching up."""
    return now - written > SPAN


def appended_at(event: EventT[Any]) -> float:
    """When the broker wrote the event's record down."""
    return event.message.timestamp or 0.0


@dataclass
class _Other:
    """Another worker. The numbers are seconds that this one has waited, in all, when something was so."""

    oldest: float
    heard: float
    moved: float
    most: float = 0.0


class Pace:
    """How far one worker may go while others catch up too: no further than `SPAN` after the oldest record of another.

    The worker that has the oldest of all waits for nobody, so one always goes on.
    None waits for one other longer, in all, than its own records were late
    meanwhile: whoever was up to date is not held up by one that is far behind.
    """

    def __init__(self) -> None:
        self.waited = 0.0
        self._since: float | None = None
        self._others: dict[str, _Other] = {}

    def until(self, oldest: float, others: Mapping[str, float] | None, now: float) -> float:
        """Until when a step may take records, where the oldest that waits here was written then.

        `others` says the same of each other worker of which an old record waits; None where that is not known now.
        """
        if self._since is not None:
            self.waited += min(max(0.0, now - self._since), _TURN)
            self._since = None
        if others is not None:
            self._others = {worker: self._heard(worker, at) for worker, at in others.items()}
        until = math.inf
        for other in self._others.values():
            waited = self.waited - other.heard
            other.most = max(other.most, now - oldest - waited)
            if waited < other.most and self.waited - other.moved < PATIENCE:
                until = min(until, other.oldest + SPAN)
        if oldest > until:
            self._since = now
        return until

    def _heard(self, worker: str, oldest: float) -> _Other:
        known = self._others.get(worker)
        if known is None:
            return _Other(oldest, self.waited, self.waited)
        if known.oldest != oldest:
            known.oldest, known.moved = oldest, self.waited
        return known
